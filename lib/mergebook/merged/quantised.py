"""Quantised vectors, a few bits per entry, and what the tasks share of them."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from mergebook.errors import CheckpointError
from mergebook.merged.base import Group, MergedModel, group
from mergebook.merged.packing import unpack_codes
from mergebook.merged.rebuilt import Rebuilt
from mergebook.storage import Part, Sizes, Storage, closed_form, parts_of
from mergebook.weights.checkpoint import Checkpoint


def dequantise(codes: Tensor, grid: Tensor) -> Tensor:
    """Values of codes on a grid.

    Parameters
    ----------
    codes : Tensor, integer [*s]
        0 to 2**bits - 1.
    grid : Tensor, shape [2]
        Step, and the first grid point in units of the step (a whole number).

    Returns
    -------
    Tensor, shape [*s]
        ``(code + first) * step``, in the grid's type.
    """
    step, first = grid.unbind()
    return (codes.to(grid.dtype) + first) * step


def quantised_storage(
    sizes: Sizes,
    num_tasks: int,
    grids: Mapping[str, Tensor],
    *,
    bits: int,
    shared_bits: int,
    whole: bool,
) -> Storage:
    """Base, codes of tasks, shared codes, grids: b(P' + F) + (bits T + shared) P' + 32 N.

    N numbers describe the grids (of the width of the arithmetic: 64 bits where the checkpoints are
    float64). Of the base, codes of whole weights need the frozen entries only.
    """
    parts = [] if whole else parts_of("trained weights of the base", sizes.trained)
    parts += parts_of("frozen weights", sizes.frozen)
    parts += [Part("codes", num_tasks * sizes.num_trained, bits)]
    if shared_bits:
        parts += [Part("shared codes", sizes.num_trained, shared_bits)]
    width = max((8 * grid.dtype.itemsize for grid in grids.values()), default=32)
    numbers = sum(grid.numel() for grid in grids.values())
    parts += [Part("grids", numbers, width)]
    share = "T" if bits == 1 else f"{bits}T"
    entries = f"({share}+{shared_bits})P'" if shared_bits else f"{share}P'"
    expression = ("{b}F" if whole else "{b}(P'+F)") + f" + {entries} + {width}N"
    return closed_form(parts, expression, sizes, T=num_tasks, N=numbers)


WIDTHS = ("bits", "shared_bits")  # of the codes, in the metadata


class QuantisedModel(Rebuilt, MergedModel):
    """Base plus a quantised vector per task, and one that all tasks share if there is one.

    Parameters
    ----------
    tasks : sequence of str
        The T tasks.
    sizes : Sizes
        Numbers of trained and frozen entries.
    base : mapping of str to Tensor
        Pre-trained weights; the frozen ones only, if `whole`.
    table : mapping of str to (shape, type)
        Shape and element type (such as ``"float32"``) of the quantised tensors.
    streams : mapping of str to Tensor, uint8 [bytes]
        Packed codes of each tensor: those of the first task, of the second, and so on, then the
        shared ones (:func:`mergebook.merged.packing.pack_codes`).
    grids : mapping of str to Tensor, shape [R, 2]
        Their grids, see :func:`dequantise`, in the type of the arithmetic.
    bits : int
        Bits per entry of a task.
    shared_bits : int, default 0
        Bits per shared entry; 0 if nothing is shared.
    whole : bool, default False
        Whether the codes are those of the weights, not of their difference from the base.
    """

    kind = "quantised"

    def __init__(
        self,
        tasks: Sequence[str],
        sizes: Sizes,
        base: Mapping[str, Tensor],
        table: Mapping[str, tuple[Sequence[int], str]],
        streams: Mapping[str, Tensor],
        grids: Mapping[str, Tensor],
        *,
        bits: int,
        shared_bits: int = 0,
        whole: bool = False,
    ):
        super().__init__(tuple(tasks), sizes)
        self.base = base
        self.table = dict(table)
        self.streams, self.grids = streams, grids
        self.bits, self.shared_bits, self.whole = bits, shared_bits, whole

    def keys(self) -> tuple[str, ...]:
        """Names of the quantised tensors."""
        return tuple(self.table)

    def vector(self, task: str, key: str) -> Tensor:
        """One tensor of a task's vector ``[*s]`` (of its weights, if they are what is coded)."""
        self._check_task(task)
        row = self.tasks.index(task)
        vector = self._part(key, row, self.bits)
        return (
            vector + self._part(key, len(self.tasks), self.shared_bits)
            if self.shared_bits
            else vector
        )

    def _part(self, key: str, row: int, bits: int) -> Tensor:
        shape = self.table[key][0]
        start = row * self.bits * math.prod(shape)
        codes = unpack_codes(self.streams[key], bits, shape, start)
        return dequantise(codes, self.grids[key][row])

    def state_dict(self, task: str | None = None) -> dict[str, Tensor]:
        """Base plus the task's vector, or its whole weights, rounded once to the base's types."""
        if not self.whole:
            return super().state_dict(task)
        self._check_task(task)
        own = {
            key: self.vector(task, key).to(getattr(torch, name))
            for key, (_, name) in self.table.items()
        }
        return {**self.base, **own}

    def storage(self) -> Storage:
        """b(P' + F) + (bits T + shared) P' + 32 N bits, see :func:`quantised_storage`."""
        return quantised_storage(
            self.sizes,
            len(self.tasks),
            self.grids,
            bits=self.bits,
            shared_bits=self.shared_bits,
            whole=self.whole,
        )

    def stored(self) -> tuple[dict[str, Tensor], dict[str, str]]:
        """Base, packed codes, grids."""
        tensors = group("base", self.base) | group("codes", self.streams)
        facts = {
            "table": self.table,
            "bits": self.bits,
            "shared_bits": self.shared_bits,
            "whole": self.whole,
        }
        return tensors | group("grids", self.grids), {"quantised": json.dumps(facts)}

    @classmethod
    def restore(cls, file: Checkpoint, tasks: tuple[str, ...], sizes: Sizes) -> QuantisedModel:
        """Read it back."""
        facts = file.described("quantised")
        if not all(type(facts[name]) is int and 0 <= facts[name] <= 8 for name in WIDTHS):
            raise CheckpointError(f"{file.path}: metadata field 'quantised' has odd widths")
        base, codes, grids = (Group(file, name) for name in ("base", "codes", "grids"))
        return cls(tasks, sizes, base, facts.pop("table"), codes, grids, **facts)
