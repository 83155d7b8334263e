"""ImPart: singular vectors of a task vector, thinned by their importance [yang2025impart]."""

from __future__ import annotations

import zlib
from typing import Annotated

import numpy as np
import torch
from torch import Tensor

from mergebook.merged.factored import FactoredModel, matrix_shape, sparse_factors
from mergebook.registry import Range, model_method
from mergebook.registry.types import Seed
from mergebook.weights import Experts


def drop_rates(singular: Tensor, sparsity: float, prune: float, exponent: float) -> Tensor:
    r"""Rate at which the entries of each pair of singular vectors are dropped, float64 ``[n]``.

    The last floor(prune * n) pairs are dropped. Among the r others, with
    :math:`\gamma = (\alpha - \beta) / (1 - \beta)`, at least 0, for a sparsity :math:`\alpha` and
    the share :math:`\beta` that was dropped, pair k has the rate
    :math:`p_k = \gamma (1 - (\sigma_k / \sigma_1)^C)`; then the smallest pairs but the first are
    dropped until the mean rate of the r pairs is :math:`\gamma` or more.

    Parameters
    ----------
    singular : Tensor, shape [n]
        Singular values, largest first, the first of them positive.
    sparsity : float
        Share of the entries of the singular vectors to drop, 0 to 1.
    prune : float
        Share of the pairs to drop at once, 0 to below 1.
    exponent : float
        The power C.
    """
    rates = torch.ones(len(singular), dtype=torch.float64)
    count = len(singular) - int(prune * len(singular))
    share = 1 - count / len(singular)
    gamma = max(0.0, (sparsity - share) / (1 - share))
    own = gamma * (1 - (singular[:count].double() / singular[0]) ** exponent)
    for last in range(count - 1, 0, -1):
        if own.mean() >= gamma:
            break
        own[last] = 1
    rates[:count] = own
    return rates


@model_method(
    "impart", title="ImPart", paper="yang2025impart", family="compression", status="analogue"
)
def impart(
    experts: Experts,
    *,
    ratio: Annotated[float, Range(1, 1000)] = 8.0,
    prune: Annotated[float, Range(0, 0.99)] = 0.8,
    exponent: Annotated[float, Range(0, 10)] = 0.5,
    seed: Seed = 0,
) -> FactoredModel:
    r"""Drop entries of each task vector's singular vectors at random, fewer of the important ones.

    A matrix :math:`\tau_t = U \mathrm{diag}(\sigma) V^\top` of shape [m, k] and n = min(m, k)
    becomes :math:`\hat\tau_t = \sum_k \sigma_k \hat u_k \hat v_k^\top`, where each entry of
    :math:`u_k` and :math:`v_k` is zero with probability :math:`p_k`, and divided by
    :math:`1 - p_k` otherwise, so that the expectation is kept. The rates are those of
    :func:`drop_rates` for the sparsity at which a matrix keeps one entry in `ratio`:
    :math:`\alpha = 1 - mk / ((m + k) n \cdot ratio)`.

    Storage b(P' + F + D) + M + 32 K bits: D entries of tensors that are no matrices, kept as they
    are; a bit for each of the M entries of singular vectors that are not dropped whole; K kept
    entries. The singular values are multiplied into the left vectors.

    Parameters
    ----------
    ratio : float, default 8
        Entries of a matrix per kept entry, in expectation; the paper goes to 32 and beyond, on
        matrices of thousands of rows.
    prune : float, default 0.8
        Share :math:`\beta` of the pairs of singular vectors, the smallest, dropped at once.
    exponent : float, default 0.5
        The power C: larger values treat the pairs less alike.
    seed : int, default 0
        Of the random choices.

    Notes
    -----
    An analogue: the method was made for the linear maps of language models; its code has the
    sparsity of attention and MLP matrices as constants for the shapes of one of them, here it
    follows from the shape of each. Ours too: convolutions count as matrices (output channels
    against the rest), embeddings and the projection are matrices; tensors that are no matrices,
    or have one row or column, are kept dense. A fused query-key-value tensor is decomposed as the
    one matrix that it is. The first pair is never dropped whole, which matters for tiny matrices.

    The entries that stay are ``default_rng([seed, crc32(task), crc32(name)]).random([m + k, r])
    >= p`` for the r pairs with a rate below 1, left vectors first, so that they depend neither on
    the order of tasks or layers nor on other layers.
    """
    table: dict[str, tuple[tuple[int, ...], list[int]]] = {}
    masks, values, own = ({task: {} for task in experts.tasks} for _ in range(3))
    for layer in experts:
        key, shape = layer.name, matrix_shape(layer.base.shape)
        if min(shape) == 1:
            for task in experts.tasks:
                own[task][key] = experts.expert(task)[key]
            continue
        table[key] = (tuple(layer.base.shape), [])
        sparsity = 1 - shape[0] * shape[1] / (sum(shape) * min(shape) * ratio)
        for task, delta in zip(experts.tasks, layer.deltas, strict=True):
            left, singular, right = torch.linalg.svd(delta.reshape(shape), full_matrices=False)
            rates = torch.ones(len(singular), dtype=torch.float64)
            if singular[0] > 0:
                rates = drop_rates(singular, sparsity, prune, exponent)
            used = rates < 1
            rates, singular = rates[used], singular[used]
            rng = np.random.default_rng([seed, *(zlib.crc32(x.encode()) for x in (task, key))])
            chance = torch.from_numpy(rng.random((sum(shape), len(rates))))
            odds = (1 - rates).to(delta.dtype)
            masks[task][key], values[task][key] = sparse_factors(
                left[:, used] * (singular / odds), right.T[:, used] / odds, chance >= rates
            )
            table[key][1].append(len(rates))
    return FactoredModel(experts.tasks, experts.sizes, experts.base, table, masks, values, own)
