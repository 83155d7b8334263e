"""Adaptive weight disentanglement: task vectors without what they share [xiong2024awd]."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from torch import Tensor

from mergebook.learning.disentangling import disentangle, inner_products
from mergebook.registry import Range, merge_method
from mergebook.registry.types import Scale, Steps
from mergebook.weights import Experts, Layer, sum_tasks

Scope = Literal["model", "layer"]


def prepare_awd(
    experts: Experts, penalty: float, lr: float, steps: int, scope: Scope
) -> Tensor | None:
    """Coefficients ``[T]`` of the model's redundant vector; None if each layer has its own."""
    if scope == "layer":
        return None
    products = torch.zeros(len(experts.tasks), len(experts.tasks), dtype=torch.float64)
    for layer in experts:
        products += inner_products(layer).cpu()
    return disentangle(products, penalty, lr, steps)


@merge_method(
    "awd",
    title="AWD TA",
    paper="xiong2024awd",
    status="our reading",
    prepare=prepare_awd,
    grid={"scale": (0.1, 0.2, 0.3, 0.4, 0.5, 0.6)},
)
def awd(
    layer: Layer,
    state: Tensor | None,
    *,
    scale: Scale = 0.3,
    penalty: Annotated[float, Range(0, 10)] = 0.1,
    lr: Annotated[float, Range(0, 1)] = 0.01,
    steps: Steps = 300,
    scope: Scope = "model",
) -> Tensor:
    r"""Remove one redundant vector from all task vectors, so that they become orthogonal; add up.

    The vector :math:`\delta` comes from gradient descent from zero (rate :math:`\beta`) on

    .. math:: \frac1{T(T-1)} \sum_{i \ne j} |\cos(\tau_i - \delta, \tau_j - \delta)|
        + \gamma \|\delta\|_2 , \qquad
        \theta = \theta_0 + \alpha \sum_t (\tau_t - \delta) .

    It stays in the span of the task vectors, :math:`\delta = \sum_t c_t \tau_t`. So it is found
    exactly from their T x T inner products, which one pass over the layers collects, and the
    result is task arithmetic with a coefficient :math:`\alpha (1 - T c_t)` per task.
    :math:`c_t = 1/T` would be the centring of :data:`mergebook.methods.cart.cart`.

    Parameters
    ----------
    penalty : float, default 0.1
        Weight :math:`\gamma` of the length of the redundant vector.
    lr : float, default 0.01
        Rate :math:`\beta`.
    steps : int, default 300
        Steps of the descent.
    scope : {"model", "layer"}, default "model"
        Whether cosines and lengths are those of the whole task vectors or of each tensor.

    Notes
    -----
    Our reading: the paper's text could not be checked beyond its objective, and its repository
    holds no code. The form of the loss, plain gradient descent and the values of `penalty`, `lr`
    and `steps` follow a third party's script that cites the paper; whether the cosine is that of
    the whole vector is not certain, hence `scope`. With an optimiser that rescales entries, such
    as Adam, the vector would leave the span. A cosine with a vector of zeros counts as 0.
    """
    redundant = state
    if redundant is None:
        redundant = disentangle(inner_products(layer), penalty, lr, steps)
    weights = scale * (1 - layer.num_tasks * redundant)
    return layer.base + sum_tasks(layer.deltas * layer.per_task(weights))
