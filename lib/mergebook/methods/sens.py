"""Sens-Merging, carried over from language models to image encoders [liu2025sens]."""

from __future__ import annotations

from typing import Annotated

import torch
from torch import Tensor

from mergebook.activations.sensitivity import sensitivities, transfers
from mergebook.calibration import Calibration
from mergebook.errors import MethodError
from mergebook.registry import Range, merge_method
from mergebook.registry.types import NumImages, Scale
from mergebook.towers.tape import tower_weights
from mergebook.weights import Experts, Layer, sum_tasks


def prepare_sens(
    experts: Experts, calibration: Calibration, num_images: int, temperature: float
) -> dict[str, Tensor]:
    """Coefficients of the tasks ``[T]`` for every block, with mean 1."""
    few, weights = calibration.first(num_images), tower_weights(experts, calibration)
    rows = []
    for task in experts.tasks:
        own = sensitivities(few, task, weights[task])
        norm = torch.stack(list(own.values())).double().norm()
        if not torch.isfinite(norm):
            raise MethodError(f"sens: the sensitivities of expert {task!r} are NaN or infinite")
        rows.append({block: value / norm if norm > 0 else value for block, value in own.items()})
    shares = transfers(few, weights)
    sigma = {
        part: len(rows)
        * torch.softmax(torch.stack([row[part] for row in rows]) * shares / temperature, 0)
        for part in rows[0]
    }
    return {name: sigma[calibration.tower.part_of(name)] for name in experts.trained}


@merge_method(
    "sens",
    title="Sens-Merging",
    paper="liu2025sens",
    family="statistics",
    status="analogue",
    prepare=prepare_sens,
    needs=("images",),
    grid={"temperature": (0.02, 0.05, 0.1, 1.0), "scale": (0.2, 0.3, 0.4)},
)
def sens(
    layer: Layer,
    state: dict[str, Tensor],
    *,
    scale: Scale = 0.3,
    temperature: Annotated[float, Range(1e-3)] = 0.05,
    num_images: NumImages = 32,
) -> Tensor:
    r"""Task arithmetic with a coefficient per task and block, from sensitivity and transfer.

    With unlabelled images x of each task:

    - sensitivity of block l of expert t: :math:`s_t^l = E_x |\langle \nabla_{\theta^l} H(p_t(x)),
      \theta_t^l\rangle|`, H the entropy of its predictions; :math:`a_t^l = s_t^l / \|s_t\|_2`;
    - transfer: :math:`m_t` is the agreement :math:`\sum_c \min(p, q)_c` (one minus the total
      variation) of expert t's predictions p with those q of expert s, on images and with the head
      of task s, averaged over images, summed over :math:`s \ne t`; shares that add up to 1;

    .. math:: \theta^l = \theta_0^l + \alpha \sum_t \sigma_t^l \tau_t^l, \qquad
        \sigma^l = T\,\mathrm{softmax}_t\big(a_t^l\, m_t / \beta\big).

    Parameters
    ----------
    temperature : float, default 0.05
        The temperature :math:`\beta` of the softmax. High temperatures give task arithmetic.

    Notes
    -----
    The paper merges language models; this is a counterpart of ours. We know its abstract and
    descriptions of it, not its formulas. It ranks layers by gradients on a calibration set, and
    models by how they serve other tasks, and turns the product into coefficients by a softmax over
    models [liu2025sens]. Ours are: the entropy for a loss that needs no label, whole blocks as
    layers, agreement as the measure of transfer, and the temperature, chosen on the mini suite.

    A third party's code sums the absolute value of gradient times weight over all entries, in
    place of the absolute value of the sum; rewards the distance of logits from the other task's
    expert, in place of agreement; and uses temperature 1, at which the coefficients are within a
    few per cent of 1.
    """
    sigma = layer.per_task(state[layer.name])
    return layer.base + scale * sum_tasks(sigma * layer.deltas)
