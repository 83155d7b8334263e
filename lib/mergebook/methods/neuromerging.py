"""NeuroMerging: merge what turns a neuron apart from what scales it [fang2025neuromerging]."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from torch import Tensor

from mergebook.registry import Range, merge_method
from mergebook.registry.types import Density, Keep, Scale
from mergebook.weights import Experts, Layer, TopEntries, sum_tasks, top_entries

ROUNDING = 1e-9  # coordinates below this share of their singular value are zeros


def agreed(values: Tensor, majority: Tensor | int = 0) -> Tensor:
    """Mean ``[*s]`` over tasks of the values ``[T, *s]`` that have the sign of their sum.

    `majority` is the sign taken where the sum is zero; 0 lets the result be zero there.
    """
    elected = sum_tasks(values).sign()
    elected = torch.where(elected == 0, majority, elected)
    agreeing = (values * elected).clamp_(min=0)
    return sum_tasks(agreeing) * elected / agreeing.count_nonzero(0).clamp_(min=1)


def majority_sign(values: Tensor) -> Tensor:
    """Sign of the sum of the elected signs of a tensor, a scalar."""
    return sum_tasks(values).sign().sum().sign()


def orthogonal_part(rests: Tensor) -> Tensor:
    """Merge the orthogonal parts of all neurons: ``[T, R, n]`` -> ``[R, n]``.

    With U the eigenvectors of a neuron's Gram matrix P P^T (its left singular vectors), the
    coordinates of the tasks on the j-th right singular vector are s_j U[:, j]. Election and mean
    commute with the factor s_j, hence the merged vector is P^T U e with e_j the agreed mean of
    U[:, j]: a combination of the T parts, for which no singular vector is needed. Entries of U
    below 1e-9 are rounding of zeros, and must not count as tasks that agree.
    """
    parts = rests.transpose(0, 1)  # [R, T, n]
    _, left = torch.linalg.eigh(parts @ parts.mT)
    left = torch.where(left.abs() > ROUNDING, left, 0.0)
    means = agreed(left.transpose(0, 1))  # [R, T]: one per direction
    return ((left @ means[..., None]).mT @ parts).squeeze(1)


def prepare_neuromerging(experts: Experts, density: float, keep: Keep) -> TopEntries:
    """Entries of each task vector that survive trimming."""
    return top_entries(experts, density, keep)


@merge_method(
    "neuromerging",
    title="NeuroMerging",
    paper="fang2025neuromerging",
    status="our reading",
    prepare=prepare_neuromerging,
    grid={"scale": (1.0, 1.2, 1.4, 1.6, 1.8, 2.0, 2.2, 2.6, 3.0)},
)
def neuromerging(
    layer: Layer,
    state: TopEntries,
    *,
    scale: Scale = 2.0,
    parallel: Annotated[float, Range(0, 3)] = 1.0,
    density: Density = 0.2,
    direction: Literal["neuron", "unit"] = "neuron",
    keep: Keep = "k+1",
) -> Tensor:
    r"""Split the change of each neuron into a part along its weights and the rest; merge both.

    A neuron is a row w of a base matrix (of a tensor with more axes: all weights of one index of
    the first), with the rows :math:`\hat\tau_t` of the task vectors after trimming as in TIES.

    1. Parallel part: :math:`a_t = \langle\hat\tau_t, w\rangle / \langle w, w\rangle`; of the
       :math:`a_t`, the mean :math:`\bar a` of those with the elected sign.
    2. Orthogonal part: :math:`p_t = \hat\tau_t - a_t w`. The matrix of the :math:`p_t` has the
       right singular vectors :math:`v_j`; on each of them the coordinates of the tasks are
       elected and averaged in the same way, :math:`\bar c_j`.
    3. :math:`w' = w + \alpha \bigl(\rho\, \bar a\, w + \sum_j \bar c_j v_j\bigr)`.

    The elected sign is that of the sum over tasks; where it is zero, for the :math:`a_t` that of
    the majority of the tensor's neurons, for coordinates none. Tensors of one axis or none are
    merged by TIES (mean) with the majority sign of the tensor. :math:`\rho` is the quotient of
    the paper's coefficients for the two parts, :math:`\alpha` that of the orthogonal one.

    Parameters
    ----------
    scale : float, default 2.0
        The coefficient :math:`\alpha`, to be tuned; the default suits eight tasks of the mini
        suite. One expert comes back at 1 (and density 1).
    parallel : float, default 1.0
        :math:`\rho`; 0 leaves the parallel part out ("Lite mode", and the pseudocode file).
    density : float, default 0.2
        Kept share of the trimming. The released scripts, for 7B language models, keep 0.05.
    direction : {"neuron", "unit"}, default "neuron"
        What :math:`\bar a` multiplies: w, which gives the parallel part back when there is one
        expert, or :math:`w / \lVert w \rVert` as in the released code.

    Notes
    -----
    This follows the released code but for what is said here; whether the paper's formulas differ
    further is not verified. The released scripts for the two-coefficient "Full mode" put half of a
    one-dimensional tensor into each part, so that its coefficient is the mean of the two; here it
    is :math:`\alpha`. They can truncate the singular vectors by cumulative energy, but keep all.
    They take for the sign of a coordinate that cancels the majority of the coordinates, which
    depends on the arbitrary signs of singular vectors, and divide by zero for a neuron of zeros,
    whose change is all orthogonal here. Singular vectors of equal singular values are not unique,
    and the result with them. Rows are rows of the stored tensor: for open_clip's `proj`, stored
    inputs first, they are not neurons; query, key and value of a stacked `in_proj_weight` are.
    """
    trimmed = state.trim(layer)
    if layer.ndim < 2 or layer.numel == 0:
        return layer.base + scale * agreed(trimmed, majority_sign(trimmed))
    neurons = layer.base.reshape(len(layer.base), -1).double()
    changes = trimmed.reshape(layer.num_tasks, *neurons.shape).double()
    squares = neurons.square().sum(1)
    shares = (changes * neurons).sum(2) / torch.where(squares > 0, squares, torch.inf)
    share = agreed(shares, majority_sign(shares))
    if direction == "unit":
        share = share / torch.where(squares > 0, squares, torch.inf).sqrt()
    rest = orthogonal_part(changes - shares[..., None] * neurons)
    merged = (parallel * share[:, None] * neurons + rest).reshape(layer.base.shape)
    return layer.base + scale * merged.to(layer.base.dtype)
