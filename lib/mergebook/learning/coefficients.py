"""Coefficients of a merge that are learned: one per task, or one per task and tensor."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from torch import Tensor

from mergebook.calibration import Calibration
from mergebook.learning.combination import Combination
from mergebook.learning.descent import minimise
from mergebook.learning.objectives import entropy_of_all_tasks
from mergebook.merged import SharedModel
from mergebook.registry.types import Learning
from mergebook.values import Range
from mergebook.weights import Experts

Init = Annotated[float, Range(0, 3), r"Value that all coefficients :math:`\lambda` start from."]
Clamp = Annotated[Literal["unit", "none"], "Whether the coefficients are held within [0, 1]."]
INITS = (0.1, 0.3)  # that a search tries: the papers' 0.3 is too far out for 20 tasks
LIMITS = {"unit": (0.0, 1.0), "extended": (-0.5, 2.0)}


def clamped(coefficients: Tensor, clamp: str) -> Tensor:
    """Coefficients held within [0, 1] ("unit"), [-0.5, 2] ("extended") or not at all ("none")."""
    return coefficients if clamp == "none" else coefficients.clamp(*LIMITS[clamp])


def learn_coefficients(
    combination: Combination,
    calibration: Calibration,
    learning: Learning,
    *,
    layerwise: bool,
    init: float,
    clamp: str,
) -> tuple[Tensor, list[float]]:
    """Coefficients that make the predictions of the merged model certain.

    Parameters
    ----------
    combination : Combination
        Merged weights as a function of the coefficients.
    calibration : Calibration
        Images of the same tasks, in the same order.
    learning : Learning
        See :func:`minimise` and :func:`entropy_of_all_tasks`.
    layerwise : bool
        One coefficient per task and tensor, or one per task.
    init : float
        Value that all coefficients start from.
    clamp : {"unit", "extended", "none"}
        Limits, see :func:`clamped`; a coefficient beyond them gets no gradient.

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

    objective = entropy_of_all_tasks(calibration, learning)
    curve = minimise(
        [raw] if num_tensors else [],  # experts equal to the base leave nothing to learn
        lambda step: objective(combination(coefficients()), step),
        learning,
        by_step=True,
        what="coefficients",
    )
    return coefficients().detach(), curve


def merge_learned(
    experts: Experts,
    combination: Combination,
    calibration: Calibration,
    learning: Learning,
    **options: object,
) -> SharedModel:
    """Merge with the coefficients that :func:`learn_coefficients` finds."""
    coefficients, _ = learn_coefficients(combination, calibration, learning, **options)
    merged = combination(coefficients)
    return SharedModel.build(experts, lambda layer: merged[layer.name])
