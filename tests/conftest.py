"""What all tests share: one thread a process, the project's folder, one smoke build of it."""

import os
import subprocess
import sys
from pathlib import Path

# Before torch is imported: workers run beside each other, one a core.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
from filelock import FileLock

ROOT = Path(__file__).resolve().parents[1]


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Keep tests that share a module's fixture on one worker, so that it is made once."""
    for item in items:
        definitions = item._fixtureinfo.name2fixturedefs
        used = [definitions[name][-1] for name in item.fixturenames if name in definitions]
        if any(fixture.scope == "module" for fixture in used):
            item.add_marker(pytest.mark.xdist_group(item.location[0]))


@pytest.fixture(scope="session")
def root() -> Path:
    """The project's folder."""
    return ROOT


@pytest.fixture(scope="session")
def common(request, tmp_path_factory) -> Path:
    """A temporary folder that all workers of this run share."""
    own = tmp_path_factory.getbasetemp()
    return own.parent if hasattr(request.config, "workerinput") else own


@pytest.fixture(scope="session")
def smoke_project(root, common) -> Path:
    """The project in which `make smoke` has run: experts, executed notebooks and a built book.

    Built once, by the first worker that needs it, and quick where nothing changed.
    """
    clean = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    command = ["make", "smoke", f"VENV={sys.prefix}"]
    done = common / "smoke"
    with FileLock(common / "smoke.lock"):
        if not done.exists():
            run = subprocess.run(command, cwd=root, env=clean, capture_output=True, text=True)
            assert run.returncode == 0, (
                f"make smoke failed:\n{run.stdout[-4000:]}\n{run.stderr[-8000:]}"
            )
            done.touch()
    return root / "_build" / "smoke"
