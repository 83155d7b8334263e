"""DARE: drop random entries of the task vectors, rescale the rest, then merge [yu2024dare]."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated
from zlib import crc32

import numpy as np
import torch
from torch import Tensor

from mergebook.methods.task_arithmetic import SCALES
from mergebook.methods.ties import Combine, TiesState, prepare_ties, ties_vector
from mergebook.registry import Range, merge_method
from mergebook.registry.types import Density, Keep, Scale, Seed
from mergebook.weights import ChangedLayers, Experts, Layer, sum_tasks


def thin(layer: Layer, drop: float, seed: int) -> Layer:
    """Set random entries of the task vectors to zero; the others stay as they are.

    Each task and tensor has its own random numbers, so that neither the order of the tensors nor
    the company of other experts matters: NumPy's default generator, seeded with the list of `seed`
    and the CRC-32 of the names of the task and of the tensor, draws one float32 in [0, 1) per
    entry; an entry is kept where the number is at least `drop`.

    Parameters
    ----------
    drop : float
        Probability of being set to zero.
    seed : int
        Seed.

    Returns
    -------
    Layer
        The same base, and the thinned task vectors.
    """
    deltas = torch.empty_like(layer.deltas)
    for thinned, delta, task in zip(deltas, layer.deltas, layer.tasks, strict=True):
        names = [crc32(name.encode()) for name in (task, layer.name)]
        chance = np.random.default_rng([seed, *names]).random(delta.numel(), dtype=np.float32)
        kept = torch.from_numpy(chance >= drop).reshape(delta.shape)
        torch.mul(delta, kept.to(delta), out=thinned)
    return replace(layer, deltas=deltas)


def rescaled(scale: float, drop: float) -> float:
    """Scale times 1 / (1 - p); zero if everything was dropped."""
    return scale / (1 - drop) if drop < 1 else 0.0


@merge_method("dare_ta", title="DARE TA", paper="yu2024dare", grid={"scale": SCALES})
def dare_ta(
    layer: Layer,
    *,
    scale: Scale = 0.3,
    drop: Annotated[float, Range(0, 1)] = 0.5,
    seed: Seed = 0,
) -> Tensor:
    r"""Task arithmetic on randomly thinned task vectors.

    :math:`\theta = \theta_0 + \alpha \sum_t \frac{m_t \odot \tau_t}{1 - p}` where every entry of
    the masks :math:`m_t` is 0 with probability :math:`p`, else 1: each thinned vector is, on
    average, the task vector itself [yu2024dare]. p = 0 is task arithmetic.

    Parameters
    ----------
    drop : float, default 0.5
        The probability p. The paper goes to 0.9 and beyond with language models; 0.5 is what
        FusionBench sets for CLIP. At 1 nothing is left, and the base comes back.
    seed : int, default 0
        Seed of the masks; see :func:`thin` for the rule.

    Notes
    -----
    mergekit draws its masks per tensor as well but rescales a thinned tensor to the L1 norm it had
    before, which on small tensors is far from 1 / (1 - p); peft divides by the density as here.
    Results vary with the seed: compare several.
    """
    return layer.base + rescaled(scale, drop) * sum_tasks(thin(layer, drop, seed).deltas)


def prepare_dare_ties(
    experts: Experts, drop: float, seed: int, density: float, keep: Keep
) -> TiesState:
    """What TIES must know of the whole model, once the task vectors are thinned."""
    thinned = ChangedLayers(experts, lambda layer: thin(layer, drop, seed))
    return prepare_ties(thinned, density, keep)


@merge_method(
    "dare_ties",
    title="DARE TIES",
    paper="yu2024dare",
    prepare=prepare_dare_ties,
    grid={"scale": SCALES},
)
def dare_ties(
    layer: Layer,
    state: TiesState,
    *,
    scale: Scale = 0.5,
    drop: Annotated[float, Range(0, 1)] = 0.5,
    density: Density = 0.2,
    combine: Combine = "mean",
    keep: Keep = "k+1",
    seed: Seed = 0,
) -> Tensor:
    r"""TIES on randomly thinned task vectors.

    :data:`mergebook.methods.ties.ties` of the vectors :math:`m_t \odot \tau_t / (1 - p)` of
    :data:`dare_ta` [yu2024dare]. TIES commutes with a common factor, so 1 / (1 - p) is applied at
    the end. p = 0 is TIES.

    Parameters
    ----------
    scale : float, default 0.5
        The coefficient :math:`\alpha`. Half of what suits TIES: at p = 0.5 what is left is doubled.
    drop : float, default 0.5
        The probability p.
    density : float, default 0.2
        Share of the entries that trimming keeps after the thinning. Entries dropped before count
        as zeros: where drop > 1 - density, trimming removes none of the others.
    combine : {"mean", "sum"}, default "mean"
        How TIES combines the values that agree.
    seed : int, default 0
        Seed of the masks; see :func:`thin` for the rule.

    Notes
    -----
    MergeLM (the authors) and FusionBench thin, then run all of TIES with its global trimming, as
    here (FusionBench: sum, scale 0.5). In mergekit and peft the thinning stands in place of the
    trimming: that is density = 1 here, but for mergekit's own rescaling.
    """
    vector = ties_vector(thin(layer, drop, seed), state, combine)
    return layer.base + rescaled(scale, drop) * vector
