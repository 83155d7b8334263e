"""Moments of what enters each map, block by block."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from mergebook.calibration import Calibration
from mergebook.errors import CheckpointError
from mergebook.towers.tape import (
    BATCH,
    Kind,
    Stage,
    Tape,
    as_stored,
    tower_weights,
)
from mergebook.towers.tokens import joined
from mergebook.towers.tower import Weights
from mergebook.weights import Experts, Layer
from mergebook.weights.qkv import named_like, stack_of_query


@dataclass(frozen=True)
class Seen:
    r"""A trained tensor and what enters it on each task's images.

    Attributes
    ----------
    kind : {"linear", "patches", "scale"}
        See :class:`Tap`.
    layer : Layer
        Base ``[out, in]`` and task vectors ``[T, out, in]``, also where the tensor is stored in
        another shape; ``[d]`` and ``[T, d]`` of a scale.
    moments : Tensor, float64, shape [T, in, in], or [T, d] of a scale
        :math:`E[xx^\top]` over all tokens of a task's images; :math:`E[x^2]` of a scale.
    shape : torch.Size
        Shape in which the tensor is stored.
    transposed : bool
        Whether it is stored inputs first.
    """

    kind: Kind
    layer: Layer
    moments: Tensor
    shape: torch.Size
    transposed: bool = False

    def stored(self, result: Tensor) -> Tensor:
        """A result ``[out, in]`` in the shape and type in which the layer is merged."""
        result = result.mT if self.transposed else result
        return result.reshape(self.shape).to(self.layer.deltas.dtype)


def seen_inputs(
    experts: Experts, calibration: Calibration, merged: Mapping[str, Tensor] | None = None
) -> Iterator[Seen]:
    """Pass through the tower and yield its trained maps with the moments of their inputs.

    Each expert sees the images of its task. Moments of one block are held at a time, and the tokens
    of all images.

    Parameters
    ----------
    experts : Experts
        Base and experts; where they show query, key and value apart, each is yielded for itself.
    calibration : Calibration
        Images of the experts' tasks.
    merged : mapping of str to Tensor, optional
        State dict, with names as `experts` has them, that carries the tokens of all tasks from one
        block to the next, in place of the experts'. It is looked at when all maps of a block were
        yielded, so that a method can fill in the block that it has just merged.

    Raises
    ------
    CheckpointError
        If the checkpoints do not fit the backbone, or an input of an expert is not finite.
    """
    tape, weights = Tape(calibration.backbone), tower_weights(experts, calibration)
    cast = tape.tower.cast
    tokens = {task: cast(calibration.inputs[task], weights[task]) for task in experts.tasks}
    for stage in tape.stages():
        kinds: dict[str, Kind] = {}
        moments: dict[str, list[Tensor]] = {}
        following = {}
        for task in experts.tasks:
            following[task] = _observe(tape, stage, weights[task], tokens[task], kinds, moments)
            for key, rows in moments.items():
                if not torch.isfinite(rows[-1]).all():
                    raise CheckpointError(
                        f"expert {task!r}: what enters {key!r} on its images is NaN or infinite"
                    )
        for key, rows in moments.items():
            for layer in _trained_parts(experts, key):
                transposed = tape.tower.role(key) == "projection"
                yield _seen(kinds[key], layer, torch.stack(rows), transposed)
        if merged is not None:
            stored = named_like(merged, as_stored(experts.base))
            following = {task: _carry(stage, stored, x) for task, x in tokens.items()}
        tokens = following


@torch.no_grad()
def _observe(
    tape: Tape,
    stage: Stage,
    weights: Weights,
    tokens: Tensor,
    kinds: dict[str, Kind],
    moments: dict[str, list[Tensor]],
) -> Tensor:
    """Run a stage; append the moments of its maps; return its output."""
    sums: dict[str, Tensor] = {}
    count: dict[str, int] = {}
    outputs = []
    for batch in tokens.split(BATCH):
        tape.taps.clear()
        outputs.append(stage(weights, batch))
        for key, tap in tape.taps.items():
            if tap.kind == "words":
                continue
            x = tap.x.flatten(0, 1).double()
            moment = x.square().sum(0) if tap.kind == "scale" else x.T @ x
            sums[key] = sums[key] + moment if key in sums else moment
            count[key] = count.get(key, 0) + tap.count
            kinds[key] = tap.kind
    for key, total in sums.items():
        moments.setdefault(key, []).append(total / count[key])
    return joined(outputs)


@torch.no_grad()
def _carry(stage: Stage, weights: Weights, tokens: Tensor) -> Tensor:
    return joined([stage(weights, batch) for batch in tokens.split(BATCH)])


def _trained_parts(experts: Experts, key: str) -> Iterator[Layer]:
    """The tensor of that name, or what shows it (three parts, or a stack), if an expert changed it.

    A stack of three stored tensors, whose inputs are the same, is yielded with the first of them.
    """
    names = set(experts.trained)
    for name in (key, *(f"{key}[{part}]" for part in "qkv"), stack_of_query(key)):
        if name in names:
            yield experts.layer(name)


def _seen(kind: Kind, layer: Layer, moments: Tensor, transposed: bool) -> Seen:
    base, deltas = layer.base, layer.deltas
    if transposed:
        base, deltas = base.mT, deltas.mT
    elif kind == "patches":
        base, deltas = base.flatten(1), deltas.flatten(2)
    part = replace(layer, base=base, deltas=deltas)
    return Seen(kind, part, moments, layer.base.shape, transposed)
