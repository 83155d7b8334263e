"""The mini suite: 20 small tasks at 32 x 32 pixels, drawn on the spot, nested 8 / 14 / 20."""

from __future__ import annotations

from mergebook.suites.base import Suite
from mergebook.suites.mini.tasks import SPECS, make_task

__all__ = ["suite"]


def suite() -> Suite:
    """Return the mini suite; its task order mirrors the CLIP suite's [wang2024localizing]_."""
    return Suite("mini", [make_task(name) for name in SPECS])
