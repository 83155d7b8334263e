"""One safetensors file, read tensor by tensor and written in one piece."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from mergebook.errors import CheckpointError, one_line, shown
from mergebook.weights.digest import Digest
from mergebook.writing import whole

# Names of the element types in a safetensors header.
DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}


RESERVED = "__metadata__"  # where the file format keeps its metadata


def refuse_unstorable(key: object, tensor: object, where: object) -> None:
    """Raise if a safetensors file could not hold a tensor under that name.

    Parameters
    ----------
    key, tensor
        What is to be the name, and the tensor.
    where
        The file, or what else errors name.

    Raises
    ------
    CheckpointError
        If the name is not a text or is the format's own; if it is no tensor, or one that is
        sparse, nested, quantised, without values, or of an element type not in :data:`DTYPES`.
    """
    if not isinstance(key, str):
        raise CheckpointError(f"{where}: the name {key!r} is a {type(key).__name__}, not a text")
    if key == RESERVED:
        raise CheckpointError(f"{where}: no tensor may be called {key!r}, the format's own name")
    if not isinstance(tensor, Tensor):
        raise CheckpointError(f"{where}: entry {key!r} is a {type(tensor).__name__}, not a tensor")
    odd = {
        f"is not dense ({tensor.layout})": tensor.layout != torch.strided or tensor.is_nested,
        "has no values (it is on the meta device)": tensor.is_meta,
        f"has the unsupported element type {tensor.dtype}": tensor.dtype not in DTYPES.values(),
    }
    for what, found in odd.items():
        if found:
            raise CheckpointError(f"{where}: tensor {key!r} {what}")


class MissingTensor(CheckpointError, KeyError):
    """A checkpoint is asked for a tensor that it does not have."""

    __str__ = Exception.__str__  # not the quotation marks of a KeyError


class Checkpoint(Mapping[str, Tensor]):
    """Lazy view of a safetensors file: a mapping from names to tensors.

    Opening reads the header only; each access reads (maps) one tensor. Tensors that were read
    share memory with the view, so treat them as read-only.

    Parameters
    ----------
    path : str or path-like
        The file.

    Raises
    ------
    CheckpointError
        If the file is missing, empty, truncated, or not a safetensors file.

    Attributes
    ----------
    path : Path
        The file.
    metadata : dict of str to str
        Free text stored in the header.
    """

    def __init__(self, path: str | os.PathLike[str]):
        self.path = _readable(path)
        try:
            self._file = safe_open(self.path, framework="pt")
        except (SafetensorError, OSError, ValueError) as error:
            raise CheckpointError(
                f"cannot read {self.path}: truncated, or not a safetensors file ({error})"
            ) from error
        self._digest: Digest | None = None
        self.metadata: dict[str, str] = dict(self._file.metadata() or {})
        self._header = {key: self._describe(key) for key in self._file.keys()}  # noqa: SIM118

    def _describe(self, key: str) -> tuple[tuple[int, ...], torch.dtype]:
        entry = self._file.get_slice(key)
        name = entry.get_dtype()
        if name not in DTYPES:
            raise CheckpointError(
                f"tensor {key!r} of {self.path} has the unsupported element type {name}; "
                f"choose from: {', '.join(DTYPES)}"
            )
        return tuple(entry.get_shape()), DTYPES[name]

    def described(self, field: str) -> Any:
        """A metadata field that holds JSON.

        Raises
        ------
        CheckpointError
            If there is no such field, or it is not JSON (names the file and the field).
        """
        if field not in self.metadata:
            raise CheckpointError(f"{self.path}: no metadata field {field!r}")
        try:
            return json.loads(self.metadata[field])
        except (ValueError, RecursionError) as error:
            raise CheckpointError(
                f"{self.path}: metadata field {field!r} is not readable ({one_line(error)})"
            ) from error

    def hash_while_reading(self) -> None:
        """From now on feed what is read to the file's hash, so that no pass is spent on it."""
        self._digest = Digest(self.path)

    def sha256(self) -> str:
        """SHA-256 of the file in hexadecimal digits.

        Reads the file, or after :meth:`hash_while_reading` what was not read since.
        """
        return (self._digest or Digest(self.path)).hexdigest()

    def shape(self, key: str) -> tuple[int, ...]:
        """Shape of a tensor, from the header."""
        return self._header[key][0]

    def dtype(self, key: str) -> torch.dtype:
        """Element type of a tensor, from the header."""
        return self._header[key][1]

    def __getitem__(self, key: str) -> Tensor:
        if key not in self._header:
            raise MissingTensor(f"{self.path} has no tensor {key!r}")
        tensor = self._file.get_tensor(key)
        if self._digest is not None:
            self._digest.feed(key, tensor)
        return tensor

    def __contains__(self, key: object) -> bool:
        return key in self._header  # a mapping's own would read the tensor

    def __iter__(self) -> Iterator[str]:
        return iter(self._header)

    def __len__(self) -> int:
        return len(self._header)

    def __repr__(self) -> str:
        return f"Checkpoint({str(self.path)!r})"

    def __reduce__(self):
        # The open file cannot travel to another process; its path can.
        return Checkpoint, (self.path,)


