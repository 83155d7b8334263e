"""Gradient descent on the vector that task vectors share: what AWD takes from them."""

from __future__ import annotations

import torch
from torch import Tensor

from mergebook.weights import Layer
from mergebook.weights.spectral import NULL

PARALLEL = 1e-10  # distance of a cosine from 1 at which two vectors count as parallel


def inner_products(layer: Layer) -> Tensor:
    """Inner products ``[T, T]`` of the task vectors of a layer, in float64."""
    rows = layer.deltas.reshape(layer.num_tasks, layer.numel)
    products = torch.empty(len(rows), len(rows), dtype=torch.float64, device=rows.device)
    for t, row in enumerate(rows):
        row = row.double()
        for u in range(t, len(rows)):
            products[t, u] = products[u, t] = row @ rows[u].double()
    return products


def disentangle(products: Tensor, penalty: float, lr: float, steps: int) -> Tensor:
    r"""Coefficients ``[T]`` of the redundant vector, :math:`\delta = \sum_t c_t \tau_t`.

    Gradient descent from zero on the loss of :data:`mergebook.methods.awd.awd`. The gradient is a
    combination of the :math:`\tau_t - \delta` and of :math:`\delta`, hence of task vectors: the
    descent takes place in their span, where T points with the same inner products stand for them.

    Parameters
    ----------
    products : Tensor, shape [T, T]
        Inner products of the task vectors, float64.
    penalty, lr, steps : float, float, int
        See :data:`mergebook.methods.awd.awd`.
    """
    squares, axes = torch.linalg.eigh(products)
    least = NULL**2 * float(squares.max())
    there = squares > least
    lengths, axes = squares[there].sqrt(), axes[:, there]
    points = axes * lengths  # [T, dimensions of the span]
    redundant = torch.zeros_like(lengths)
    pairs = max(1, len(points) * (len(points) - 1))
    for _ in range(steps):
        apart = points - redundant
        inner = apart @ apart.mT
        inverse = _inverse(inner.diagonal(), least)
        cosine = (inner * inverse * inverse[:, None]).fill_diagonal_(0)
        cosine[cosine.abs() > 1 - PARALLEL] = 0  # no gradient there; rounding would make one up
        # What |cos(i, j)| gives to apart[i]; it gives as much to apart[j], hence the factor 2.
        pull = cosine.abs() * inverse.square()[:, None] - cosine.sign() * inverse * inverse[:, None]
        gradient = 2 * pull.sum(1) @ apart / pairs
        gradient += penalty * redundant * _inverse(redundant @ redundant, 0)
        redundant = redundant - lr * gradient
    return axes @ (redundant / lengths)


def _inverse(squares: Tensor, least: float) -> Tensor:
    """One over a length, from its square; 0 for a length of zero."""
    return torch.where(squares > least, squares, torch.inf).rsqrt()
