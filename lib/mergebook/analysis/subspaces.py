"""Singular subspaces of task vectors: what tasks share, what a rank leaves out, what fits in."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal, get_args

import pandas as pd
import torch
from torch import Tensor

from mergebook.analysis.masks import place_of
from mergebook.errors import ExperimentError, unknown
from mergebook.merged import SharedModel
from mergebook.methods.cart import cart_rank
from mergebook.weights import Experts, Layer
from mergebook.weights.qkv import Arranged
from mergebook.weights.spectral import Tensors, is_chosen, resolve, triplets

Dimension = Literal["residual", "retained"]
TOLERANCE = 0.05  # of a norm: what is left out by "residual", or may be missing for "retained"


def row_interference(values: Tensor, right: Tensor) -> Tensor:
    r"""Row-space interference of T matrices, for each rank k [choi2024cart].

    .. math:: I(k) = \sum_i \sum_{j \ne i}
        \lVert \tilde\Sigma_i V_i^\top V_j \tilde\Sigma_j \rVert_F

    with the k leading right singular vectors :math:`V_i` and the k leading singular values over
    their joint norm, :math:`\tilde\Sigma_i`. It is 0 for orthogonal row spaces and at most
    T (T - 1), which equal row spaces reach only where one direction carries all: k equally strong
    ones give :math:`1/\sqrt k` of it. Values at different ranks are not on one scale.

    Parameters
    ----------
    values : Tensor, shape [T, r]
        Singular values, in falling order.
    right : Tensor, shape [T, n, r]
        Right singular vectors.

    Returns
    -------
    Tensor, shape [r], float64
        I(1), ..., I(r). A matrix of zeros interferes with none.
    """
    energy = values.double().square()
    total = energy.cumsum(1)
    result = torch.zeros(values.shape[1], dtype=torch.float64)
    for i in range(len(values)):
        for j in range(i):
            shared = (right[i].double().mT @ right[j].double()).square()
            weighed = energy[i][:, None] * shared * energy[j]
            both = weighed.cumsum(0).cumsum(1).diagonal()
            result += 2 * (both / (total[i] * total[j]).where(total[i] * total[j] > 0, 1)).sqrt()
    return result


def _chosen(
    experts: Experts, tensors: Tensors, weights: Mapping[str, Tensor] | None = None
) -> Iterator[Layer]:
    """Layers that are decomposed, with query, key and value stacked; weights must have them all."""
    view = experts.arranged("fused")
    rule = resolve(view, tensors)
    for layer in view:
        if is_chosen(layer.name, layer.base, rule):
            if weights is not None and layer.name not in weights:
                raise ExperimentError(f"the weights have no tensor {layer.name!r}")
            yield layer


def _stacked(weights: Mapping[str, Tensor] | None) -> Mapping[str, Tensor] | None:
    """Weights with query, key and value stacked, as the layers have them."""
    return None if weights is None else Arranged(weights, "fused")


def subspace_profile(
    experts: Experts,
    ranks: Sequence[float],
    centre: Mapping[str, Tensor] | None = None,
    *,
    tensors: Tensors = "blocks",
) -> pd.DataFrame:
    r"""Interference and reconstruction error of centred task vectors, tensor by tensor.

    Parameters
    ----------
    experts : Experts
        Of T tasks, two or more.
    ranks : sequence of float
        Shares of the full rank, see :func:`mergebook.methods.cart.cart_rank`; above 0.
    centre : mapping of str to Tensor, optional
        The weights that experts are taken relative to; the base if not given.
    tensors : {"blocks", "matrices"}, default "blocks"
        Which tensors, see :data:`mergebook.methods.cart.cart`.

    Returns
    -------
    DataFrame
        Columns ``tensor``, ``kind``, ``block`` (see :func:`mergebook.analysis.mask_use`),
        ``rank``, ``k``, ``interference`` (:func:`row_interference` over T (T - 1), the mean of the
        pairs), ``error`` (:math:`R(k) = \sum_t \lVert \Delta_t - \mathrm{SVD}_k \Delta_t
        \rVert_F^2`) and ``energy`` (:math:`\sum_t \lVert \Delta_t \rVert_F^2`).

    Raises
    ------
    ExperimentError
        If there is one task only, a rank is not above 0 and at most 1, or the centre lacks a
        tensor.
    """
    num_tasks, centre = len(experts.tasks), _stacked(centre)
    if num_tasks < 2:
        raise ExperimentError("interference needs two tasks or more")
    if not all(0 < rank <= 1 for rank in ranks):
        raise ExperimentError(f"ranks must be above 0 and at most 1, got {list(ranks)}")
    rows = []
    for layer in _chosen(experts, tensors, centre):
        shift = 0 if centre is None else centre[layer.name].to(layer.base) - layer.base
        parts = [triplets(delta - shift) for delta in layer.deltas]
        values, right = (torch.stack([part[i] for part in parts]) for i in (1, 2))
        shared = row_interference(values, right) / (num_tasks * (num_tasks - 1))
        energy = values.square().sum(0)
        for rank in ranks:
            k = cart_rank(len(energy), rank)
            row = {"tensor": layer.name, **place_of(layer.name), "rank": rank, "k": k}
            row |= {"interference": float(shared[k - 1]), "error": float(energy[k:].sum())}
            rows.append(row | {"energy": float(energy.sum())})
    return pd.DataFrame(rows)


def spectrum(experts: Experts, model: SharedModel, *, tensors: Tensors = "blocks") -> pd.DataFrame:
    """Singular values of a merged model's change, tensor by tensor.

    Returns
    -------
    DataFrame
        Columns ``tensor``, ``kind``, ``block``, ``index`` (from 1), ``position`` (index over the
        full rank) and ``value`` (over the largest; 0 for a change of zero).
    """
    weights, rows = _stacked(model.state_dict()), []
    for layer in _chosen(experts, tensors, weights):
        _, values, _ = triplets(weights[layer.name].to(layer.base) - layer.base)
        where = {"tensor": layer.name, **place_of(layer.name)}
        largest = float(values.max()) or 1.0
        for index, value in enumerate(values.tolist(), start=1):
            row = {"index": index, "position": index / len(values), "value": value / largest}
            rows.append(where | row)
    return pd.DataFrame(rows)


def alignment(
    experts: Experts,
    model: SharedModel,
    *,
    dimension: Dimension = "residual",
    tensors: Tensors = "blocks",
) -> pd.DataFrame:
    r"""Share of each task vector that lies in the merged model's leading left subspace.

    The subspace alignment ratio :math:`\lVert U_k U_k^\top \Delta_t \rVert_F /
    \lVert \Delta_t \rVert_F` with the k leading left singular vectors of the merged model's change
    :math:`\Delta_M` [marczak2025isotropic].

    Parameters
    ----------
    experts : Experts
    model : SharedModel
        Merged from them.
    dimension : {"residual", "retained"}, default "residual"
        Which k: the smallest that leaves out at most 5 % of the norm of :math:`\Delta_M`, as the
        definition has it, or the smallest that retains 95 % of it, as the paper's script has it.
    tensors : {"blocks", "matrices"}, default "blocks"
        Which tensors, see :data:`mergebook.methods.cart.cart`.

    Returns
    -------
    DataFrame
        Columns ``tensor``, ``kind``, ``block``, ``task``, ``k`` and ``alignment`` (NaN for a task
        vector of zeros).

    Raises
    ------
    ExperimentError
        If there is no such dimension.
    """
    if dimension not in get_args(Dimension):
        raise ExperimentError(unknown("dimension", dimension, get_args(Dimension)))
    wanted = 1 - TOLERANCE**2 if dimension == "residual" else (1 - TOLERANCE) ** 2
    weights, rows = _stacked(model.state_dict()), []
    for layer in _chosen(experts, tensors, weights):
        left, values, _ = triplets(weights[layer.name].to(layer.base) - layer.base)
        energy = values.square().cumsum(0)
        k = int((energy < wanted * energy[-1]).sum()) + 1
        for task, delta in zip(layer.tasks, layer.deltas.double(), strict=True):
            inside, whole = (left[:, :k].mT @ delta).norm(), delta.norm()
            row = {"tensor": layer.name, **place_of(layer.name), "task": task, "k": k}
            rows.append(row | {"alignment": float(inside / whole)})
    return pd.DataFrame(rows)
