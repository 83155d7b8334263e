"""MagMax: the largest change wins [marczak2024magmax]."""

from __future__ import annotations

import torch
from torch import Tensor

from mergebook.methods.task_arithmetic import SCALES
from mergebook.registry import merge_method
from mergebook.registry.types import Scale
from mergebook.weights import Layer


@merge_method(
    "magmax", title="MagMax", paper="marczak2024magmax", symmetric=False, grid={"scale": SCALES}
)
def magmax(layer: Layer, *, scale: Scale = 0.5) -> Tensor:
    r"""Take each entry from the task vector that changes it most.

    :math:`\theta = \theta_0 + \alpha\tau` with :math:`\tau_i = \tau_{t^*, i}` and
    :math:`t^* = \arg\max_t |\tau_{t,i}|`; of equal magnitudes the latest task wins, hence the
    order of the experts matters where they are equal with other signs [marczak2024magmax].

    Notes
    -----
    The paper is about continual learning: its experts are fine-tuned one after the other, each
    from the last, and its claim is about those. On experts that were fine-tuned independently, as
    a suite's are, FusionBench finds the method close to task arithmetic (71.1 against 80.6 for
    sequential fine-tuning, ViT-B/32, eight tasks). The rule for equal magnitudes is the released
    code's.
    """
    largest = layer.deltas[0]
    for delta in layer.deltas[1:]:
        largest = torch.where(delta.abs() >= largest.abs(), delta, largest)
    return layer.base + scale * largest
