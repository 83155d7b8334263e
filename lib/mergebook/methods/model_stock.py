"""Model Stock: how far to go from the base to the average, by the angle of the experts."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from mergebook.registry import merge_method
from mergebook.weights import Experts, Layer

Over = Literal["tensor", "vector"]


def gram(vectors: Tensor) -> Tensor:
    """Inner products of vectors ``[T, *s]``: float64 ``[T, T]``."""
    flat = vectors.reshape(len(vectors), -1).double()
    return flat @ flat.T


def interpolation_ratio(products: Tensor) -> float:
    """Share t of the average, 0 to 1, from the inner products ``[T, T]`` of the task vectors."""
    num_tasks = len(products)
    if num_tasks == 1:
        return 1.0
    norms = products.diagonal().sqrt()
    sizes = torch.outer(norms, norms)
    cosines = torch.where(sizes > 0, products / sizes, 0.0).fill_diagonal_(0)
    cosine = float(cosines.sum()) / (num_tasks * (num_tasks - 1))
    cosine = min(max(cosine, 0.0), 1.0)
    return num_tasks * cosine / (1 + (num_tasks - 1) * cosine)


def prepare_model_stock(experts: Experts, over: Over) -> float | None:
    """Share of the average for the whole model; None if each tensor has its own."""
    if over == "tensor":
        return None
    products = torch.zeros(len(experts.tasks), len(experts.tasks), dtype=torch.float64)
    for layer in experts:
        products += gram(layer.deltas).cpu()
    return interpolation_ratio(products)


@merge_method(
    "model_stock",
    title="Model Stock",
    paper="jang2024modelstock",
    status="our reading",
    prepare=prepare_model_stock,
)
def model_stock(layer: Layer, state: float | None, *, over: Over = "tensor") -> Tensor:
    r"""Stop between the base and the average of the experts, earlier the less they agree.

    .. math::

        \theta = (1 - t)\, \theta_0 + t\, \frac1T \sum_t \theta_t, \qquad
        t = \frac{T c}{1 + (T - 1)\, c},

    with c the mean cosine of the angles between pairs of task vectors [jang2024modelstock]. Equal
    experts give the average (t = 1), orthogonal ones the base (t = 0). One expert is returned as
    it is.

    Parameters
    ----------
    over : {"tensor", "vector"}, default "tensor"
        Angles, and hence t, for each tensor or for the whole task vector.

    Notes
    -----
    Made for runs of one task from different seeds. Task vectors of different tasks are almost
    orthogonal, so that here the result stays near the base: a reference for what an angle alone
    can tell, not a contender.

    The formula takes all angles and lengths to be equal. For unequal ones the mean of the pairwise
    cosines is mergekit's choice and ours (mergekit: per tensor or, as an option, per row; it needs
    two experts at least). A negative c would step away from the experts, without bound near
    c = -1 / (T - 1); here c is at least 0, mergekit has no such bound. A zero vector counts as
    orthogonal to all others.
    """
    ratio = interpolation_ratio(gram(layer.deltas)) if state is None else state
    return layer.base + ratio * (layer.total / layer.num_tasks)
