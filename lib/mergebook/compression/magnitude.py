"""Magnitude baselines of the TALL-masks paper [wang2024localizing]."""

from __future__ import annotations

from torch import Tensor

from mergebook.merged import MaskedModel, SparseModel
from mergebook.registry import model_method
from mergebook.registry.types import Density, Keep
from mergebook.weights import Experts, Layer, top_entries


@model_method(
    "magnitude_masking", title="Magnitude Masking", paper="wang2024localizing", family="compression"
)
def magnitude_masking(
    experts: Experts,
    *,
    density: Density = 0.1,
    keep: Keep = "k+1",
) -> MaskedModel:
    r"""Mask the sum of the task vectors where the task's own vector is largest.

    :math:`\hat\theta_t = \theta_0 + m_t \odot \sum_t \tau_t`, where :math:`m_t` marks the largest
    magnitudes of the whole :math:`\tau_t`; scale 1. The default density is that of the released
    code. Storage b(2P' + F) + T P' bits.
    """
    top = top_entries(experts, density, keep)

    def localise(layer: Layer) -> tuple[Tensor, Tensor]:
        return layer.total, top.mask(layer)

    return MaskedModel.build(experts, localise)


@model_method(
    "magnitude_pruning", title="Magnitude Pruning", paper="wang2024localizing", family="compression"
)
def magnitude_pruning(
    experts: Experts,
    *,
    density: Density = 0.1,
    keep: Keep = "k+1",
) -> SparseModel:
    r"""Keep the largest entries of each task's own vector.

    :math:`\hat\theta_t = \theta_0 + m_t \odot \tau_t` with the masks of
    :data:`magnitude_masking`. Our reading: the paper names this baseline, but neither the share
    it keeps nor its code is published. Storage b(P' + F + K) + T P' bits for K kept entries,
    their places as bitmaps.
    """
    return SparseModel.build(experts, top_entries(experts, density, keep).mask)
