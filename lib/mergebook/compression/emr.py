"""EMR-Merging: elect one vector, mask and rescale it for each task [huang2024emr]."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from mergebook.merged.rescaled import RescaledModel
from mergebook.registry import model_method
from mergebook.weights import Experts, Layer, Masks
from mergebook.weights.masks import pack_rows

Rescaler = Literal["paper", "released", "none"]
Cancelled = Literal["base", "negative"]


def elect(layer: Layer, cancelled: Cancelled) -> tuple[Tensor, Tensor]:
    """Elected vector ``[*s]`` and the masks of the values that agree with it, bool ``[T, *s]``."""
    sign = layer.total.sign()
    if cancelled == "negative":
        sign[sign == 0] = -1
    agreeing = (layer.deltas * sign).clamp_(min=0)  # magnitudes; zero where the sign is the other
    return agreeing.amax(0).mul_(sign), agreeing > 0


@model_method("emr", title="EMR-Merging", paper="huang2024emr", family="compression")
def emr(
    experts: Experts,
    *,
    rescaler: Rescaler = "paper",
    cancelled: Cancelled = "base",
) -> RescaledModel:
    r"""Elect one vector; each task uses the part that agrees with its own signs, rescaled.

    1. Elect: :math:`\gamma = \mathrm{sgn}(\sum_t \tau_t)`, and for each entry :math:`\epsilon_i`,
       the largest :math:`|\tau_{t,i}|` among the tasks whose sign is :math:`\gamma_i`;
       :math:`\tau_{uni} = \gamma \odot \epsilon`.
    2. Mask: :math:`M_t = 1\{\tau_t \odot \tau_{uni} > 0\}`.
    3. Rescale: :math:`\lambda_t = \sum_i |\tau_{t,i}| / \sum_i |M_{t,i}\,\tau_{uni,i}|`, both sums
       over the whole model.

    :math:`\hat\theta_t = \theta_0 + \lambda_t M_t \odot \tau_{uni}`. It needs neither data nor
    tuning. Storage b(2P' + F) + T P' + 32 T bits.

    Parameters
    ----------
    rescaler : {"paper", "released", "none"}, default "paper"
        Ratio of two sums over the model, as in the paper's formula; of two sums of the tensors'
        means, as in the released code; or 1, an ablation.
    cancelled : {"base", "negative"}, default "base"
        An entry whose task vectors add up to exactly zero stays at the base, as the formula says;
        or its elected sign is negative, as in the released code.

    Notes
    -----
    The released code, and FusionBench after it, adds up the *mean* magnitude of each tensor before
    it divides, so that a bias weighs as much as a matrix; masks are the same under both rules. Its
    elected sign is that of the mean over tasks, with -1 for zero. Masks there are kept as one
    boolean byte per entry, here as one bit. The densities and rescalers that the paper prints in
    its Table 16 (about 0.71 and 0.77 on ViT-B/32) are ``solution.masks.density(task)`` and
    ``solution.rescalers``.

    Our reading: a task that agrees with the elected vector nowhere gets the rescaler 0.
    """
    num_tasks = len(experts.tasks)
    own, elected = torch.zeros(2, num_tasks, dtype=torch.float64)
    vector, packed, shapes = {}, {}, {}
    for layer in experts:
        merged, masks = elect(layer, cancelled)
        weight = 1.0 if rescaler == "paper" else 1.0 / layer.numel
        own += weight * _magnitude(layer.deltas)
        elected += weight * _magnitude(masks * merged)
        vector[layer.name] = experts.to_base(layer.name, merged)
        packed[layer.name] = pack_rows(masks)
        shapes[layer.name] = layer.base.shape
    factors = torch.where(elected > 0, own / elected, 0.0)
    if rescaler == "none":
        factors = torch.ones_like(factors)
    if not vector:  # nothing to rescale, nothing to store
        factors = factors[:0]
    everything = Masks(experts.tasks, packed, shapes)
    return RescaledModel(experts.sizes, experts.base, vector, everything, factors.to(experts.dtype))


def _magnitude(values: Tensor) -> Tensor:
    """Sum of magnitudes of each task, float64 ``[T]``."""
    return values.reshape(len(values), -1).abs().sum(1, dtype=torch.float64).cpu()
