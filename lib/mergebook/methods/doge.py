"""DOGE: task vectors modified by projected gradient descent [wei2025doge]."""

from __future__ import annotations

import math
from typing import Annotated

import torch
from torch import Tensor

from mergebook.registry import Range, merge_method
from mergebook.registry.types import Density, Scale, Steps
from mergebook.weights import Experts, Layer, SomeLayers, TopEntries, sum_tasks, top_entries
from mergebook.weights.spectral import is_chosen, resolve, triplets

BETAS, EPSILON = (0.9, 0.999), 1e-8  # Adam's usual constants


def prepare_doge(experts: Experts, density: float) -> tuple[frozenset[str], TopEntries]:
    """Names of the layers that change, and the entries that each task keeps of them all.

    The layers are attention's and the MLPs', or all matrices where no name tells of a block.
    """
    rule, base = resolve(experts, "blocks"), experts.base
    names = tuple(key for key in experts.trained if is_chosen(key, base[key], rule))
    return frozenset(names), top_entries(SomeLayers(experts, names), density)


def shared_basis(layer: Layer, divisor: int) -> Tensor:
    r"""Orthonormal basis ``[m, q]`` of what the column spaces of the tasks share, float64.

    The leading :math:`\lfloor r/d \rfloor` left singular vectors of the tasks' leading
    :math:`\lfloor r/T \rfloor` left singular vectors side by side.
    """
    full = min(layer.base.shape)
    kept = [triplets(delta, full // layer.num_tasks)[0] for delta in layer.deltas]
    return triplets(torch.cat(kept, dim=1), full // divisor)[0]


def modification(
    deltas: Tensor, coefficients: Tensor, basis: Tensor, lr: float, steps: int
) -> Tensor:
    """Modification ``[m, n]`` common to all task vectors, by Adam; see :data:`doge`.

    Parameters
    ----------
    deltas : Tensor, shape [T, m, n]
        Task vectors.
    coefficients : Tensor, shape [T]
        Their coefficients in the merge.
    basis : Tensor, shape [m, q]
        What the gradient must not touch, orthonormal columns.
    lr, steps : float, int
        Rate and number of steps of Adam.
    """
    total = float(coefficients.sum())
    merged = torch.tensordot(coefficients, deltas, dims=1)
    rows = deltas.transpose(0, 1).contiguous()  # [m, T, n]
    columns = rows.mT.contiguous()
    gaps = (rows * (rows - merged[:, None])).sum(2)[:, None]  # [m, 1, T]: the inner sums at zero
    project = -2 * total * (torch.eye(len(merged)).to(basis) - basis @ basis.mT)
    change, mean, square = (torch.zeros_like(merged) for _ in range(3))
    for step in range(1, steps + 1):
        left = torch.baddbmm(gaps, change[:, None], columns, alpha=-total)
        gradient = project @ torch.bmm(left, rows)[:, 0]
        mean.lerp_(gradient, 1 - BETAS[0])
        square.lerp_(gradient.square(), 1 - BETAS[1])
        size = square.sqrt().div_(math.sqrt(1 - BETAS[1] ** step)).add_(EPSILON)
        change.addcdiv_(mean, size, value=-lr / (1 - BETAS[0] ** step))
    return change


@merge_method(
    "doge",
    title="DOGE TA",
    paper="wei2025doge",
    prepare=prepare_doge,
    qkv="split",
    grid={"scale": (0.05, 0.07, 0.1, 0.15, 0.2, 0.3)},
)
def doge(
    layer: Layer,
    state: tuple[frozenset[str], TopEntries],
    *,
    scale: Scale = 0.07,
    density: Density = 0.3,
    divisor: Annotated[int, Range(1)] = 6,
    lr: Annotated[float, Range(0, 0.1)] = 1e-4,
    steps: Steps = 400,
) -> Tensor:
    r"""Modify all task vectors alike to close the gap to each expert, outside what they share.

    For each weight matrix of attention and MLPs, with :math:`\lambda_t = \eta / \|\Delta_t\|_F`:

    1. Shared subspace: :math:`P = S S^\top`, where S holds the leading
       :math:`\lfloor r/d \rfloor` left singular vectors of the tasks' leading
       :math:`\lfloor r/T \rfloor` left singular vectors side by side.
    2. Modification :math:`\delta`, from zero, by Adam with the gradient g replaced by
       :math:`g - P g`, on

       .. math:: \sum_j \sum_a \Big( \sum_b \Delta_j \odot \big(\Delta_j
           - \sum_i \lambda_i (\Delta_i + \delta)\big) \Big)_{ab}^2 .

    3. :math:`\theta = \theta_0 + \sum_t \lambda_t\, m_t \odot (\Delta_t + \delta)`, where
       :math:`m_t` marks the largest magnitudes of the task vector (before step 2), over all these
       matrices together.

    All other tensors stay at the base [wei2025doge; FusionBench's code, by an author].

    Parameters
    ----------
    scale : float, default 0.07
        The coefficient :math:`\eta`: length of a task's part of the merged matrix.
    density : float, default 0.3
        Marked share of the entries of these matrices.
    divisor : int, default 6
        The shared subspace has one d-th of the full rank.
    lr : float, default 1e-4
        Rate of Adam.
    steps : int, default 400
        Steps of Adam.

    Notes
    -----
    The authors' own repository could not be read; this follows FusionBench's code. Its page
    differs from it: a plus sign inside the loss, and marks from the modified vectors. Its
    checkpoints hold query, key and value apart, hence ``qkv="split"``. One entry more than the
    share is marked, and all magnitudes equal to the threshold, as in TIES' code.

    Adam rescales the projected gradient entry by entry, so that the modification itself does not
    stay outside the shared subspace; nor does the mask of step 3 respect it. This is the method.

    Peers: a port for PEFT sums the loss over rows before it squares, and prunes before the
    descent.

    Our reading: which names are blocks in other models, see
    :data:`mergebook.methods.cart.cart`. A task vector of zeros has coefficient 0.
    """
    names, top = state
    if layer.name not in names:
        return layer.base
    norms = layer.deltas.flatten(1).norm(dim=1)
    coefficients = torch.where(norms > 0, scale / norms, 0)
    basis = shared_basis(layer, divisor).to(layer.deltas.dtype)
    change = modification(layer.deltas, coefficients, basis, lr, steps)
    kept = (layer.deltas + change).mul_(top.mask(layer))
    return layer.base + sum_tasks(kept.mul_(layer.per_task(coefficients)))
