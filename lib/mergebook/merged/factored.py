"""Sparse factors of a matrix per task, and the task's own values of all that is no matrix."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from mergebook.merged.base import Group, MergedModel, group
from mergebook.merged.reading import check_shapes
from mergebook.merged.rebuilt import Rebuilt
from mergebook.storage import Part, Sizes, Storage, closed_form, parts_of
from mergebook.weights.checkpoint import Checkpoint
from mergebook.weights.masks import pack_mask, unpack_mask


def matrix_shape(shape: Sequence[int]) -> tuple[int, int]:
    """Rows and columns of a tensor as a matrix: the first axis against all others.

    A tensor of fewer than two axes has one column.
    """
    rows = shape[0] if shape else 1
    return rows, math.prod(shape) // rows


class FactoredModel(Rebuilt, MergedModel):
    """Base plus, for each task and matrix, a product of two sparse factors.

    Parameters
    ----------
    tasks : sequence of str
        The T tasks.
    sizes : Sizes
        Numbers of trained and frozen entries.
    base : mapping of str to Tensor
        Pre-trained weights.
    table : mapping of str to (shape, ranks)
        Shape of each factored tensor, and the rank r that each task's product has.
    masks : mapping of task to mapping of str to Tensor, uint8 [bytes]
        Which entries of the factors ``[m + k, r]`` (those of the left one come first) are kept,
        packed by :func:`mergebook.weights.masks.pack_mask`.
    values : mapping of task to mapping of str to Tensor, 1-D
        The kept entries, in the type of the arithmetic.
    own : mapping of task to mapping of str to Tensor
        The expert's weights of the tensors that are not factored.
    """

    kind = "factored"

    def __init__(
        self,
        tasks: Sequence[str],
        sizes: Sizes,
        base: Mapping[str, Tensor],
        table: Mapping[str, tuple[Sequence[int], Sequence[int]]],
        masks: Mapping[str, Mapping[str, Tensor]],
        values: Mapping[str, Mapping[str, Tensor]],
        own: Mapping[str, Mapping[str, Tensor]],
    ):
        super().__init__(tuple(tasks), sizes)
        self.base = base
        self.table = dict(table)
        self.masks, self.values, self.own = masks, values, own

    def keys(self) -> tuple[str, ...]:
        """Names of the factored tensors."""
        return tuple(self.table)

    def vector(self, task: str, key: str) -> Tensor:
        """One tensor of a task's vector ``[*s]``: left factor times right factor."""
        self._check_task(task)
        shape, ranks = self.table[key]
        rows, columns = matrix_shape(shape)
        values = self.values[task][key]
        factors = values.new_zeros(rows + columns, ranks[self.tasks.index(task)])
        factors[unpack_mask(self.masks[task][key], tuple(factors.shape))] = values
        return (factors[:rows] @ factors[rows:].T).reshape(tuple(shape))

    def state_dict(self, task: str | None = None) -> dict[str, Tensor]:
        """Base plus the task's products; its own values of all other trained tensors."""
        return {**super().state_dict(task), **self.own[task]}

    def storage(self) -> Storage:
        """b(P' + F + D) + M + 32 K bits.

        D entries of tensors that are not factored, M entries of all factors, K of them kept (of
        the width of the arithmetic: 64 bits where the checkpoints are float64).
        """
        dense: dict[int, int] = {}
        width, places, kept = 32, 0, 0
        for row, task in enumerate(self.tasks):
            for tensor in self.own[task].values():
                bits = 8 * tensor.dtype.itemsize
                dense[bits] = dense.get(bits, 0) + tensor.numel()
            for key, (shape, ranks) in self.table.items():
                width = 8 * self.values[task][key].dtype.itemsize
                places += sum(matrix_shape(shape)) * ranks[row]
                kept += self.values[task][key].numel()
        parts = parts_of("trained weights of the base", self.sizes.trained)
        parts += parts_of("frozen weights", self.sizes.frozen)
        parts += parts_of("tensors that are not factored", dense)
        parts += [Part("masks of factors", places, 1), Part("kept entries of factors", kept, width)]
        counts = {"D": sum(dense.values()), "M": places, "K": kept}
        return closed_form(parts, f"{{b}}(P'+F+D) + M + {width}K", self.sizes, **counts)

    def stored(self) -> tuple[dict[str, Tensor], dict[str, str]]:
        """Base; under each task's number its masks, kept entries and own tensors."""
        tensors = group("base", self.base)
        for row, task in enumerate(self.tasks):
            tensors |= group(f"masks{row}", self.masks[task])
            tensors |= group(f"values{row}", self.values[task])
            tensors |= group(f"own{row}", self.own[task])
        return tensors, {"factored": json.dumps(self.table)}

    @classmethod
    def restore(cls, file: Checkpoint, tasks: tuple[str, ...], sizes: Sizes) -> FactoredModel:
        """Read it back."""
        table = file.described("factored")
        check_shapes(file, "factored", ((key, shape) for key, (shape, _) in table.items()))
        masks, values, own = (
            {task: Group(file, f"{name}{row}") for row, task in enumerate(tasks)}
            for name in ("masks", "values", "own")
        )
        return cls(tasks, sizes, Group(file, "base"), table, masks, values, own)


def sparse_factors(left: Tensor, right: Tensor, kept: Tensor) -> tuple[Tensor, Tensor]:
    """What a file needs of two factors ``[m, r]`` and ``[k, r]``: packed masks and kept entries.

    Parameters
    ----------
    left, right : Tensor
        The factors.
    kept : Tensor, bool [m + k, r]
        Which entries stay, those of the left factor first.
    """
    return pack_mask(kept), torch.cat([left, right])[kept]
