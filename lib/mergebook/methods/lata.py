"""A counterpart of layer-aware task arithmetic for image encoders [chen2025lata]."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor

from mergebook.registry import merge_method
from mergebook.registry.types import Scale
from mergebook.weights import Experts, Layer, sum_tasks

Drop = Literal["linear", "logarithmic"]
DIGITS = 9  # similarities that agree to so many digits are equal


def shared_similarity(layer: Layer) -> Tensor:
    """Cosine of each task vector with their mean, ``[T]``; 0 where one of the two is zero."""
    vectors = layer.deltas.reshape(layer.num_tasks, -1).double()
    total = sum_tasks(vectors)
    norms = vectors.norm(dim=1) * total.norm()
    return torch.where(norms > 0, vectors @ total / norms, 0.0)


def prepare_lata(experts: Experts, drop: Drop) -> Mapping[str, Tensor]:
    """Weight of each task ``[T]`` in each tensor, from the ranks of the similarities."""
    similarity = {layer.name: shared_similarity(layer) for layer in experts}
    if not similarity:
        return {}
    table = torch.stack(list(similarity.values())).mul(10**DIGITS).round()  # [L, T]
    ranks = (table[None] >= table[:, None]).sum(1)
    num_layers = len(table)
    if drop == "linear":
        weights = ranks / num_layers
    else:
        weights = ranks.double().log1p() / math.log1p(num_layers)
    return dict(zip(similarity, weights, strict=True))


@merge_method(
    "lata",
    title="Layer-aware TA",
    paper="chen2025lata",
    status="analogue",
    prepare=prepare_lata,
    grid={"scale": (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)},
)
def lata(
    layer: Layer,
    state: Mapping[str, Tensor],
    *,
    scale: Scale = 0.4,
    drop: Drop = "linear",
) -> Tensor:
    r"""Task arithmetic with less of a task where its vector follows the mean of all.

    For task t, the L tensors are ranked by the cosine similarity of :math:`\tau_t^l` and
    :math:`\sum_s \tau_s^l`: :math:`r_t^l = 1` for the most similar one (of equal ones, the largest
    of their ranks). With :math:`g(r) = r/L`, or :math:`\ln(1 + r) / \ln(1 + L)`,

    .. math::

        \theta^l = \theta_0^l + \alpha \sum_t g(r_t^l)\, \tau_t^l.

    Parameters
    ----------
    scale : float, default 0.4
        The coefficient :math:`\alpha`; the weights are about 1/2 on average, so it is larger than
        that of task arithmetic.
    drop : {"linear", "logarithmic"}, default "linear"
        How the weight grows with the rank.

    Notes
    -----
    Our analogue. The paper [chen2025lata] merges instruction-tuned language models and compares
    each layer of a task vector with an *instruction vector*, which no image encoder has; the mean
    of the task vectors takes its place here as what the tasks share. Dropping by rank, linearly or
    logarithmically, is the paper's as far as summaries tell; the two functions g and "layer"
    meaning one tensor are ours. A single expert has nothing to compare with and keeps the
    weight 1. We know of no implementation elsewhere.

    Linear weights are computed in single precision, logarithmic ones in double: on checkpoints in
    float64 the linear ones are r/L to seven digits.
    """
    return layer.base + scale * sum_tasks(layer.deltas * layer.per_task(state[layer.name]))
