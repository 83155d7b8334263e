"""Binary masks, one bit per weight and task, in memory and in files."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mergebook.errors import CheckpointError, unknown
from mergebook.weights.checkpoint import Checkpoint, save_checkpoint


def pack_mask(mask: Tensor) -> Tensor:
    """Pack a boolean mask ``[*s]`` of n entries into ``uint8 [ceil(n / 8)]``.

    The first entry is the highest bit of the first byte; the last byte is padded with zeros.
    """
    return pack_rows(mask[None])[0]


def pack_rows(masks: Tensor) -> Tensor:
    """Pack T boolean masks ``[T, *s]`` of n entries each into ``uint8 [T, ceil(n / 8)]``."""
    rows = masks.reshape(len(masks), math.prod(masks.shape[1:])).cpu().numpy()
    return torch.from_numpy(np.packbits(rows, axis=1))


def unpack_mask(packed: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Undo :func:`pack_mask`: ``uint8 [ceil(n / 8)] -> bool [*shape]``.

    Raises
    ------
    CheckpointError
        If the number of bytes does not fit the shape.
    """
    return unpack_rows(packed[None], shape)[0]


def unpack_rows(packed: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Undo :func:`pack_rows`: ``uint8 [T, ceil(n / 8)] -> bool [T, *shape]``."""
    size = math.prod(shape)
    if packed.shape[1] != math.ceil(size / 8):
        raise CheckpointError(
            f"a mask of {packed.shape[1]} bytes does not fit a tensor of shape {tuple(shape)}, "
            f"which takes {math.ceil(size / 8)}"
        )
    bits = np.unpackbits(packed.numpy(), axis=1, count=size)
    return torch.from_numpy(bits).view(torch.bool).reshape(len(packed), *shape)


class Masks:
    """The masks of all tasks over a set of tensors, bit-packed.

    Parameters
    ----------
    tasks : sequence of str
        The T tasks.
    packed : mapping of str to Tensor, uint8 [T, ceil(n / 8)]
        Packed masks of each tensor, one row per task (see :func:`pack_mask`).
    shapes : mapping of str to tuple of int
        Shape of each tensor.
    """

    def __init__(
        self,
        tasks: tuple[str, ...],
        packed: Mapping[str, Tensor],
        shapes: Mapping[str, tuple[int, ...]],
    ):
        self.tasks = tuple(tasks)
        self.packed = packed
        self.shapes = {key: tuple(shape) for key, shape in shapes.items()}

    def keys(self) -> tuple[str, ...]:
        """Names of the tensors."""
        return tuple(self.shapes)

    @property
    def num_entries(self) -> int:
        """Entries that one task's mask spans."""
        return sum(math.prod(shape) for shape in self.shapes.values())

    def mask(self, task: str, key: str) -> Tensor:
        """Mask of one task for one tensor: bool ``[*s]``."""
        return unpack_mask(self.packed[key][self._row(task)], self.shapes[key])

    def counts(self, key: str) -> Tensor:
        """Number of tasks that use each entry of a tensor: int64 ``[*s]``, 0 to T."""
        return unpack_rows(self.packed[key], self.shapes[key]).sum(0)

    def used(self, key: str) -> Tensor:
        """Number of entries of a tensor that each task uses: int64 ``[T]``."""
        rows = unpack_rows(self.packed[key], self.shapes[key])
        return rows.reshape(len(self.tasks), math.prod(self.shapes[key])).sum(1)

    def density(self, task: str) -> float:
        """Share of the spanned entries that a task uses: 0 to 1 (0 where nothing is spanned)."""
        row = self._row(task)
        return sum(int(self.used(key)[row]) for key in self.keys()) / max(self.num_entries, 1)

    def _row(self, task: str) -> int:
        if task not in self.tasks:
            raise CheckpointError(unknown("task", task, self.tasks))
        return self.tasks.index(task)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the masks to a safetensors file, whole or not at all."""
        return save_checkpoint(self.packed, path, {"masks": self.describe()})

    def describe(self) -> str:
        """Tasks and shapes as JSON, what a file needs beside the bits."""
        return json.dumps({"tasks": self.tasks, "shapes": self.shapes})

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Masks:
        """Read masks that :meth:`save` wrote.

        Raises
        ------
        CheckpointError
            If the file cannot be read or holds no masks.
        """
        file = Checkpoint(path)
        if "masks" not in file.metadata:
            raise CheckpointError(f"{path} holds no masks")
        return cls.described_by(file, dict(file))

    @classmethod
    def described_by(cls, file: Checkpoint, packed: Mapping[str, Tensor]) -> Masks:
        """Masks from the packed rows, and a file's JSON of :meth:`describe`.

        Raises
        ------
        CheckpointError
            If the file has none, or it is not that of the rows (names the file and the field).
        """
        facts = file.described("masks")
        try:
            tasks, shapes = tuple(facts["tasks"]), facts["shapes"]
            counts = {key: len(tasks) * math.ceil(math.prod(shapes[key]) / 8) for key in shapes}
            good = all(isinstance(task, str) for task in tasks) and all(
                packed[key].dtype == torch.uint8 and packed[key].numel() == count
                for key, count in counts.items()
            )
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
            good = False
        if not good:
            raise CheckpointError(f"{file.path}: metadata field 'masks' does not fit the masks")
        return cls(tasks, packed, shapes)
