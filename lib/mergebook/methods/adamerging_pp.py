"""AdaMerging++: AdaMerging of the entries that TIES keeps [yang2024adamerging]."""

from __future__ import annotations

from typing import Annotated

from mergebook.calibration import Calibration
from mergebook.learning import Combination, Parts
from mergebook.learning.coefficients import INITS, Clamp, Init, merge_learned
from mergebook.merged import SharedModel
from mergebook.methods.ties import elected, prepare_ties
from mergebook.registry import Learning, model_method
from mergebook.registry.types import Density
from mergebook.weights import Experts
from mergebook.weights.select import Keep

Rule = Annotated[Keep, "Rule of the trimming, see :data:`mergebook.methods.ties.ties`."]


def trimmed(experts: Experts, density: float, keep: Keep) -> Parts:
    """Origin and vectors of each layer for a :class:`Combination`: the base, what TIES keeps."""
    state = prepare_ties(experts, density, keep)
    return lambda layer: (layer.base, elected(layer, state))


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
    init: Init = 0.3,
    density: Density = 0.2,
    keep: Rule = "k+1",
    clamp: Clamp = "unit",
    learning: Learning = Learning(steps=30, lr=1e-2, batches=2),
) -> SharedModel:
    r"""Trimmed task vectors with one coefficient per task, learned on unlabelled images.

    :math:`\theta = \theta_0 + \sum_t \lambda_t \tilde\tau_t` with the trimmed vectors of
    :data:`adamerging_layer_pp`; the objective is that of
    :data:`mergebook.methods.adamerging.adamerging_layer`. All trimmed vectors are held in memory.

    Parameters
    ----------
    steps : int, default 30
        Steps of Adam; 500 in the paper.
    lr : float, default 0.01
        Learning rate; 0.001 in the paper, which takes more steps.
    """
    combination = Combination(experts, trimmed(experts, density, keep))
    options = {"layerwise": False, "init": init, "clamp": clamp}
    return merge_learned(experts, combination, calibration, learning, **options)


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
    init: Init = 0.3,
    density: Density = 0.2,
    keep: Rule = "k+1",
    clamp: Clamp = "unit",
    learning: Learning = Learning(steps=30, lr=3e-2, batches=2),
) -> SharedModel:
    r"""Trimmed task vectors with one coefficient per task and tensor, learned on unlabelled images.

    :math:`\theta^l = \theta_0^l + \sum_t \lambda_t^l \tilde\tau_t^l`, where :math:`\tilde\tau_t`
    holds the entries of :math:`\tau_t` that TIES would add up: among the largest of the task
    vector, and of the elected sign (:data:`mergebook.methods.ties.ties`). With equal coefficients
    it is TIES with ``combine="sum"``; the objective is that of
    :data:`mergebook.methods.adamerging.adamerging_layer`. All trimmed vectors are held in memory.

    Parameters
    ----------
    steps : int, default 30
        Steps of Adam; 500 in the paper.
    lr : float, default 0.03
        Learning rate; 0.001 in the paper, which takes more steps.
    """
    combination = Combination(experts, trimmed(experts, density, keep))
    options = {"layerwise": True, "init": init, "clamp": clamp}
    return merge_learned(experts, combination, calibration, learning, **options)
