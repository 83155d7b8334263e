"""AdaMerging: coefficients that make predictions certain [yang2024adamerging]."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import torch
from torch import Tensor

from mergebook.calibration import Calibration
from mergebook.learning import Combination, entropy_of_all_tasks, minimise
from mergebook.merged import SharedModel
from mergebook.registry import Range, model_method
from mergebook.weights import Experts

Clamp = Literal["unit", "none"]
INITS = (0.1, 0.3)  # the papers' 0.3 is too far out for 20 tasks
LIMITS = {"unit": (0.0, 1.0), "extended": (-0.5, 2.0)}


def clamped(coefficients: Tensor, clamp: str) -> Tensor:
    """Coefficients held within [0, 1] ("unit"), [-0.5, 2] ("extended") or not at all ("none")."""
    return coefficients if clamp == "none" else coefficients.clamp(*LIMITS[clamp])


def learn_coefficients(
    combination: Combination,
    calibration: Calibration,
    *,
    layerwise: bool,
    init: float,
    clamp: str,
    steps: int,
    lr: float,
    batch_size: int,
    batches: int,
    seed: int,
) -> tuple[Tensor, list[float]]:
    """Coefficients that make the predictions of the merged model certain.

    Parameters
    ----------
    combination : Combination
        Merged weights as a function of the coefficients.
    calibration : Calibration
        Images of the same tasks, in the same order.
    layerwise : bool
        One coefficient per task and tensor, or one per task.
    init : float
        Value that all coefficients start from.
    clamp : {"unit", "extended", "none"}
        Limits, see :func:`clamped`; a coefficient beyond them gets no gradient.
    steps, lr, batch_size, batches, seed
        As in :data:`adamerging_layer`.

    Returns
    -------
    coefficients : Tensor, shape [K, T]
        Within the limits; equal rows if they are per task.
    curve : list of float
        The loss before each step.
    """
    num_tensors, num_tasks = len(combination.names), len(calibration.tasks)
    raw = torch.full((num_tensors if layerwise else 1, num_tasks), init, dtype=combination.dtype)
    raw.requires_grad_()

    def coefficients() -> Tensor:
        return clamped(raw, clamp).expand(num_tensors, num_tasks)

    objective = entropy_of_all_tasks(calibration, batch_size, batches, seed)
    curve = minimise(
        [raw],
        lambda step: objective(combination(coefficients())),
        steps=steps if num_tensors else 0,  # experts equal to the base leave nothing to learn
        lr=lr,
        what="coefficients",
    )
    return coefficients().detach(), curve


def merge_learned(
    experts: Experts, combination: Combination, calibration: Calibration, **learning: Any
) -> SharedModel:
    """Merge with the coefficients that :func:`learn_coefficients` finds."""
    coefficients, _ = learn_coefficients(combination, calibration, **learning)
    merged = combination(coefficients)
    return SharedModel.build(experts, lambda layer: merged[layer.name])


@model_method(
    "adamerging_task",
    title="AdaMerging, per task",
    paper="yang2024adamerging",
    family="adapted",
    needs=("images",),
    grid={"init": INITS},
)
def adamerging_task(
    experts: Experts,
    calibration: Calibration,
    *,
    init: Annotated[float, Range(0, 3)] = 0.3,
    clamp: Clamp = "unit",
    steps: Annotated[int, Range(0)] = 30,
    lr: Annotated[float, Range(0, 1)] = 3e-3,
    batch_size: Annotated[int, Range(1)] = 16,
    batches: Annotated[int, Range(1)] = 2,
    seed: Annotated[int, Range(0)] = 0,
) -> SharedModel:
    r"""Task arithmetic with one coefficient per task, learned on unlabelled images.

    :math:`\theta = \theta_0 + \sum_t \lambda_t \tau_t` with the T coefficients that minimise the
    entropy of the predictions, see :data:`adamerging_layer`.

    Parameters
    ----------
    experts : Experts
        Base and experts; all task vectors are held in memory.
    calibration : Calibration
        Unlabelled images and the heads.
    init : float, default 0.3
        Value that all :math:`\lambda_t` start from.
    clamp : {"unit", "none"}, default "unit"
        Whether the coefficients are held within [0, 1].
    steps : int, default 30
        Steps of Adam; 500 in the paper.
    lr : float, default 0.003
        Learning rate; 0.001 in the paper, which takes more steps.
    batch_size : int, default 16
        Images of a task per batch.
    batches : int, default 2
        Batches of each task per step.
    seed : int, default 0
        Seed of the order of the images.
    """
    return merge_learned(
        experts,
        Combination(experts),
        calibration,
        layerwise=False,
        init=init,
        clamp=clamp,
        steps=steps,
        lr=lr,
        batch_size=batch_size,
        batches=batches,
        seed=seed,
    )


@model_method(
    "adamerging_layer",
    title="AdaMerging, per layer",
    paper="yang2024adamerging",
    family="adapted",
    needs=("images",),
    grid={"init": INITS},
)
def adamerging_layer(
    experts: Experts,
    calibration: Calibration,
    *,
    init: Annotated[float, Range(0, 3)] = 0.3,
    clamp: Clamp = "unit",
    steps: Annotated[int, Range(0)] = 30,
    lr: Annotated[float, Range(0, 1)] = 3e-2,
    batch_size: Annotated[int, Range(1)] = 16,
    batches: Annotated[int, Range(1)] = 2,
    seed: Annotated[int, Range(0)] = 0,
) -> SharedModel:
    r"""Task arithmetic with one coefficient per task and tensor, learned on unlabelled images.

    .. math:: \theta^l = \theta_0^l + \sum_t \lambda_t^l \tau_t^l, \qquad
        \min_\lambda \sum_t \sum_{\text{batches}} \frac1B \sum_{x \in B_t} H(p_\theta(y \mid x))

    with the entropy :math:`H(p) = -\sum_c p_c \log p_c` of the prediction under the task's frozen
    zero-shot head. All tasks count in each step of Adam [yang2024adamerging].

    Parameters
    ----------
    experts : Experts
        Base and experts; all task vectors are held in memory.
    calibration : Calibration
        Unlabelled images and the heads.
    init : float, default 0.3
        Value that all :math:`\lambda_t^l` start from.
    clamp : {"unit", "none"}, default "unit"
        Whether the coefficients are held within [0, 1].
    steps : int, default 30
        Steps of Adam; 500 in the paper.
    lr : float, default 0.03
        Learning rate; 0.001 in the paper, which takes more steps.
    batch_size : int, default 16
        Images of a task per batch.
    batches : int, default 2
        Batches of each task per step.
    seed : int, default 0
        Seed of the order of the images.

    Notes
    -----
    Released code takes "layer" as one tensor of the state dict, here as well; it stores query, key
    and value as one. It also counts six tensors of the text tower, which never get a gradient.
    FusionBench works on Hugging Face checkpoints, where query, key and value have a coefficient
    each, leaves the output projection out, takes one batch per task and step (``batches=1``) for
    1000 steps, does not clamp (``clamp="none"``), and adds 1e-8 inside the logarithm.

    Papers adapt on the unlabelled test images; here the images come from another split by default
    (:meth:`mergebook.Benchmark.calibration`).
    """
    return merge_learned(
        experts,
        Combination(experts),
        calibration,
        layerwise=True,
        init=init,
        clamp=clamp,
        steps=steps,
        lr=lr,
        batch_size=batch_size,
        batches=batches,
        seed=seed,
    )
