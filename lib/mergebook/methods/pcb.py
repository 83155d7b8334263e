"""PCB-Merging: weigh each entry by its size and by what other tasks want there [du2024pcb]."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from torch import Tensor

from mergebook.registry import Range, merge_method
from mergebook.registry.types import Density, ScalePerTask
from mergebook.weights import Experts, Layer, ranked, sum_tasks

Variant = Literal["vision", "summary", "evolution"]


@dataclass(frozen=True)
class PcbState:
    """What PCB knows about the whole task vectors, each ``[T]``.

    Attributes
    ----------
    low, high : Tensor
        Magnitudes at the two clipping quantiles.
    threshold, top : Tensor
        Score from which on entries count, and the largest score.
    """

    low: Tensor
    high: Tensor
    threshold: Tensor
    top: Tensor


def unit(values: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Map low..high to 0..1; 0 throughout where the range is empty."""
    span = high - low
    return (values - low) / torch.where(span > 0, span, torch.inf)


def clipped(layer: Layer, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """Clipped magnitudes of the task vectors, and the same mapped to 0..1; both ``[T, *s]``."""
    low, high = layer.per_task(low), layer.per_task(high)
    magnitude = layer.deltas.abs().clamp_(low, high)
    return magnitude, unit(magnitude, low, high)


def scores(layer: Layer, low: Tensor, high: Tensor, variant: Variant) -> Tensor:
    """Balance of intra- and inter-task importance of each entry, ``[T, *s]``."""
    _, size = clipped(layer, low, high)
    signed = layer.deltas.sign() * size
    if variant == "evolution":
        inter = torch.stack([sum_tasks((own * signed).tanh_()) for own in signed])
    else:
        wanted = sum_tasks(signed) if variant == "vision" else layer.total
        inter = (layer.deltas * wanted).tanh_()
    return size.square_().mul_(layer.num_tasks).exp_().mul_(inter)


def prepare_pcb(experts: Experts, variant: Variant, density: float, clip: float) -> PcbState:
    """Quantiles of the magnitudes, then of the scores, in streaming passes over the layers."""

    def ends() -> tuple[int, int]:
        count = experts.num_entries
        return count - int(count * clip), count - int(count * (1 - clip) - 1)

    def kept() -> tuple[int, int]:
        count = experts.num_entries
        return count - min(int(count * (1 - density)), count - 1), 1

    low, high = ranked(experts, lambda layer: layer.deltas.abs(), ends)
    threshold, top = ranked(experts, lambda layer: scores(layer, low, high, variant), kept)
    return PcbState(low, high, threshold, top)


@merge_method(
    "pcb",
    title="PCB",
    paper="du2024pcb",
    prepare=prepare_pcb,
    grid={"scale": (0.4, 0.6, 0.8, 1.0, 1.2, 1.4, 1.6, 1.8)},
)
def pcb(
    layer: Layer,
    state: PcbState,
    *,
    scale: ScalePerTask = 1.2,
    density: Density = 0.05,
    variant: Variant = "vision",
    clip: Annotated[float, Range(0, 0.25)] = 0.01,
) -> Tensor:
    r"""Weigh each entry by its size within its task and by its agreement with the other tasks.

    Over the whole task vectors, not tensor by tensor [du2024pcb, released code]:

    1. Clip the magnitudes of each task to their quantiles q and 1 - q: :math:`\hat\tau_t`, with
       the signs kept; :math:`m_t` is :math:`|\hat\tau_t|` mapped to 0..1, and
       :math:`n_t = \mathrm{sgn}(\tau_t)\, m_t`.
    2. Score :math:`\beta_t = \exp(T m_t^2) \cdot \tanh(\tau_t \sum_s n_s)`: intra- times
       inter-balancing.
    3. Clip the scores of each task from below at their (1 - r) quantile and map them to weights
       :math:`w_t` in 0..1: all but the share r of the largest get the weight 0.
    4. :math:`\theta = \theta_0 + \sum_t w_t \lambda_t \hat\tau_t \,/ \sum_t w_t`.

    The quantile q of d sorted values is the one at place int(q d), counted from 0, the upper
    one at int((1 - q) d - 1). Where all values are the same, the mapped ones are 0.

    Parameters
    ----------
    density : float, default 0.05
        The share r.
    variant : {"vision", "summary", "evolution"}, default "vision"
        Inter-balancing of the three released scripts: as above; with the raw sum,
        :math:`\tanh(\tau_t \sum_s \tau_s)`; or :math:`\sum_s \tanh(n_t n_s)`.
    clip : float, default 0.01
        The quantile q; the summary script has 0.0001.

    Notes
    -----
    The three scripts of one repository are the three variants; the vision script's is the default.
    The paper's formula, as a draft for mergekit quotes it (not verified), has softmax functions
    over all entries in place of exp and tanh, and a "Norm" that is not defined; it is not offered
    here. The evolution script also searches one coefficient per task (0.8 to 1.3) with 100
    evaluations on validation data. That search is not part of the method here, where one
    coefficient is searched on validation data as for other methods; a mapping for `scale` takes
    the result of any other search. The released code divides 0 by 0 where all values are the same,
    and fails at density 0.

    A weight is a small difference of scores near the threshold, and a weight however small counts
    in full where no other task has one: results are sensitive to rounding in single entries.
    The released code sorts all vectors in memory; here the quantiles are found by streaming.
    """
    magnitude, _ = clipped(layer, state.low, state.high)
    threshold, top = layer.per_task(state.threshold), layer.per_task(state.top)
    balance = scores(layer, state.low, state.high, variant)
    weights = unit(balance.clamp_(min=threshold), threshold, top)
    wanted = sum_tasks(layer.deltas.sign() * magnitude * layer.per_task(scale) * weights)
    return layer.base + wanted / sum_tasks(weights).clamp_(min=1e-12)
