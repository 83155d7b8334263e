"""Model Breadcrumbs: leave out the largest and the smallest changes [davari2024breadcrumbs]."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from torch import Tensor

from mergebook.registry import Range, merge_method
from mergebook.registry.types import Density, Scale
from mergebook.weights import Layer


def largest(magnitude: Tensor, k: int) -> Tensor:
    """Mask of the k largest values of each row ``[R, n]``; of equal ones the first are taken."""
    rows, n = magnitude.shape
    if k <= 0 or rows == 0:
        return torch.zeros_like(magnitude, dtype=torch.bool)
    threshold = magnitude.kthvalue(max(1, n - k + 1), dim=1, keepdim=True).values
    mask = magnitude >= threshold
    if (mask.sum(1) > k).any():
        equal = magnitude == threshold
        mask &= ~equal
        mask |= equal & (equal.cumsum(1) <= k - mask.sum(1, keepdim=True))
    return mask


def middle(vectors: Tensor, density: float, outliers: float) -> Tensor:
    """Keep the medium magnitudes of each row ``[R, n]``; zero elsewhere.

    The int(outliers * n) largest are removed, the int(density * n) next are kept. Of equal
    magnitudes the first counts as the largest.
    """
    n = vectors.shape[1]
    removed = int(outliers * n)
    magnitude = vectors.abs()
    kept = largest(magnitude, removed + int(density * n)) & ~largest(magnitude, removed)
    return vectors * kept


@merge_method(
    "breadcrumbs",
    title="Model Breadcrumbs",
    paper="davari2024breadcrumbs",
    grid={"scale": (0.2, 0.3, 0.4, 0.5, 0.6, 0.8), "outliers": (0.01, 0.1)},
)
def breadcrumbs(
    layer: Layer,
    *,
    scale: Scale = 0.4,
    density: Density = 0.2,
    outliers: Annotated[float, Range(0, 1)] = 0.1,
    over: Literal["tensor", "rows"] = "tensor",
) -> Tensor:
    r"""Add up the task vectors without their largest and their smallest entries.

    :math:`\theta = \theta_0 + \alpha \sum_t m_t \odot \tau_t` where the mask :math:`m_t` leaves
    out, in each tensor, the share :math:`\gamma` with the largest magnitudes and keeps the share
    :math:`\beta` that follows [davari2024breadcrumbs]. Shares are of the whole tensor, rounded
    down; a scalar is kept.

    Parameters
    ----------
    density : float, default 0.2
        The kept share :math:`\beta`; what remains after the outliers is the most there is.
    outliers : float, default 0.1
        The share :math:`\gamma` of largest magnitudes that is removed first.
    over : {"tensor", "rows"}, default "tensor"
        Where the shares are taken: over a tensor, as the paper says, or over each row (the last
        axis), as the released code does.

    Notes
    -----
    The defaults are the example of the released code, for two tasks. It can also remove the
    outliers after the selection, which no script uses. mergekit works per tensor and, where
    density and outliers add up to more than 1, removes fewer outliers so as to reach the density;
    here the outliers stay removed, as in the released code. The accuracies of the paper's figures
    are normalised ones.
    """
    if layer.ndim == 0:
        return layer.base + scale * layer.total
    width = layer.base.shape[-1] if over == "rows" else layer.numel
    rows = -1 if layer.numel else 0
    total = torch.zeros_like(layer.base)
    for delta in layer.deltas:  # one task at a time: selection needs a multiple of its memory
        total += middle(delta.reshape(rows, width), density, outliers).reshape(delta.shape)
    return layer.base + scale * total
