"""The tiny world of the image tests."""

from images.conftest import base, calibration, experts, states  # noqa: F401
