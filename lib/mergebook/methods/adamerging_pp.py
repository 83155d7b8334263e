"""AdaMerging++: AdaMerging of the entries that TIES keeps [yang2024adamerging]."""

from __future__ import annotations

from typing import Annotated

from mergebook.calibration import Calibration
from mergebook.learning import Combination
from mergebook.merged import SharedModel
from mergebook.methods.adamerging import INITS, Clamp, merge_learned
from mergebook.methods.ties import elected, prepare_ties
from mergebook.registry import Range, model_method
from mergebook.weights import Experts
from mergebook.weights.select import Keep


def _trimmed(experts: Experts, density: float, keep: Keep) -> Combination:
    state = prepare_ties(experts, density, keep)
    return Combination(experts, lambda layer: (layer.base, elected(layer, state)))


@model_method(
    "adamerging_task_pp",
    title="AdaMerging++, per task",
    paper="yang2024adamerging",
    family="adapted",
    needs=("images",),
    grid={"init": INITS},
)
def adamerging_task_pp(
    experts: Experts,
    calibration: Calibration,
    *,
    init: Annotated[float, Range(0, 3)] = 0.3,
    density: Annotated[float, Range(0, 1)] = 0.2,
    keep: Keep = "k+1",
    clamp: Clamp = "unit",
    steps: Annotated[int, Range(0)] = 30,
    lr: Annotated[float, Range(0, 1)] = 1e-2,
    batch_size: Annotated[int, Range(1)] = 16,
    batches: Annotated[int, Range(1)] = 2,
    seed: Annotated[int, Range(0)] = 0,
) -> SharedModel:
    r"""Trimmed task vectors with one coefficient per task, learned on unlabelled images.

    :math:`\theta = \theta_0 + \sum_t \lambda_t \tilde\tau_t` with the trimmed vectors of
    :data:`adamerging_layer_pp`; the objective is that of
    :data:`mergebook.methods.adamerging.adamerging_layer`.

    Parameters
    ----------
    experts : Experts
        Base and experts; all trimmed vectors are held in memory.
    calibration : Calibration
        Unlabelled images and the heads.
    init : float, default 0.3
        Value that all :math:`\lambda_t` start from.
    density : float, default 0.2
        Kept share of the trimming.
    keep : {"k+1", "k"}, default "k+1"
        Rule of the trimming, see :data:`mergebook.methods.ties.ties`.
    clamp : {"unit", "none"}, default "unit"
        Whether the coefficients are held within [0, 1].
    steps : int, default 30
        Steps of Adam; 500 in the paper.
    lr : float, default 0.01
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
        _trimmed(experts, density, keep),
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
    "adamerging_layer_pp",
    title="AdaMerging++, per layer",
    paper="yang2024adamerging",
    family="adapted",
    needs=("images",),
    grid={"init": INITS},
)
def adamerging_layer_pp(
    experts: Experts,
    calibration: Calibration,
    *,
    init: Annotated[float, Range(0, 3)] = 0.3,
    density: Annotated[float, Range(0, 1)] = 0.2,
    keep: Keep = "k+1",
    clamp: Clamp = "unit",
    steps: Annotated[int, Range(0)] = 30,
    lr: Annotated[float, Range(0, 1)] = 3e-2,
    batch_size: Annotated[int, Range(1)] = 16,
    batches: Annotated[int, Range(1)] = 2,
    seed: Annotated[int, Range(0)] = 0,
) -> SharedModel:
    r"""Trimmed task vectors with one coefficient per task and tensor, learned on unlabelled images.

    :math:`\theta^l = \theta_0^l + \sum_t \lambda_t^l \tilde\tau_t^l`, where :math:`\tilde\tau_t`
    holds the entries of :math:`\tau_t` that TIES would add up: among the largest of the task
    vector, and of the elected sign (:data:`mergebook.methods.ties.ties`). With equal coefficients
    it is TIES with ``combine="sum"``; the objective is that of
    :data:`mergebook.methods.adamerging.adamerging_layer`.

    Parameters
    ----------
    experts : Experts
        Base and experts; all trimmed vectors are held in memory.
    calibration : Calibration
        Unlabelled images and the heads.
    init : float, default 0.3
        Value that all :math:`\lambda_t^l` start from.
    density : float, default 0.2
        Kept share of the trimming.
    keep : {"k+1", "k"}, default "k+1"
        Rule of the trimming, see :data:`mergebook.methods.ties.ties`.
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
    """
    return merge_learned(
        experts,
        _trimmed(experts, density, keep),
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
