"""Files that appear whole or not at all, and folders for work that may be killed."""

from __future__ import annotations

import errno
import hashlib
import os
import platform
import re
import shutil
import uuid
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

LONGEST = 150  # bytes of a file's name that its unfinished copy repeats
TRACE = re.compile(r"([0-9a-f]{8})-(\d+)-[0-9a-f]{32}\.partial")
_under_way: set[Path] = set()


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Have a file written under another name, and give it its own when it is complete.

    If the body fails or is interrupted, nothing is left of it and what was there before stays. A
    process that is killed cannot tidy up; its unfinished copy is removed by the next that writes
    the same file.

    Parameters
    ----------
    path : Path
        The file; missing folders are made, an existing file is replaced.

    Yields
    ------
    Path
        Where to write: in a hidden folder beside the file, since writers make files of their own.

    Raises
    ------
    OSError
        If that cannot be done, for instance on a full disk, or if something other than a file is
        there, such as a folder or a device.
    """
    if path.exists() and not path.is_file():
        raise OSError(errno.EEXIST, "it is no file that could be replaced", str(path))
    with folder_beside(path) as folder:
        partial = folder / "file"
        partial.touch()
        mode = partial.stat().st_mode  # what the umask gives; a writer may make its own private
        yield partial
        partial.chmod(mode)
        os.replace(partial, path)


@contextmanager
def folder_beside(path: Path) -> Iterator[Path]:
    """Make a hidden folder for what goes into a file, and remove it when the body ends.

    What a killed process has left is removed by the next that asks for such a folder beside the
    same file, on the same machine.

    Parameters
    ----------
    path : Path
        The file; missing folders are made.

    Yields
    ------
    Path
        The folder, empty.

    Raises
    ------
    OSError
        If it cannot be made.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_stale(path)
    trace = f"{_machine()}-{os.getpid()}-{uuid.uuid4().hex}.partial"
    folder = path.with_name(_prefix(path) + trace)
    _under_way.add(folder)
    try:
        folder.mkdir()
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        _under_way.discard(folder)


def _prefix(path: Path) -> str:
    """How the names of unfinished copies of a file start; short, however long its own is."""
    name = path.name
    if len(os.fsencode(name)) > LONGEST:
        name = hashlib.sha256(os.fsencode(name)).hexdigest()
    return f".{name}."


def _machine() -> str:
    """A word for this machine: folders may be shared with others."""
    return f"{zlib.crc32(platform.node().encode()):08x}"


def _remove_stale(path: Path) -> None:
    """Remove unfinished copies whose process is no more."""
    prefix = _prefix(path)
    with suppress(OSError), os.scandir(path.parent) as entries:
        for entry in entries:
            trace = TRACE.fullmatch(entry.name.removeprefix(prefix))
            if trace is None or not entry.name.startswith(prefix) or trace[1] != _machine():
                continue
            left = path.with_name(entry.name)
            if not _is_alive(int(trace[2]), left):
                shutil.rmtree(left, ignore_errors=True)


def _is_alive(process: int, folder: Path) -> bool:
    """Whether a process of this machine may still be writing a copy."""
    if process == os.getpid():
        return folder in _under_way
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):  # somebody else's
        return True
    return True
