"""Where things lie: the only module that knows the project's folders."""

from __future__ import annotations

import os
from pathlib import Path

MARKER = "_config.yml"


def project_dir() -> Path:
    """Root of the project: the nearest folder with a ``_config.yml``.

    Looked for from the working directory upwards, then from the package upwards (an editable
    install). Falls back to the working directory, so that an installed package still works.
    """
    for start in (Path.cwd(), Path(__file__).resolve().parent):
        for folder in (start, *start.parents):
            if (folder / MARKER).is_file():
                return folder
    return Path.cwd()


def checkpoints_dir() -> Path:
    """Folder of fine-tuned experts; ``MERGEBOOK_CHECKPOINTS`` overrides it."""
    return Path(os.environ.get("MERGEBOOK_CHECKPOINTS") or project_dir() / "checkpoints")


def results_dir() -> Path:
    """Folder of tidy result files; ``MERGEBOOK_RESULTS`` overrides it."""
    return Path(os.environ.get("MERGEBOOK_RESULTS") or project_dir() / "results")


def data_dir() -> Path:
    """Folder of committed data, among it the papers' reported numbers."""
    return project_dir() / "data"


def assets_dir() -> Path:
    """Folder of what ships inside the package: backbones, their weights, the vocabulary."""
    return Path(__file__).resolve().parent / "assets"
