"""Task singular vectors as a compression [gargiulo2025tsv]."""

from __future__ import annotations

from typing import Annotated

from mergebook.merged.low_rank import Compressed, LowRankModel, factorise
from mergebook.methods.tsv import tsv_rank
from mergebook.registry import Range, model_method
from mergebook.registry.types import Qkv
from mergebook.weights import Experts, Layer


@model_method("tsv_c", title="TSV-C", paper="gargiulo2025tsv", family="compression")
def tsv_c(
    experts: Experts,
    *,
    budget: Annotated[float, Range(0, 100)] = 1.0,
    qkv: Qkv = "fused",
) -> LowRankModel:
    r"""Keep of each task the leading singular directions of its own task matrices.

    :math:`\hat\theta_t = \theta_0 + \mathrm{SVD}_k(\Delta_t)` with
    :math:`k = \lfloor r/T \rfloor` for every tensor with two axes, and
    :math:`\hat\theta_t = \theta_t` for all others; no coefficient [gargiulo2025tsv, released code].
    Storage b(L + F + T(P' - L) + K) bits: the base's L entries of these matrices once, and
    K = T k (m + n + 1) for each.

    Parameters
    ----------
    budget : float, default 1.0
        Share of the full rank that all tasks have together: :math:`k = \lfloor b\,r/T \rfloor`,
        at most r. The paper's is 1; T keeps every direction.

    Notes
    -----
    Unlike TSV-M, the released code decomposes ``text_projection``, too. A matrix whose factors
    would be no smaller than itself is stored whole, at the same rank; this changes the storage,
    not the weights.
    """
    view = experts.arranged(qkv)

    def compress(layer: Layer) -> Compressed:
        if layer.ndim != 2:
            return None
        k = tsv_rank(layer, budget)
        return None if k == min(layer.base.shape) else factorise(layer.base, layer.deltas, k)

    return LowRankModel.build(experts, compress, view)
