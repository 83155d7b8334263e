"""TALL masks and the merge of what several tasks use, Consensus [wang2024localizing]."""

from __future__ import annotations

from typing import Annotated
from zlib import crc32

import numpy as np
import torch
from torch import Tensor

from mergebook.methods.task_arithmetic import SCALES
from mergebook.methods.ties import TiesState, prepare_ties, ties_vector
from mergebook.registry import PerTask, Range, merge_method
from mergebook.registry.types import Density, Keep, Scale, Seed, Threshold
from mergebook.weights import Layer

Votes = Annotated[int, Range(0, 1000), "Least number of tasks that must use a weight."]
Shuffled = Annotated[
    bool,
    "A control of ours: in each tensor, keep as many entries as the votes would, at random.",
]


def tall_mask(layer: Layer, vector: Tensor, threshold: PerTask, *, strict: bool = True) -> Tensor:
    r"""Masks ``[T, *s]``: :math:`|\tau_t| > \lambda_t |\tau_{MTL} - \tau_t|`.

    Parameters
    ----------
    layer : Layer
        Task vectors ``[T, *s]``, not trimmed.
    vector : Tensor, shape [*s]
        Merged task vector :math:`\tau_{MTL}`, not scaled.
    threshold : float or mapping of task to float
        The thresholds :math:`\lambda_t`.
    strict : bool, default True
        ``>`` as in the released code, or ``>=`` as in the paper's formula.

    Returns
    -------
    Tensor
        Boolean masks.
    """
    magnitude = layer.deltas.abs()
    distance = (vector - layer.deltas).abs_().mul_(layer.per_task(threshold))
    return magnitude > distance if strict else magnitude >= distance


def consensus(
    layer: Layer, vector: Tensor, k: int, threshold: PerTask, shuffled: bool, seed: int
) -> Tensor:
    r"""Part of a merged vector ``[*s]`` that the TALL masks of at least k tasks select.

    Shuffled, as many entries of the layer are selected at random: NumPy's default generator, seeded
    with the list of `seed` and the CRC-32 of the layer's name, permutes the selection.
    """
    chosen = tall_mask(layer, vector, threshold).sum(0) >= k
    if shuffled:
        generator = np.random.default_rng([seed, crc32(layer.name.encode())])
        order = torch.from_numpy(generator.permutation(chosen.numel()))
        chosen = chosen.flatten()[order.to(chosen.device)].reshape(chosen.shape)
    return torch.where(chosen, vector, 0.0)


@merge_method(
    "consensus_ta", title="Consensus TA", paper="wang2024localizing", grid={"scale": SCALES}
)
def consensus_ta(
    layer: Layer,
    *,
    scale: Scale = 0.3,
    k: Votes = 2,
    threshold: Threshold = 0.4,
    shuffled: Shuffled = False,
    seed: Seed = 0,
) -> Tensor:
    r"""Task arithmetic without the weights that too few tasks use.

    :math:`\theta = \theta_0 + \alpha\, 1\{\sum_t m_t \ge k\} \odot \sum_t \tau_t` with the TALL
    masks :math:`m_t` of :data:`mergebook.compression.tall_masks.tall_ta` [wang2024localizing,
    sec. 5]. k = 0 is task arithmetic, k = 1 drops weights that no task uses ("catastrophic"), k = 2
    also those of a single task ("selfish"), k > T is zero-shot.
    """
    return layer.base + scale * consensus(layer, layer.total, k, threshold, shuffled, seed)


@merge_method(
    "consensus_ties",
    title="Consensus TIES",
    paper="wang2024localizing",
    prepare=prepare_ties,
    grid={"scale": SCALES},
)
def consensus_ties(
    layer: Layer,
    state: TiesState,
    *,
    scale: Scale = 0.3,
    k: Votes = 2,
    threshold: Threshold = 0.4,
    density: Density = 0.2,
    keep: Keep = "k+1",
    shuffled: Shuffled = False,
    seed: Seed = 0,
) -> Tensor:
    r"""TIES (disjoint sum) without the weights that too few tasks use.

    As :data:`consensus_ta`, with the TIES vector in place of the sum, both in the masks and in the
    result. k = 0 is TIES with ``combine="sum"``.
    """
    return layer.base + scale * consensus(
        layer, ties_vector(layer, state, "sum"), k, threshold, shuffled, seed
    )
