"""Isotropic merging: equal weight to all directions of the merged vector [marczak2025isotropic]."""

from __future__ import annotations

from typing import Annotated

import torch
from torch import Tensor

from mergebook.methods.tsv import AROUND_ONE
from mergebook.registry import Range, merge_method
from mergebook.registry.types import Scale
from mergebook.weights import Layer
from mergebook.weights.spectral import is_matrix, polar, triplets


@merge_method(
    "iso_c", title="Iso-C", paper="marczak2025isotropic", qkv="fused", grid={"scale": AROUND_ONE}
)
def iso_c(layer: Layer, *, scale: Scale = 1.0) -> Tensor:
    r"""Flatten the spectrum of the sum of the task vectors.

    For a matrix with :math:`\Delta_{TA} = \sum_t \Delta_t = U \Sigma V^\top` and
    :math:`\bar\sigma = \frac1r \sum_i \sigma_i` over all :math:`r = \min(m, n)` singular values,

    .. math:: \theta = \theta_0 + \alpha\,\bar\sigma\,U V^\top .

    Matrices are all tensors with two axes but ``text_projection``; other tensors get
    :math:`\alpha` times the mean of their task vectors [marczak2025isotropic, sec. 4, and released
    code].

    Parameters
    ----------
    scale : float, default 1.0
        The coefficient :math:`\alpha`; the released code searches 0.1 to 3 on validation data.

    Notes
    -----
    Our reading: directions that the sum does not have (singular value zero) get no weight, but
    count in the mean. The released code gives them the same weight as all others, in whatever
    arbitrary directions the decomposition returns; real sums have full rank.

    Peers: FusionBench decomposes query, key and value apart (``qkv="split"`` here), and documents
    a scale of 1.5 for its 8 tasks; with stacked matrices the merged block differs by half.
    """
    if not is_matrix(layer.name, layer.base):
        return layer.base + scale * (layer.total / layer.num_tasks)
    left, values, right = triplets(layer.total)
    mean = values.sum() / max(1, len(values))
    return layer.base + scale * (mean * left @ right.mT).to(layer.deltas.dtype)


def subspaces(full: int, num_tasks: int, common: float) -> tuple[int, int]:
    r"""Sizes of the common subspace and of each task's own, :math:`(c, s)` with c + T s = r.

    As in the released code: :math:`c_0 = \lfloor f r \rfloor` and s is :math:`(r - c_0)/T`, rounded
    to the nearest whole number (halves to the even one), but not above :math:`r/T`.
    """
    own = min(round((full - int(common * full)) / num_tasks), full // num_tasks)
    return full - num_tasks * own, own


@merge_method(
    "iso_cts",
    title="Iso-CTS",
    paper="marczak2025isotropic",
    qkv="fused",
    grid={"scale": AROUND_ONE},
)
def iso_cts(
    layer: Layer,
    *,
    scale: Scale = 1.0,
    common: Annotated[float, Range(0, 1)] = 0.8,
) -> Tensor:
    r"""Flatten the spectrum of a common subspace and of a small one of each task's own.

    For a matrix, with the sizes c and s of :func:`subspaces`:

    1. the c leading singular triplets of :math:`\Delta_{TA} = \sum_t \Delta_t`, with left vectors
       :math:`U_c`;
    2. of each task, the s leading triplets of :math:`\Delta_t - U_c U_c^\top \Delta_t`, which the
       common subspace does not reach;
    3. with the left and right vectors side by side, :math:`U_*` and :math:`V_*`, the mean
       :math:`\bar\sigma` of all c + T s singular values, and :math:`\mathrm{pol}` the polar factor,

    .. math:: \theta = \theta_0 + \alpha\,\bar\sigma\,
        \mathrm{pol}(U_*)\,\mathrm{pol}(V_*)^\top .

    Other tensors as :data:`iso_c` [marczak2025isotropic, sec. 4, and released code].

    Parameters
    ----------
    common : float, default 0.8
        Share f of the directions that are common.

    Notes
    -----
    The projection is on the left only, so that right vectors of a task may overlap with the common
    ones. Where s comes out as 0, as for a matrix with few rows and many tasks, this is Iso-C.
    Directions that do not exist are left out as in :data:`iso_c` and in
    :data:`mergebook.methods.tsv.tsv_m`.
    """
    if not is_matrix(layer.name, layer.base):
        return layer.base + scale * (layer.total / layer.num_tasks)
    shared, own = subspaces(min(layer.base.shape), layer.num_tasks, common)
    parts = [triplets(layer.total, shared)]
    basis = parts[0][0]
    for delta in layer.deltas:
        delta = delta.double()
        parts.append(triplets(delta - basis @ (basis.mT @ delta), own))
    left, values, right = (torch.cat(part, dim=-1) for part in zip(*parts, strict=True))
    mean = values.sum() / max(1, len(values))
    return layer.base + scale * (mean * polar(left) @ polar(right).mT).to(layer.deltas.dtype)
