"""SHA-256 of a file that is being read anyway."""

from __future__ import annotations

import hashlib
import json
from functools import cached_property
from pathlib import Path

from torch import Tensor, uint8

from mergebook.errors import CheckpointError

GAP = 1 << 20  # bytes between two tensors that are read for the hash alone
CHUNK = 1 << 20


class Digest:
    """The hash of a safetensors file, fed with its tensors as they are read.

    A hash goes through a file from front to back. Tensors that come in the order of the file, as
    they do where names are sorted and types are alike, are never read for it again; what lies
    between two of them is read at once if it is little, and everything else at the end.

    Parameters
    ----------
    path : Path
        The file.
    """

    def __init__(self, path: Path):
        self.path = path
        self._hash, self._done = hashlib.sha256(), 0

    @cached_property
    def _places(self) -> dict[str, tuple[int, int]]:
        """Where the bytes of each tensor begin and end."""
        with open(self.path, "rb") as file:
            size = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(size))
        header.pop("__metadata__", None)
        first = 8 + size
        offsets = {key: facts["data_offsets"] for key, facts in header.items()}
        return {key: (first + start, first + stop) for key, (start, stop) in offsets.items()}

    def feed(self, key: str, tensor: Tensor) -> None:
        """Take a tensor, as the file has it, that was read just now."""
        start, stop = self._places[key]
        gap = start - self._done
        if gap < 0 or gap > max(GAP, stop - start):
            return
        self._read_to(start)
        self._hash.update(tensor.reshape(-1).view(uint8).numpy())
        self._done = stop

    def hexdigest(self) -> str:
        """The hash of the whole file, in hexadecimal digits."""
        self._read_to(None)
        return self._hash.hexdigest()

    def _read_to(self, stop: int | None) -> None:
        """Read on to a place, or to the end of the file."""
        if self._done == stop:
            return
        try:
            with open(self.path, "rb") as file:
                file.seek(self._done)
                while stop is None or self._done < stop:
                    data = file.read(CHUNK if stop is None else min(CHUNK, stop - self._done))
                    if not data:
                        break
                    self._hash.update(data)
                    self._done += len(data)
        except OSError as error:
            raise CheckpointError(f"cannot read {self.path}: {error}") from error
