"""Task singular vectors, merged after decorrelating them [gargiulo2025tsv]."""

from __future__ import annotations

from typing import Annotated

import torch
from torch import Tensor

from mergebook.registry import Range, merge_method
from mergebook.registry.types import Scale
from mergebook.weights import Layer
from mergebook.weights.spectral import is_matrix, polar, triplets

# A third of the released search, 0.1 to 3 in tenths, around the recommended 1.
AROUND_ONE = tuple(tenth / 10 for tenth in range(4, 22, 2))


def tsv_rank(layer: Layer, budget: float) -> int:
    r"""Directions that each task keeps of a matrix: :math:`\lfloor b\,r/T \rfloor`, at most r."""
    full = min(layer.base.shape)
    return min(full, int(budget * full / layer.num_tasks))


def tsv_vector(layer: Layer, budget: float = 1.0, orthogonal: bool = True) -> Tensor:
    """Merged task vector ``[*s]`` of TSV-M, before its coefficient; see :data:`tsv_m`."""
    if not is_matrix(layer.name, layer.base):
        return layer.total / layer.num_tasks
    kept = [triplets(delta, tsv_rank(layer, budget)) for delta in layer.deltas]
    left, values, right = (torch.cat(parts, dim=-1) for parts in zip(*kept, strict=True))
    if orthogonal:
        left, right = polar(left), polar(right)
    return ((left * values) @ right.mT).to(layer.deltas.dtype)


@merge_method(
    "tsv_m", title="TSV-M", paper="gargiulo2025tsv", qkv="fused", grid={"scale": AROUND_ONE}
)
def tsv_m(
    layer: Layer,
    *,
    scale: Scale = 1.0,
    budget: Annotated[float, Range(0, 100)] = 1.0,
    orthogonal: bool = True,
) -> Tensor:
    r"""Give each task a part of the rank, and make the parts orthogonal to one another.

    For a matrix with :math:`r = \min(m, n)`, every task keeps its
    :math:`k = \lfloor r/T \rfloor` leading singular triplets. With
    :math:`\hat U = [U_1|\dots|U_T]`, :math:`\hat\Sigma`, :math:`\hat V` side by side and
    :math:`\mathrm{pol}` the polar factor (the closest matrix with orthonormal columns),

    .. math:: \theta = \theta_0 + \alpha\,
        \mathrm{pol}(\hat U)\,\hat\Sigma\,\mathrm{pol}(\hat V)^\top .

    Matrices are all tensors with two axes but ``text_projection``, so that positional embedding
    and output projection are decomposed, too. Other tensors get :math:`\alpha` times the mean of
    their task vectors [gargiulo2025tsv, sec. 4, and released code].

    Parameters
    ----------
    scale : float, default 1.0
        The coefficient :math:`\alpha`; 1 is the paper's recommendation, its code searches 0.1 to
        3 on validation data.
    budget : float, default 1.0
        Share of the full rank that all tasks have together: :math:`k = \lfloor b\,r/T \rfloor`,
        at most r. The paper's is 1.
    orthogonal : bool, default True
        Whether singular vectors are made orthogonal; without it, this is the sum of the truncated
        task vectors, the paper's low-rank ablation.

    Notes
    -----
    A matrix with fewer than T rows or columns keeps no direction (k = 0) and stays at the base, by
    the formula and in the released code; in the mini suite with 20 tasks that is the positional
    embedding.

    Our reading: directions that a task vector does not have (singular value zero) are left out,
    and the polar factor of linearly dependent vectors is the canonical one (zero on the null
    space). So T equal experts give their common task vector at rank k, and a task vector of zeros
    has no influence beyond its share of the rank. The released code takes whatever vectors the
    decomposition returns for singular value zero, which is arbitrary and changes the other tasks'.

    Peers: FusionBench decomposes query, key and value apart, since its checkpoints store them
    apart (``qkv="split"`` here). The released code decomposes in float32.
    """
    return layer.base + scale * tsv_vector(layer, budget, orthogonal)
