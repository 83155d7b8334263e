"""What all tests share: the project's folder and one smoke build of it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def root() -> Path:
    """The project's folder."""
    return ROOT


@pytest.fixture(scope="session")
def smoke_project(root) -> Path:
    """The project in which `make smoke` has run: experts, executed notebooks and a built book.

    Built once, and quick where nothing changed.
    """
    clean = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    command = ["make", "smoke", f"VENV={sys.prefix}"]
    run = subprocess.run(command, cwd=root, env=clean, capture_output=True, text=True)
    assert run.returncode == 0, f"make smoke failed:\n{run.stdout[-4000:]}\n{run.stderr[-8000:]}"
    return root / "_build" / "smoke"
