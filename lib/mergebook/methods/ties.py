"""TIES-Merging: trim, elect signs, merge what agrees [yadav2023ties]."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor

from mergebook.methods.task_arithmetic import SCALES
from mergebook.registry import merge_method
from mergebook.registry.types import Density, Keep, Scale
from mergebook.weights import Experts, Layer, TopEntries, sum_tasks, top_entries

Combine = Literal["mean", "sum"]


@dataclass(frozen=True)
class TiesState:
    """What TIES knows about the whole model before it merges a layer.

    Attributes
    ----------
    top : TopEntries
        The entries of each task vector that survive trimming.
    experts : Experts
        The task vectors.
    """

    top: TopEntries
    experts: Experts

    @cached_property
    def majority(self) -> int:
        """Sign (-1, 0 or 1) of the sum of all elected signs: the sign of entries that cancel.

        A pass over the layers, made when the first entry cancels: few models have one.
        """
        signs = sum(int(sum_tasks(self.top.trim(layer)).sign().sum()) for layer in self.experts)
        return (signs > 0) - (signs < 0)


def prepare_ties(experts: Experts, density: float, keep: Keep) -> TiesState:
    """Thresholds of all tasks, in streaming passes over the layers."""
    return TiesState(top_entries(experts, density, keep), experts)


def elected(layer: Layer, state: TiesState) -> Tensor:
    """What TIES keeps of each task vector ``[T, *s]``: trimmed, and of the elected sign."""
    trimmed = state.top.trim(layer)
    sign = sum_tasks(trimmed).sign()
    cancelled = (sign == 0) & trimmed.any(0)
    if cancelled.any():
        sign[cancelled] = state.majority
    return torch.where(trimmed * sign > 0, trimmed, 0.0)


def ties_vector(layer: Layer, state: TiesState, combine: Combine) -> Tensor:
    """Merged task vector ``[*s]``: of each entry, the trimmed values with the elected sign."""
    kept = elected(layer, state)
    merged = sum_tasks(kept)
    if combine == "mean":
        merged /= kept.count_nonzero(0).clamp_(min=1)
    return merged


@merge_method(
    "ties", title="TIES", paper="yadav2023ties", prepare=prepare_ties, grid={"scale": SCALES}
)
def ties(
    layer: Layer,
    state: TiesState,
    *,
    scale: Scale = 1.0,
    density: Density = 0.2,
    combine: Combine = "mean",
    keep: Keep = "k+1",
) -> Tensor:
    r"""Trim small entries, elect a sign per entry, merge the values that agree with it.

    1. Trim: :math:`\hat\tau_t` keeps the largest magnitudes of the whole task vector (not of each
       tensor) and is zero elsewhere.
    2. Elect: :math:`\gamma_i = \mathrm{sgn}(\sum_t \hat\tau_{t,i})`; where the sum is exactly zero,
       the sign of :math:`\sum_i \gamma_i`.
    3. Merge: :math:`\tau_i` is the mean (or sum) of the :math:`\hat\tau_{t,i}` with sign
       :math:`\gamma_i`; :math:`\theta = \theta_0 + \alpha\tau`.

    Should :math:`\sum_i \gamma_i` be zero as well, no value agrees and a cancelling entry stays at
    the base; the released code then keeps the negative values.

    Parameters
    ----------
    scale : float, default 1.0
        The coefficient :math:`\alpha` (about 1 for the mean, about 0.3 for the sum).
    combine : {"mean", "sum"}, default "mean"
        Mean as in the TIES paper; sum as in the masks and the consensus of the TALL-masks code.
    """
    return layer.base + scale * ties_vector(layer, state, combine)
