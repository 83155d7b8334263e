"""An ``.npz`` file whose arrays are read within the bounds of what the file holds."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np

from mergebook.errors import SuiteError, one_line

CHUNK = 1 << 22  # bytes of an array that are unpacked at once
RATIO = 1032  # most that deflate, the packing of .npz files, can gain
PACKINGS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
ENCRYPTED = 0x1  # a flag of the zip format


class Arrays:
    """The arrays of an ``.npz`` file.

    A header may announce any size, and NumPy would make room for it. Here an array is only read if
    its announced size is that of the data, which must be plausible for the bytes in the file.

    Parameters
    ----------
    path : Path
        The file.

    Raises
    ------
    SuiteError
        If it is not an ``.npz`` file.
    """

    def __init__(self, path: Path):
        self.path = path
        with self._checked("the file"), zipfile.ZipFile(path) as file:
            infos = file.infolist()
        self._members = {i.filename.removesuffix(".npy"): i for i in infos}

    def __contains__(self, key: str) -> bool:
        return key in self._members

    def header(self, key: str, least: int = 0) -> tuple[tuple[int, ...], np.dtype]:
        """Shape, of at least so many axes, and type of an array; the array is not read.

        Raises
        ------
        SuiteError
            If the array cannot be read, or its data are not what its header announces.
        """
        with self._open(key) as member:
            shape, _, dtype = self._header(key, member, least)
        return shape, dtype

    def read(self, key: str) -> np.ndarray:
        """A whole array."""
        self.header(key)
        with self._open(key) as member:
            return np.lib.format.read_array(member, allow_pickle=False)

    def texts(self, key: str) -> tuple[str, ...]:
        """An array of texts."""
        array = self.read(key)
        with self._checked(key):  # any four bytes may stand for a character
            return tuple(map(str, array))

    def rows(self, key: str, index: np.ndarray) -> np.ndarray:
        """Rows of an array, in the order of the index; no others are kept in memory."""
        with self._open(key) as member:
            shape, fortran, dtype = self._header(key, member, 1)
            if not fortran:
                return self._pick(member, shape, dtype, index)
        return self.read(key)[index]

    def _pick(self, member: IO[bytes], shape, dtype: np.dtype, index: np.ndarray) -> np.ndarray:
        size = dtype.itemsize * math.prod(shape[1:])
        picked = np.empty((len(index), *shape[1:]), dtype)
        order = np.argsort(index, kind="stable")
        step = max(1, CHUNK // size)
        for first in range(0, shape[0], step):
            last = min(first + step, shape[0])
            raw = member.read((last - first) * size)
            block = np.frombuffer(raw, dtype).reshape(-1, *shape[1:])
            here = order[slice(*np.searchsorted(index, (first, last), sorter=order))]
            picked[here] = block[index[here] - first]
        return picked

    def _header(self, key: str, member: IO[bytes], least: int):
        info, version = self._members[key], np.lib.format.read_magic(member)
        readers = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }
        if version not in readers:
            raise ValueError(f"version {version} of the array format")
        shape, fortran, dtype = readers[version](member)
        announced = member.tell() + dtype.itemsize * math.prod(shape)
        if dtype.hasobject:
            raise ValueError("it holds Python objects")
        if len(shape) < least:
            raise ValueError(f"it has {len(shape)} axes")
        if announced != info.file_size or announced > RATIO * (info.compress_size + 1):
            raise ValueError("its header announces more or less than there is")
        return shape, fortran, dtype

    @contextmanager
    def _open(self, key: str) -> Iterator[IO[bytes]]:
        """An array's bytes; whatever goes wrong with them is an error that names it."""
        info = self._members[key]
        with self._checked(key):
            if info.flag_bits & ENCRYPTED:
                raise ValueError("it is encrypted")
            if info.compress_type not in PACKINGS:
                raise ValueError("it is packed in a way that .npz files are not")
            with zipfile.ZipFile(self.path) as file, file.open(info) as member:
                yield member

    @contextmanager
    def _checked(self, what: str) -> Iterator[None]:
        try:
            yield
        except SuiteError:
            raise
        except Exception as error:  # zipfile, zlib and numpy raise a dozen kinds on damaged files
            raise SuiteError(f"{self.path}: {what} cannot be read ({one_line(error)})") from error
