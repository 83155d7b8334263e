"""A file that appears whole or not at all, written by one process at a time."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from mergebook.errors import CheckpointError

LOCK = "lock"
LONGEST = 255  # bytes of a file's name, on the usual file systems


def check_output(path: Path, inputs: Mapping[str, Path], *, overwrite: bool) -> None:
    """Refuse a place where a result must not go.

    Raises
    ------
    CheckpointError
        If there can be no file, or there is a folder, one of the inputs (by name, or through a
        link), or, without `overwrite`, anything: a symbolic link that leads nowhere counts.
    """
    try:
        path.lstat()
    except FileNotFoundError:
        return
    except OSError as error:  # such as a file in place of a folder, or a name that is too long
        raise CheckpointError(f"cannot write {path}: {error.strerror}") from error
    if path.is_dir():
        raise CheckpointError(f"cannot write {path}: it is a folder")
    for name, given in inputs.items():
        if path.exists() and given.exists() and path.samefile(given):
            raise CheckpointError(f"cannot write {path}: it is {name}; inputs are never replaced")
    if not overwrite:
        link = "" if path.exists() else ", a link that leads nowhere"
        raise CheckpointError(
            f"{path} exists{link}; --force (in Python, overwrite=True) replaces it"
        )


@contextmanager
def claimed(path: Path, *, overwrite: bool) -> Iterator[Path]:
    """Claim a place for a file, and put there what the body has written.

    The body writes to another name, in a folder of its own beside the place; when it ends, the file
    is moved. The folder is locked while the process lives: another one is refused, and what a
    killed one has left is removed by the next.

    Parameters
    ----------
    path : Path
        Where the file goes; missing folders are made, and removed again if the body fails.
    overwrite : bool
        Whether a file that is there, or has come meanwhile, is replaced.

    Yields
    ------
    Path
        Where to write.

    Raises
    ------
    CheckpointError
        If another process writes the same file, the place cannot be written, or, without
        `overwrite`, a file has come there meanwhile.
    """
    made: list[Path] = []
    try:
        try:
            made = _make_folders(path.parent)
            folder, lock = _locked(path)
        except OSError as error:
            raise CheckpointError(f"cannot write {path}: {error.strerror or error}") from error
        try:
            written = folder / "file"
            yield written
            _publish(written, path, overwrite)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            os.close(lock)
    except BaseException:
        for each in reversed(made):
            with suppress(OSError):  # somebody else has put something there
                each.rmdir()
        raise


def _make_folders(folder: Path) -> list[Path]:
    missing = [each for each in (folder, *folder.parents) if not each.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    return missing[::-1]


def _locked(path: Path) -> tuple[Path, int]:
    """The folder beside the place, empty but for its lock, and the lock's open file."""
    folder = _folder_of(path)
    lock = None
    while lock is None:
        with suppress(FileExistsError):
            folder.mkdir()
        entries = set(os.listdir(folder))
        if folder.is_symlink() or (entries and LOCK not in entries):
            raise CheckpointError(f"cannot write {path}: {folder} is in the way")
        try:
            lock = _lock(folder / LOCK)
        except BlockingIOError:
            problem = f"cannot write {path}: another process is writing it right now"
            raise CheckpointError(problem) from None
        except OSError:
            with suppress(OSError):
                folder.rmdir()  # ours, if it is empty
            raise
    for name in os.listdir(folder):
        if name != LOCK:  # left by a process that was killed
            left = folder / name
            shutil.rmtree(left) if left.is_dir() else left.unlink()
    return folder, lock


def _lock(path: Path) -> int | None:
    """Lock a file; None if its owner has just removed it."""
    try:
        lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.stat(path).st_ino == os.fstat(lock).st_ino:
            return lock
    except FileNotFoundError:
        pass
    except OSError as error:
        if error.errno in (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS):
            return lock  # a file system without locks
        os.close(lock)
        raise
    os.close(lock)
    return None


def _folder_of(path: Path) -> Path:
    name = f".{path.name}.partial"
    if len(os.fsencode(name)) > LONGEST:
        name = f".{hashlib.sha256(os.fsencode(path.name)).hexdigest()[:16]}.partial"
    return path.with_name(name)


def _publish(written: Path, path: Path, overwrite: bool) -> None:
    try:
        if overwrite:
            os.replace(written, path)
            return
        try:
            os.link(written, path)  # unlike a move, this never replaces a file
        except FileExistsError:
            raise CheckpointError(
                f"{path} has come into being meanwhile; --force (in Python, overwrite=True) "
                f"replaces it"
            ) from None
        except OSError:  # a file system without hard links
            check_output(path, {}, overwrite=False)
            os.replace(written, path)
    except OSError as error:
        raise CheckpointError(f"cannot write {path}: {error.strerror or error}") from error
