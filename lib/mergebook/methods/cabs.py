"""CABS: sparse task vectors that are balanced and do not overlap [yang2025cabs]."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from mergebook.methods.breadcrumbs import largest
from mergebook.registry import Range, merge_method
from mergebook.registry.types import ScalePerTask
from mergebook.weights import Layer

LARGEST = 2**16  # entries of a block: the last one of a tensor is filled up to it


def balanced(vector: Tensor, free: Tensor, n: int, last: int) -> Tensor:
    """Mask ``[B, m]``: of each block (row) the n largest free magnitudes; of the last block `last`.

    Of equal magnitudes the first is taken. Zeros are never taken: they would only keep a place
    from the tasks that follow.
    """
    magnitude = vector.abs() * free
    mask = largest(magnitude, n)
    mask[-1:] = largest(magnitude[-1:], last)
    return mask & (magnitude > 0)


@merge_method(
    "cabs",
    title="CABS",
    paper="yang2025cabs",
    status="analogue",
    symmetric=False,
    grid={"scale": (0.3, 0.4, 0.6, 0.8, 1.0, 1.2, 1.4)},
)
def cabs(
    layer: Layer,
    *,
    scale: ScalePerTask = 1.2,
    n: Annotated[int, Range(0, LARGEST)] = 32,
    m: Annotated[int, Range(1, LARGEST)] = 256,
    fair: bool = True,
    rest: Literal["share", "drop"] = "share",
    order: Literal["given", "reversed"] = "given",
) -> Tensor:
    r"""Prune one task vector after the other to n of every m entries, each where none was before.

    The tensors are laid out flat and cut into blocks of m entries. The first task keeps the n
    largest magnitudes of each block; the second keeps the n largest among the places that are
    still free, and so on (conflict-aware, balanced). With the disjoint masks :math:`m_t`,
    :math:`\theta = \theta_0 + \sum_t \lambda_t\, m_t \odot \tau_t` [yang2025cabs].

    Parameters
    ----------
    n : int, default 32
        Entries that a task keeps in each block; all that are free where that is fewer.
    m : int, default 256
        Size of a block. Disjoint masks cannot all have a density above 1/T: 32:256 is the limit
        for eight tasks.
    fair : bool, default True
        Lower n to m/T (rounded down, but at least 1) where T n > m, so that the last task finds as
        many free places as the first. Otherwise late tasks get what is left, possibly nothing.
    rest : {"share", "drop"}, default "share"
        A last block of q < m entries: keep its share, n q / m rounded up, or nothing as in the
        released code.
    order : {"given", "reversed"}, default "given"
        Which task chooses first: the first, or the last. Report both.

    Notes
    -----
    The paper merges language models, two with 64:256 and 1.2 each, or GLUE models with 3:32 and
    coefficients searched in 0.4 to 1.0. Carrying it over to eight or more image encoders is ours,
    and so are `fair`, the share of the last block, and that zeros take no place. A pull request
    to mergekit sorts the models by name unless told otherwise, fills the last block with zeros and
    keeps n of it.
    """
    if layer.numel == 0:
        return layer.base
    tasks = layer.num_tasks
    n = min(n, m, max(1, m // tasks)) if fair else min(n, m)
    length = layer.numel % m
    last = n if length == 0 else -(-n * length // m) if rest == "share" else 0
    vectors = F.pad(layer.deltas.reshape(tasks, layer.numel), (0, -layer.numel % m))
    merged = torch.zeros_like(vectors[0]).reshape(-1, m)
    free = torch.ones_like(merged, dtype=torch.bool)
    scales = layer.per_task(scale).flatten()
    for t in range(tasks) if order == "given" else reversed(range(tasks)):
        vector = vectors[t].reshape(-1, m)
        mask = balanced(vector, free, n, last)
        merged += scales[t] * vector * mask
        free &= ~mask
    return layer.base + merged.flatten()[: layer.numel].reshape(layer.base.shape)
