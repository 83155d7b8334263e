"""Fisher merging: averages weighted by what predictions depend on [matena2022fisher]."""

from __future__ import annotations

from typing import Annotated

import torch
from torch import Tensor

from mergebook.activations import Estimator, diagonal_fisher
from mergebook.calibration import Calibration
from mergebook.registry import Range, merge_method
from mergebook.registry.types import NumImages
from mergebook.towers.tape import tower_weights
from mergebook.weights import Experts, Layer

# Tensor -> sum over tasks of the weighted task vectors, and of the weights.
Sums = dict[str, tuple[Tensor, Tensor]]


def prepare_fisher(
    experts: Experts,
    calibration: Calibration,
    num_images: int,
    estimate: Estimator,
    batch_size: int,
    normalise: bool,
    floor: float,
) -> Sums:
    """Sums over tasks for every tensor; one expert's information is held at a time."""
    weights, few = tower_weights(experts, calibration), calibration.first(num_images)
    sums: Sums = {}
    for task in experts.tasks:
        fisher = diagonal_fisher(few, task, weights[task], estimate, batch_size)
        keys = [key for key in experts.trained if key in fisher]
        share = 1.0
        if normalise:
            norm = sum(fisher[key].double().square().sum().item() for key in keys) ** 0.5 + floor
            share = 1 / norm if norm > 0 else 0.0
        for key in keys:
            vector = weights[task][key] - experts.base[key].to(experts.dtype)
            importance = share * (fisher[key] + floor)
            moved, mass = sums.get(key, (0, 0))
            sums[key] = (moved + importance * vector, mass + importance)
    return sums


@merge_method(
    "fisher",
    title="Fisher merging",
    paper="matena2022fisher",
    family="statistics",
    prepare=prepare_fisher,
    needs=("images",),
)
def fisher(
    layer: Layer,
    state: Sums,
    *,
    num_images: NumImages = 32,
    estimate: Estimator = "exact",
    batch_size: Annotated[int, Range(1)] = 32,
    normalise: bool = True,
    floor: Annotated[float, Range(0)] = 1e-6,
) -> Tensor:
    r"""Average the experts entry by entry, weighted by their diagonal Fisher information.

    .. math:: \theta_j = \frac{\sum_t w_t (F_{t,j} + \varepsilon)\, \theta_{t,j}}
        {\sum_t w_t (F_{t,j} + \varepsilon)},
        \qquad F_{t,j} = E_x \sum_c p_t(c \mid x)
        \Big(\frac{\partial \log p_t(c \mid x)}{\partial \theta_j}\Big)^2

    over unlabelled images x of the expert's task and all classes c of its head: the expectation
    over the expert's own predictions, so that no label is needed [matena2022fisher, sec. 3]. An
    entry without information in any expert (possible if :math:`\varepsilon = 0`) is averaged.

    Parameters
    ----------
    num_images : int, default 32
        Images per task, the first of the calibration; FusionBench takes 256. The exact estimate
        costs one pass back per class: on the mini suite 5 seconds for 32 images of 8 tasks.
    estimate : {"exact", "batched"}, default "exact"
        Squares of the gradients of single images and classes, or the released shortcut, see Notes.
    batch_size : int, default 32
        Images per batch. The batched estimate depends on it, the exact one does not.
    normalise : bool, default True
        Whether :math:`w_t` is one over the Euclidean norm (plus :math:`\varepsilon`) of the
        expert's information over all merged tensors, so that an expert with large gradients does
        not outweigh the others; otherwise :math:`w_t = 1`.
    floor : float, default 1e-6
        The number :math:`\varepsilon` added to every entry, which pulls towards the plain average.

    Notes
    -----
    The released code of MergeLM and FusionBench takes, per batch, one gradient of
    :math:`\sum_n \sum_c \sqrt{p_c}\log p_c` with the root held fixed, and squares it
    (``estimate="batched"``). That has the terms of the exact sum, and products of the gradients of
    different classes and images besides: even with one image per batch it is not the exact
    information. It costs one pass back per batch.

    FusionBench merges Hugging Face's vision tower, which does not hold the output projection; here
    `proj` is merged like any other tensor. It normalises over all parameters, which is the same
    where every tensor was trained. The embeddings of a text encoder are averaged, if they were
    trained: their information is not computed.
    """
    mean = layer.total / layer.num_tasks
    if layer.name not in state:  # not a tensor of the image tower
        return layer.base + mean
    moved, mass = state[layer.name]
    return layer.base + torch.where(mass > 0, moved / mass, mean)
