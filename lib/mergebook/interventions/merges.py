"""The static merge that an intervention sits on, and its coefficients where they learn along."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from torch import Tensor

from mergebook.calibration import Calibration
from mergebook.errors import ParameterError
from mergebook.learning import Combination, learn_coefficients
from mergebook.merged import MergedModel
from mergebook.methods.adamerging_pp import trimmed
from mergebook.registry import Learning, Range, get_method
from mergebook.weights import Experts

Merge = Literal[
    "averaging", "task_arithmetic", "ties", "adamerging_task", "adamerging_layer", "cart"
]
MergeScale = Annotated[float, Range(0, 3), "Scale of the merge, where it has one."]
SMALL_SCALES = (0.1, 0.2, 0.3)  # that a search tries: the papers' 0.3, and less for many tasks
TIES = {"density": 0.2, "keep": "k+1"}  # its defaults


def shared_merge(
    experts: Experts, calibration: Calibration, merge: Merge, scale: float
) -> MergedModel:
    """Merge the experts by one of the static methods, which gets the scale if it has one.

    TIES merges by the sum of what agrees, as the papers of this family do (scale 0.3).
    """
    method = get_method(merge)
    names = {parameter.name for parameter in method.parameters}
    params = {"scale": scale} if "scale" in names else {}
    if merge == "ties":
        params["combine"] = "sum"
    return method(experts, calibration, **params)


@dataclass(frozen=True)
class Learned:
    """Merging coefficients that learn together with the interventions, within [0, 1].

    Attributes
    ----------
    combination : Combination
        Merged weights as a function of the coefficients.
    first : Tensor, shape [K, T]
        The coefficients at the start.
    step : Tensor, shape [K, T] or [1, T]
        What is learned, from zero: the coefficients move by `share` times as much.
    share : float
        Learning rate of the coefficients over that of the interventions.
    """

    combination: Combination
    first: Tensor
    step: Tensor
    share: float

    def weights(self) -> dict[str, Tensor]:
        """State dict under the present coefficients."""
        return self.combination((self.first + self.share * self.step).clamp(0, 1))


def learnable(
    experts: Experts, calibration: Calibration, merge: Merge, scale: float, share: float
) -> Learned:
    """The coefficients of a merge, layer by layer (one per task where the merge has such).

    Raises
    ------
    ParameterError
        If the merge is not a sum of task vectors.
    """
    if merge == "cart":
        raise ParameterError("coefficients='learned' is not defined for merge='cart'")
    if merge == "ties":
        combination = Combination(experts, trimmed(experts, **TIES))
    else:
        combination = Combination(experts)
    shape = len(combination.names), len(experts.tasks)
    if merge.startswith("adamerging"):
        params = get_method(merge).check()
        options = {key: params.pop(key) for key in ("init", "clamp")}
        options["layerwise"] = merge == "adamerging_layer"
        first, _ = learn_coefficients(combination, calibration, Learning(**params), **options)
    else:
        value = 1 / len(experts.tasks) if merge == "averaging" else scale
        first = torch.full(shape, value, dtype=combination.dtype)
    rows = first[:1] if merge == "adamerging_task" else first
    return Learned(combination, first, torch.zeros_like(rows, requires_grad=True), share)
