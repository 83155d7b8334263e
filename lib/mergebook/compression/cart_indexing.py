"""CART-Indexing: the average and a few centred directions per task [choi2024cart]."""

from __future__ import annotations

from mergebook.merged.low_rank import Compressed, LowRankModel, factorise
from mergebook.methods.cart import cart_rank
from mergebook.registry import model_method
from mergebook.registry.types import Qkv, Rank, Tensors, WideScale
from mergebook.weights import Experts, Layer
from mergebook.weights.spectral import is_chosen, resolve


@model_method("cart_indexing", title="CART-Indexing", paper="choi2024cart", family="compression")
def cart_indexing(
    experts: Experts,
    *,
    rank: Rank = 0.08,
    scale: WideScale = 1.0,
    tensors: Tensors = "blocks",
    qkv: Qkv = "fused",
) -> LowRankModel:
    r"""Rebuild each expert from the average and its leading centred singular directions.

    .. math:: \hat\theta_t = \theta_{avg} + \lambda\, \mathrm{SVD}_k(\theta_t - \theta_{avg}) ,
        \qquad k = \max(1, \lfloor \rho\,r \rfloor)

    for the matrices of attention and MLPs, and
    :math:`\theta_{avg} + \lambda(\theta_t - \theta_{avg})` for all other tensors [choi2024cart,
    released code]. Rank 1 with scale 1 restores every expert. Storage b(L + F + T(P' - L) + K)
    bits: the average's L entries of these matrices once, and K = T k (m + n + 1) for each.

    Parameters
    ----------
    rank : float, default 0.08
        Kept share :math:`\rho` of the full rank; 0 leaves these matrices at the average.
    scale : float, default 1.0
        The coefficient :math:`\lambda`.
    tensors : {"blocks", "matrices"}, default "blocks"
        Which tensors are decomposed, see :data:`mergebook.methods.cart.cart`.

    Notes
    -----
    A matrix whose factors would be no smaller than itself is stored whole, at the same rank; this
    changes the storage, not the weights. Stored singular values include the scale. The released
    code can also pick single directions by number and set their singular values to a constant,
    for analysis; that is not part of this method.
    """
    view = experts.arranged(qkv)
    chosen = resolve(view, tensors)

    def compress(layer: Layer) -> Compressed:
        mean = layer.total / layer.num_tasks
        full = min(layer.base.shape, default=0)
        decomposed = is_chosen(layer.name, layer.base, chosen)
        k = cart_rank(full, rank) if decomposed else full
        if k == full and scale == 1:
            return None
        average, vectors = layer.base + mean, scale * (layer.deltas - mean)
        return factorise(average, vectors, k) if decomposed else average + vectors

    return LowRankModel.build(experts, compress, view)
