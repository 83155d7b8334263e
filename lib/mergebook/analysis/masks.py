"""What the masks of several tasks have in common, and where in the network they are active."""

from __future__ import annotations

import math
from typing import Literal, get_args

import pandas as pd
import torch

from mergebook.errors import ExperimentError, unknown
from mergebook.merged import MaskedModel
from mergebook.methods.lines import block_of
from mergebook.weights import Experts, Masks

Zeros = Literal["used", "unused"]
# Where in a transformer a tensor sits: the first fragment that its name contains decides.
KINDS = {
    "LayerNorm": "LayerNorm",
    "attn": "attention",
    "attention.": "attention",
    "mlp": "MLP",
    "intermediate.": "MLP",
    "output.dense": "MLP",
    "ln_": "LayerNorm",
    "norm": "LayerNorm",
}
ENDS = "embedding and projection"


def kind_of(name: str) -> str:
    """Sort of layer that a tensor belongs to: attention, MLP, LayerNorm, or the network's ends."""
    return next((kind for part, kind in KINDS.items() if part in name), ENDS)


def place_of(name: str) -> dict[str, object]:
    """Where a tensor sits: its ``kind`` and its ``block``, -1 outside of the blocks."""
    block = block_of(name)
    return {"kind": kind_of(name), "block": -1 if block is None else block}


def mask_use(masks: Masks) -> pd.DataFrame:
    """Count the active entries of each task's mask, tensor by tensor.

    Parameters
    ----------
    masks : Masks
        Masks of T tasks.

    Returns
    -------
    DataFrame
        Columns ``task``, ``tensor``, ``kind`` (see :func:`kind_of`), ``block`` (number of the
        transformer block, -1 outside of the blocks), ``used`` and ``entries``.
    """
    rows = [
        {
            "task": task,
            "tensor": key,
            **place_of(key),
            "used": used,
            "entries": math.prod(masks.shapes[key]),
        }
        for key in masks.shapes
        for task, used in zip(masks.tasks, masks.used(key).tolist(), strict=True)
    ]
    return pd.DataFrame(rows)


def agreement(model: MaskedModel, zeros: Zeros = "used") -> pd.Series:
    """Share of the entries that exactly k of the T tasks use.

    Parameters
    ----------
    model : MaskedModel
        Masks over one merged vector.
    zeros : {"used", "unused"}, default "used"
        What to make of entries at which the merged vector is zero. There the rule of the TALL mask
        compares a task's change with a multiple of itself, so that at thresholds below 1 every task
        that changed the weight "uses" it, to no effect. ``"used"`` takes the masks as they are, as
        the paper's figure seems to; ``"unused"`` counts these entries as used by no task.

    Returns
    -------
    Series
        Indexed by k = 0, ..., T; sums to 1.

    Raises
    ------
    ExperimentError
        If `zeros` is neither, or the masks span nothing.
    """
    if zeros not in get_args(Zeros):
        raise ExperimentError(unknown("reading of zeros", zeros, get_args(Zeros)))
    if not model.masks.num_entries:
        raise ExperimentError("the masks span no entry: no expert differs from the base")
    largest = len(model.tasks)
    counts = torch.zeros(largest + 1, dtype=torch.int64)
    for key in model.masks.shapes:
        votes = model.masks.counts(key)
        if zeros == "unused":
            votes = votes * (model.vector[key] != 0).to(votes)
        counts += torch.bincount(votes.flatten(), minlength=largest + 1)
    shares = counts.double() / model.masks.num_entries
    return pd.Series(shares.numpy(), pd.RangeIndex(largest + 1, name="k"), name="share")


def categories(shares: pd.Series) -> pd.Series:
    """Sum an agreement profile into the categories of [wang2024localizing]_.

    Parameters
    ----------
    shares : Series
        What :func:`agreement` returns, for at least two tasks.

    Returns
    -------
    Series
        ``catastrophic`` (used by no task), ``selfish`` (by one), ``general`` (by two or more) and
        ``universal`` (by all, a part of ``general``).
    """
    if len(shares) < 3:
        raise ExperimentError(f"categories need at least two tasks, got {len(shares) - 1}")
    values = shares.to_numpy()
    return pd.Series(
        {
            "catastrophic": values[0],
            "selfish": values[1],
            "general": values[2:].sum(),
            "universal": values[-1],
        }
    )


def _jaccard(one: Masks, task: str, other: Masks, second: str) -> float:
    """Entries in a task's mask and in that of another set, over entries in either."""
    both = either = 0.0
    for key in one.shapes:
        left, right = one.mask(task, key), other.mask(second, key)
        both += float((left & right).sum())
        either += float((left | right).sum())
    return both / either if either else float("nan")


def overlap(one: Masks, other: Masks) -> pd.DataFrame:
    """Compare the masks that two sets of experts give for the same tasks.

    Parameters
    ----------
    one, other : Masks
        Over the same tensors; tasks that only one of them has are left out.

    Returns
    -------
    DataFrame
        Indexed by task: ``jaccard``, entries in both masks over entries in either; ``chance``,
        what it would be on average for masks of the same densities that know nothing of each
        other, tensor by tensor; and ``other_tasks``, the mean of ``jaccard`` over all pairs of
        this task's mask in `one` with another task's in `other` (NaN if there is one task only).

    Raises
    ------
    ExperimentError
        If they have no task in common, or their tensors differ.
    """
    tasks = [task for task in one.tasks if task in other.tasks]
    if not tasks or one.shapes != other.shapes:
        raise ExperimentError("the masks have no task in common, or span different tensors")
    rows = {}
    for task in tasks:
        by_chance = total = 0.0
        for key in one.shapes:
            left, right = one.mask(task, key), other.mask(task, key)
            by_chance += float(left.sum()) * float(right.sum()) / max(left.numel(), 1)
            total += float(left.sum()) + float(right.sum())
        others = [_jaccard(one, task, other, else_) for else_ in tasks if else_ != task]
        rows[task] = {
            "jaccard": _jaccard(one, task, other, task),
            "chance": by_chance / (total - by_chance) if total else float("nan"),
            "other_tasks": sum(others) / len(others) if others else float("nan"),
        }
    return pd.DataFrame(rows).T.rename_axis("task")


def distance_to_experts(model: MaskedModel, experts: Experts) -> pd.Series:
    r"""L1 distance between what a mask rebuilds and the expert, over that of the base.

    Parameters
    ----------
    model : MaskedModel
        Masks over one merged vector.
    experts : Experts
        The experts that it was made from.

    Returns
    -------
    Series
        Indexed by task: :math:`\lVert\hat\theta_t-\theta_t\rVert_1 / \lVert\tau_t\rVert_1`; 0 is
        the expert, 1 no better than the base.
    """
    away, length = (dict.fromkeys(model.tasks, 0.0) for _ in range(2))
    for layer in experts:
        vector = model.vector[layer.name]
        for task, delta in zip(layer.tasks, layer.deltas, strict=True):
            rebuilt = torch.where(model.masks.mask(task, layer.name), vector, 0.0)
            away[task] += float((rebuilt - delta).abs().sum())
            length[task] += float(delta.abs().sum())
    shares = {task: away[task] / length[task] for task in model.tasks if length[task]}
    return pd.Series(shares, name="distance").rename_axis("task")
