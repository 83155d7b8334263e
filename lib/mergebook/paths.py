"""Where things lie: the only module that knows the project's folders."""

from __future__ import annotations

import os
from pathlib import Path

MARKER = "_config.yml"
# The project's folders of sources and of what the pipeline makes; readers' runs go elsewhere.
OWN = (
    *("book", "config", "data", "lib", "notebooks", "workflow"),
    *("benchmarks", "tests"),
    *("_build", "checkpoints", "executed", "results"),
)


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


def output_dir() -> Path:
    """Folder that a notebook writes its result files to.

    ``MERGEBOOK_RESULTS``, which the pipeline and ``mergebook run`` set. Without it, in a notebook
    that someone opened or gave to papermill, a folder beside the book's own results.
    """
    return Path(os.environ.get("MERGEBOOK_RESULTS") or project_dir() / "runs/by-hand/results")


def data_dir() -> Path:
    """Folder of committed data, among it the papers' reported numbers."""
    return project_dir() / "data"


def assets_dir() -> Path:
    """Folder of what ships inside the package: backbones, their weights, the vocabulary."""
    return Path(__file__).resolve().parent / "assets"


def belongs_to_project(path: Path) -> bool:
    """Whether a path is the project's folder, or lies in one of its folders but ``runs``."""
    path, root = path.resolve(), project_dir().resolve()
    if any(path.is_relative_to(each.resolve()) for each in (checkpoints_dir(), results_dir())):
        return True
    if not path.is_relative_to(root):
        return False
    top = path.relative_to(root).parts[:1]
    return not top or top[0] in OWN or top[0].startswith(".")
