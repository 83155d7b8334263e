"""Systems of equations with moments of activations."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

# Share of the largest eigenvalue of a second moment below which a direction counts as unseen.
# Activations in float32 are good to 1e-7 and their squares to 1e-14: less is rounding.
SEEN = 1e-8


def damp(moments: Tensor, off_diagonal: float) -> Tensor:
    """Moments ``[..., d, d]`` with all entries off the diagonal multiplied by a factor."""
    diagonal = torch.diagonal(moments, dim1=-2, dim2=-1)
    return off_diagonal * moments + (1 - off_diagonal) * torch.diag_embed(diagonal)


def solve(moment: Tensor, right: Tensor, cutoff: float = SEEN) -> Tensor:
    r"""The smallest X with :math:`X M = R`, where inputs were seen.

    Parameters
    ----------
    moment : Tensor, float64 [in, in]
        Symmetric M with eigenvalues of at least 0.
    right : Tensor, float64 [out, in]
        The right-hand side R, or the nearest that M can reach.
    cutoff : float
        Eigenvectors with less than this share of the largest eigenvalue are directions that no
        image has: X is zero along them. (:math:`X = R M^+`, the pseudo-inverse.)
    """
    values, vectors = torch.linalg.eigh(moment)
    there = values > cutoff * values[-1]  # none of a moment that is zero
    vectors = vectors[:, there]
    return right @ vectors / values[there] @ vectors.mT


def conjugate_gradients(
    operator: Callable[[Tensor], Tensor], right: Tensor, start: Tensor, iterations: int
) -> Tensor:
    """Approximate solution X of ``operator(X) = right``, symmetric with no negative eigenvalue.

    Parameters
    ----------
    operator : callable
        The linear map.
    right : Tensor, shape [*s]
        The right-hand side; in the range of the map.
    start : Tensor, shape [*s]
        Where to start. Along directions that the map sends to zero the result stays there.
    iterations : int
        At most so many steps; fewer once the residual is 1e-12 of the right-hand side.
    """
    x = start.clone()
    residual = right - operator(x)
    direction, size = residual.clone(), residual.square().sum()
    enough = 1e-24 * right.square().sum()
    for _ in range(iterations):
        image = operator(direction)
        curvature = (direction * image).sum()
        if size <= enough or curvature <= 0:
            break
        step = size / curvature
        x += step * direction
        residual -= step * image
        before, size = size, residual.square().sum()
        direction = residual + (size / before) * direction
    return x
