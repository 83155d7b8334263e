"""Sparse vectors of signs with one magnitude (or a few levels) per tensor and task."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mergebook.errors import CheckpointError
from mergebook.merged.base import Group, MergedModel, group
from mergebook.merged.packing import from_bits, to_bits
from mergebook.merged.reading import check_shapes
from mergebook.merged.rebuilt import Rebuilt
from mergebook.storage import Part, Sizes, Storage, closed_form, parts_of
from mergebook.weights.checkpoint import Checkpoint

LARGEST_GROUP = 64
GROUPS = (1, 2, 4, 8, 16)  # group sizes that a tensor may choose from


@dataclass(frozen=True)
class Count:
    """Bits of a coded vector, section by section, and the entries it keeps."""

    flags: int
    masks: int
    kept: int


def encode(levels: Tensor, bits: int, group_size: int) -> Tensor:
    """Code a sparse vector of signed levels: ``int [*s]`` of n entries to bytes, uint8 ``[m]``.

    The entries, in groups of `group_size` (the last filled up with zeros), become one stream of
    bits, filled up to whole bytes at the end only:

    1. a flag per group: does it hold anything but zeros;
    2. for each group that does, one bit per entry (left out where a group is one entry);
    3. for each entry that is not zero, `bits` bits: its sign (1 is negative), then ``|level| - 1``.

    Parameters
    ----------
    levels : Tensor, integer [*s]
        Zero for a dropped entry, else sign times 1 to 2**(bits - 1).
    bits : int
        Bits of a kept entry, 1 to 8; 1 keeps the sign alone.
    group_size : int
        Entries of a group, at least 1.
    """
    flat = levels.reshape(-1).cpu().numpy()
    grouped = np.pad(flat != 0, (0, -len(flat) % group_size)).reshape(-1, group_size)
    flags = grouped.any(1)
    masks = grouped[flags].ravel() if group_size > 1 else grouped[:0].ravel()
    kept = flat[flat != 0].astype(np.int64)
    entries = to_bits(((kept < 0) << (bits - 1)) + np.abs(kept) - 1, bits)
    return torch.from_numpy(np.packbits(np.concatenate([flags, masks, entries])))


def decode(stream: Tensor, bits: int, group_size: int, shape: Sequence[int]) -> Tensor:
    """Undo :func:`encode`: int64 ``[*shape]``.

    Raises
    ------
    CheckpointError
        If the stream is not one of a tensor of that shape.
    """
    digits = np.unpackbits(stream.numpy())
    kept, used = _kept(digits, group_size, shape)
    count = int(kept.sum())
    if len(digits) != 8 * math.ceil((used + count * bits) / 8):
        raise _misfit(digits, shape)
    codes = from_bits(digits[used : used + count * bits], bits)
    half = 1 << (bits - 1)
    levels = np.zeros(len(kept), dtype=np.int64)
    levels[kept] = np.where(codes >= half, half - 1 - codes, codes + 1)
    return torch.from_numpy(levels).reshape(tuple(shape))


def _kept(digits: np.ndarray, group_size: int, shape: Sequence[int]) -> tuple[np.ndarray, int]:
    """Which entries of a stream are kept, bool ``[n]``, and the bits that say so."""
    size = math.prod(shape)
    num_groups = math.ceil(size / group_size)
    flags = digits[:num_groups].astype(bool)
    used = num_groups + (group_size * int(flags.sum()) if group_size > 1 else 0)
    if used > len(digits):
        raise _misfit(digits, shape)
    if group_size == 1:
        return flags, used
    grouped = np.zeros((num_groups, group_size), dtype=bool)
    grouped[flags] = digits[num_groups:used].reshape(-1, group_size)
    return grouped.reshape(-1)[:size], used


def _misfit(digits: np.ndarray, shape: Sequence[int]) -> CheckpointError:
    return CheckpointError(
        f"a coded vector of {len(digits) // 8} bytes does not fit a tensor of shape {tuple(shape)}"
    )


def count_bits(stream: Tensor, group_size: int, shape: Sequence[int]) -> Count:
    """Sizes of the sections of a coded vector."""
    kept, used = _kept(np.unpackbits(stream.numpy()), group_size, shape)
    flags = math.ceil(math.prod(shape) / group_size)
    return Count(flags, used - flags, int(kept.sum()))


def smallest_group(levels: Tensor) -> int:
    """The group size among :data:`GROUPS` that codes all rows of ``[T, *s]`` in the fewest bits."""

    def cost(group_size: int) -> int:
        rows = levels.reshape(len(levels), -1) != 0
        padded = torch.nn.functional.pad(rows, (0, -rows.shape[1] % group_size))
        grouped = padded.reshape(-1, group_size)
        active = int(grouped.any(1).sum()) if group_size > 1 else 0
        return len(grouped) + group_size * active

    return min(GROUPS, key=cost)


Layout = dict[str, tuple[Sequence[int], int]]
Streams = dict[str, dict[str, Tensor]]


def code_vectors(
    tasks: Sequence[str],
    vectors: Iterable[tuple[str, Tensor]],
    bits: int = 1,
    group_size: int | None = None,
) -> tuple[Layout, Streams]:
    """Code the vectors of all tasks, tensor by tensor.

    Parameters
    ----------
    tasks : sequence of str
        The T tasks.
    vectors : iterable of (str, Tensor)
        Names of the tensors and their signed levels ``[T, *s]``, see :func:`encode`.
    bits : int, default 1
        Bits of a kept entry.
    group_size : int, optional
        Group size of the coding; by default each tensor has the one that takes the least.

    Returns
    -------
    layout : dict of str to (shape, group size)
        Of each tensor.
    streams : dict of task to dict of str to Tensor, uint8 [m]
        Coded vectors.
    """
    layout: Layout = {}
    streams: Streams = {task: {} for task in tasks}
    for key, levels in vectors:
        size = group_size or smallest_group(levels)
        layout[key] = (tuple(levels.shape[1:]), size)
        for task, row in zip(tasks, levels, strict=True):
            streams[task][key] = encode(row, bits, size)
    return layout, streams


def switched_storage(sizes: Sizes, counts: Iterable[Count], bits: int, knobs: Tensor) -> Storage:
    """Base, and per task a coded vector and its knobs: b(P' + F) + G + M + bits K + 32 N.

    G flags of groups, M bits of the masks of groups that keep something, K kept entries, N knobs
    (of the width of the arithmetic: 64 bits where the checkpoints are float64).
    """
    counts = list(counts)
    flags = sum(count.flags for count in counts)
    masks = sum(count.masks for count in counts)
    kept = sum(count.kept for count in counts)
    width = 8 * knobs.dtype.itemsize
    parts = parts_of("trained weights of the base", sizes.trained)
    parts += parts_of("frozen weights", sizes.frozen)
    parts += [
        Part("flags of groups", flags, 1),
        Part("masks of groups", masks, 1),
        Part("signs" if bits == 1 else "signs and levels", kept, bits),
        Part("knobs", knobs.numel(), width),
    ]
    share = "K" if bits == 1 else f"{bits}K"
    expression = f"{{b}}(P'+F) + G + M + {share} + {width}N"
    return closed_form(parts, expression, sizes, G=flags, M=masks, K=kept, N=knobs.numel())


class SwitchedModel(Rebuilt, MergedModel):
    """Base plus, for each task and tensor, signs times a magnitude at the places that are on.

    A kept entry of level 1, 2, ... has the magnitude ``knob + (level - 1) * step``; with one bit
    per entry there is one level and no step.

    Parameters
    ----------
    sizes : Sizes
        Numbers of trained and frozen entries.
    base : mapping of str to Tensor
        Pre-trained weights.
    bits : int
        Bits of a kept entry, its sign included.
    layout : mapping of str to (shape, group size)
        Of each tensor, in the order of the columns of `knobs`.
    streams : mapping of task to mapping of str to Tensor, uint8 [m]
        Coded vectors, see :func:`encode`.
    knobs : Tensor, shape [C, T, L]
        Magnitudes of level 1 of the T tasks and L tensors (L is 1 where a task has a single
        magnitude); C is 2 where there are steps, which come second. In the type of the arithmetic.
    """

    kind = "switched"

    def __init__(
        self,
        sizes: Sizes,
        base: Mapping[str, Tensor],
        bits: int,
        layout: Mapping[str, tuple[Sequence[int], int]],
        streams: Mapping[str, Mapping[str, Tensor]],
        knobs: Tensor,
    ):
        super().__init__(tuple(streams), sizes)
        self.base = base
        self.bits = bits
        self.layout = dict(layout)
        self.streams = streams
        self.knobs = knobs

    def keys(self) -> tuple[str, ...]:
        """Names of the tensors that have vectors."""
        return tuple(self.layout)

    def levels(self, task: str, key: str) -> Tensor:
        """Signed levels of one tensor, int64 ``[*s]``; with one bit, the signs and zeros."""
        self._check_task(task)
        shape, size = self.layout[key]
        return decode(self.streams[task][key], self.bits, size, shape)

    def vector(self, task: str, key: str) -> Tensor:
        """One tensor of a task's vector ``[*s]``: sign times magnitude, zero where it is off."""
        levels = self.levels(task, key)
        column = 0 if self.knobs.shape[2] == 1 else self.keys().index(key)
        knob, *steps = self.knobs[:, self.tasks.index(task), column].unbind()
        magnitude = knob + (levels.abs() - 1).to(knob.dtype) * steps[0] if steps else knob
        return levels.sign().to(knob.dtype) * magnitude

    def counts(self, task: str) -> dict[str, Count]:
        """Bits and kept entries of each tensor of a task."""
        self._check_task(task)
        return {
            key: count_bits(self.streams[task][key], size, shape)
            for key, (shape, size) in self.layout.items()
        }

    def storage(self) -> Storage:
        """b(P' + F) + G + M + bits K + 32 N bits, see :func:`switched_storage`."""
        counts = [count for task in self.tasks for count in self.counts(task).values()]
        return switched_storage(self.sizes, counts, self.bits, self.knobs)

    def stored(self) -> tuple[dict[str, Tensor], dict[str, str]]:
        """Base, the coded vectors of each task under its number, knobs."""
        tensors = group("base", self.base) | {"knobs": self.knobs}
        for row, streams in enumerate(self.streams.values()):
            tensors |= group(f"task{row}", streams)
        return tensors, {"switches": json.dumps({"bits": self.bits, "layout": self.layout})}

    @classmethod
    def restore(cls, file: Checkpoint, tasks: tuple[str, ...], sizes: Sizes) -> SwitchedModel:
        """Read it back."""
        facts = file.described("switches")
        layout = {key: (tuple(shape), size) for key, (shape, size) in facts["layout"].items()}
        check_shapes(file, "switches", ((key, shape) for key, (shape, _) in layout.items()))
        within = all(1 <= size <= LARGEST_GROUP for _, size in layout.values())
        if not within or facts["bits"] not in range(1, 9):
            raise CheckpointError(
                f"{file.path}: metadata field 'switches' has bits or group sizes out of range"
            )
        streams = {task: Group(file, f"task{row}") for row, task in enumerate(tasks)}
        return cls(sizes, Group(file, "base"), facts["bits"], layout, streams, file["knobs"])