def as_path(path: str | os.PathLike[str]) -> Path:
    """A path; CheckpointError for what is none."""
    if not isinstance(path, str | os.PathLike):
        raise CheckpointError(f"a checkpoint is named by a path, got {type(path).__name__}")
    return Path(os.fsdecode(path))


def _readable(path: str | os.PathLike[str]) -> Path:
    """The path of a file that is there and not empty."""
    path = as_path(path)
    try:
        size = path.stat().st_size
    except (FileNotFoundError, NotADirectoryError):
        raise CheckpointError(f"checkpoint not found: {path}") from None
    except (OSError, ValueError) as error:
        problem = getattr(error, "strerror", None) or one_line(error)
        raise CheckpointError(f"cannot read {shown(str(path))}: {problem}") from error
    if not path.is_file():
        raise CheckpointError(f"not a checkpoint file: {path}")
    if size == 0:
        raise CheckpointError(f"checkpoint is empty (0 bytes): {path}")
    return path


def save_checkpoint(
    tensors: Mapping[str, Tensor],
    path: str | os.PathLike[str],
    metadata: Mapping[str, str] | None = None,
) -> Path:
    """Write tensors to a safetensors file, whole or not at all.

    Parameters
    ----------
    tensors : mapping of str to Tensor
        What to store. Tensors that share memory are stored once per name.
    path : str or path-like
        The file; missing folders are made, an existing file is replaced.
    metadata : mapping of str to str, optional
        Free text for the header.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    CheckpointError
        If there are no tensors, one that no file can hold (see :func:`refuse_unstorable`), or the
        file cannot be written (for instance a full disk); the target is then as it was before.
    """
    path = as_path(path)
    if not isinstance(tensors, Mapping) or not isinstance(metadata or {}, Mapping):
        raise CheckpointError(f"cannot write {path}: tensors and metadata must be mappings")
    metadata = dict(metadata or {})
    if not tensors:
        raise CheckpointError(f"cannot write {path}: there are no tensors")
    for key, tensor in tensors.items():
        refuse_unstorable(key, tensor, f"cannot write {path}")
    for field in metadata.items():
        if not all(isinstance(text, str) for text in field):
            raise CheckpointError(f"cannot write {path}: metadata {field} is not text")
    try:
        with whole(path) as partial:
            save_file(_distinct(tensors), partial, metadata=metadata)
            _sort_metadata(partial)
    except (OSError, ValueError, SafetensorError) as error:
        raise CheckpointError(f"cannot write {path}: {error}") from error
    return path


def _sort_metadata(path: Path) -> None:
    """Sort a header's metadata, which the writer shuffles: equal content gives equal bytes."""
    with path.open("r+b") as file:
        size = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(size))
        header["__metadata__"] = dict(sorted(header.get("__metadata__", {}).items()))
        text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
        if header["__metadata__"] and len(text) <= size:  # the same characters in another order
            file.seek(8)
            file.write(text.ljust(size))


def _distinct(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Contiguous tensors of which no two share a storage, as the file format asks."""
    seen: set[int] = set()
    distinct = {}
    for key, tensor in tensors.items():
        tensor = tensor.detach().contiguous()
        pointer = tensor.untyped_storage().data_ptr()
        distinct[key] = tensor.clone() if pointer in seen else tensor
        seen.add(pointer)
    return distinct
