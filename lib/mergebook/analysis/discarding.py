"""What a task vector can lose: entries, by size or at random, and what is left of their sizes."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from mergebook.compression.t_switch import magnitude
from mergebook.errors import ParameterError, unknown
from mergebook.weights import Experts

Which = Literal["lowest", "highest", "random"]
Per = Literal["row", "tensor", "model"]
ORDERS = ("lowest", "highest", "random")
SCOPES = ("row", "tensor", "model")


def discard(
    experts: Experts,
    drop: float,
    which: Which = "lowest",
    *,
    rescale: bool = False,
    tensors: Callable[[str], bool] = lambda name: True,
    seed: int = 0,
) -> Experts:
    """Set a share of each task vector's entries to zero.

    Tensor by tensor, and apart for positive and negative entries, of n entries n - floor(n (1 -
    `drop`)) are discarded: those of smallest magnitude (P-Discard [qi2025tswitch]), those of
    largest, or random ones (as DARE [yu2024dare], but with an exact share). Among equal ones the
    last in the order of the tensor go first.

    Parameters
    ----------
    experts : Experts
    drop : float
        Discarded share, 0 to 1.
    which : {"lowest", "highest", "random"}, default "lowest"
    rescale : bool, default False
        Divide what is kept by 1 - `drop`, as DARE does.
    tensors : callable, optional
        ``tensors(name)``: whether a tensor loses entries; all do by default.
    seed : int, default 0
        Of random choices, which depend neither on other tasks nor on other tensors.

    Returns
    -------
    Experts
        Base plus what is left of each task vector, in memory.

    Raises
    ------
    ParameterError
        If `drop` is no share, if `which` is unknown, or if everything would be discarded and the
        rest, which is nothing, rescaled.
    """
    if which not in ORDERS:
        raise ParameterError(unknown("order", which, ORDERS))
    if not 0 <= drop <= 1 or (rescale and drop == 1):
        raise ParameterError(f"drop must be from 0 to 1, below 1 with rescale; got {drop}")

    def thin(name: str, task: str, delta: Tensor) -> Tensor:
        if not tensors(name):
            return delta
        order = delta.abs() if which == "lowest" else -delta.abs()
        if which == "random":
            own = zlib.crc32(f"{task}/{name}/{seed}".encode())
            order = torch.rand(delta.shape, generator=torch.Generator().manual_seed(own))
        kept = _first(order, delta > 0, drop) | _first(order, delta < 0, drop)
        return delta * kept / (1 - drop if rescale else 1)

    return _changed(experts, thin)


def binarise(experts: Experts, *, per: Per = "tensor") -> Experts:
    """Replace each task vector's entries that are not zero by their sign times one number.

    The number gives back the L2 norm of a row, of a tensor (as T-Switch has it [qi2025tswitch]), or
    of the whole vector.

    Parameters
    ----------
    experts : Experts
        Such as :func:`discard` returns them.
    per : {"row", "tensor", "model"}, default "tensor"
        What shares a number. A tensor of one dimension is one row.

    Raises
    ------
    ParameterError
        If `per` is unknown.
    """
    if per not in SCOPES:
        raise ParameterError(unknown("scope", per, SCOPES))
    total = {task: torch.zeros(2, dtype=torch.float64) for task in experts.tasks}
    for layer in experts if per == "model" else ():
        for task, delta in zip(experts.tasks, layer.deltas, strict=True):
            total[task] += _sums(delta.flatten())

    def flatten(name: str, task: str, delta: Tensor) -> Tensor:
        rows = delta.reshape(len(delta), -1) if per == "row" and delta.ndim > 1 else delta.flatten()
        squares, kept = total[task] if per == "model" else _sums(rows).unbind(-1)
        knob = magnitude(squares, kept).to(delta)
        return (rows.sign() * knob[..., None]).reshape(delta.shape)

    return _changed(experts, flatten)


def _sums(rows: Tensor) -> Tensor:
    """Sum of squares, and number of entries that are not zero: float64 ``[*s, 2]``."""
    return torch.stack([rows.double().square().sum(-1), (rows != 0).double().sum(-1)], -1)


def _first(order: Tensor, side: Tensor, drop: float) -> Tensor:
    """The share of one side's entries that is kept, those of highest `order`: bool ``[*s]``."""
    places = side.flatten().nonzero().squeeze(1)
    ranked = places[order.flatten()[places].sort(descending=True, stable=True).indices]
    kept = torch.zeros(side.numel(), dtype=torch.bool)
    kept[ranked[: int(len(places) * (1 - drop))]] = True
    return kept.reshape(side.shape)


def _changed(experts: Experts, change: Callable[[str, str, Tensor], Tensor]) -> Experts:
    """Experts whose task vectors are those that `change` makes of them."""
    weights = {task: dict(experts.expert(task)) for task in experts.tasks}
    for layer in experts:
        base = experts.base[layer.name]
        for task, delta in zip(experts.tasks, layer.deltas, strict=True):
            own = change(layer.name, task, delta)
            if own is not delta:
                weights[task][layer.name] = (base.to(own.dtype) + own).to(base.dtype)
    return Experts(
        experts.base,
        weights,
        entries=experts.entries,
        frozen_extra=experts.frozen_extra,
        backbone=experts.backbone,
        progress=experts.progress,
    )
