"""FlexSwitch: switches whose thresholds and knobs are learned [gao2026flexswitch]."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import torch
from torch import Tensor
from torch.nn import functional as F

from mergebook.calibration import Calibration
from mergebook.learning import image_batches, minimise
from mergebook.merged.switched import SwitchedModel, code_vectors
from mergebook.registry import Learning, Range, model_method
from mergebook.registry.types import Bits
from mergebook.weights import Experts

Training = Annotated[Learning, {"lr": Range(0, 10)}]
TEMPERATURE = 0.1  # width of the soft gate, in units of a tensor's root mean square


class Gate:
    """One tensor of a task vector, ready to be switched at any threshold.

    Parameters
    ----------
    delta : Tensor, shape [*s]
        Task vector.
    bits : int
        Bits of a kept entry, its sign included.

    Attributes
    ----------
    size : Tensor, shape []
        Root mean square of the entries: the unit of the threshold.
    """

    def __init__(self, delta: Tensor, bits: int):
        self.delta, self.bits = delta, bits
        self.magnitude, self.sign = delta.abs(), delta.sign()
        self.size = delta.square().mean().sqrt()

    def start(self, drop: float) -> Tensor:
        """Threshold that drops a share of the entries that are not zero.

        It lies half way between the last entry that is dropped and the first that is kept.
        """
        magnitude = self.magnitude[self.magnitude > 0]
        count = int(len(magnitude) * drop)
        if count == 0:
            return torch.zeros_like(self.size)
        pair = [magnitude.kthvalue(rank).values for rank in (count, count + 1)]
        return (pair[0] + pair[1]) / 2 / self.size

    def soft(self, threshold: Tensor) -> Tensor:
        """Gate of each entry, 0 to 1, smooth in the threshold: ``[*s]``."""
        width = TEMPERATURE * self.size.clamp(min=torch.finfo(self.size.dtype).tiny)
        return torch.sigmoid((self.magnitude - threshold * self.size) / width)

    @torch.no_grad()
    def hard(self, threshold: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Quantise what is above a threshold.

        Returns
        -------
        cells : Tensor, shape [*s]
            Level of each entry, counted from 0; that of an entry below the threshold is 0.
        kept : Tensor, bool [*s]
            Which entries are above it.
        knobs : Tensor, shape [2]
            Magnitude of the lowest level, and the step to the next: the centres of
            2**(bits - 1) equal cells between the threshold and the largest entry, times the
            factor that gives back the L2 norm of the kept entries.
        """
        num_levels = 2 ** (self.bits - 1)
        low = (threshold * self.size).clamp(min=0)
        kept = self.magnitude > low
        step = (self.magnitude.max() - low).clamp(min=0) / num_levels
        cells = ((self.magnitude - low) / step.where(step > 0, 1.0)).floor_()
        cells.clamp_(0, num_levels - 1)
        both = self.magnitude, low + (cells + 0.5) * step
        norms = [(x * kept).square_().sum(dtype=torch.float64).sqrt() for x in both]
        factor = (norms[0] / norms[1]).nan_to_num(0.0, 0.0).to(step.dtype)
        return cells, kept, torch.stack([low + 0.5 * step, step]) * factor

    def __call__(self, threshold: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
        """Switched tensor ``[*s]``, and the soft gate.

        Gradients reach the threshold through the soft gate; the values are those of the hard one.
        """
        cells, kept, (knob, step) = self.hard(threshold)
        soft = self.soft(threshold)
        value = self.sign * (knob + cells * step)
        return scale * value * (kept.to(soft.dtype) + soft - soft.detach()), soft


def learn_switches(
    gates: Mapping[str, Gate],
    base: Mapping[str, Tensor],
    expert: Mapping[str, Tensor],
    task: str,
    calibration: Calibration,
    drop: float,
    sparsity: float,
    learning: Learning,
) -> dict[str, tuple[Tensor, Tensor]]:
    """Learn one threshold and one scale per tensor of a task.

    Parameters
    ----------
    gates : mapping of str to Gate
        The trained tensors.
    base, expert : mapping of str to Tensor
        All weights, in the type of the arithmetic.
    task : str
        The task.
    calibration : Calibration
        Its images.
    drop : float
        Share of the entries that the first thresholds drop.
    sparsity : float
        Weight of the share of open gates.
    learning : Learning
        Training.

    Returns
    -------
    dict of str to (Tensor, Tensor), shapes []
        Threshold in units of :attr:`Gate.size`, and scale in units of the knob that gives back the
        norm.
    """
    if not gates:
        return {}
    inputs, tower = calibration.inputs[task], calibration.tower

    def log_odds(weights: Mapping[str, Tensor], images: Tensor) -> Tensor:
        features = tower(weights, tower.cast(images, weights)).float()
        return calibration.logits(features, task).log_softmax(1)

    with torch.no_grad():
        target = torch.cat([log_odds(expert, part) for part in inputs.split(256)])
    thresholds = torch.stack([gate.start(drop) for gate in gates.values()]).requires_grad_()
    scales = torch.ones_like(thresholds).requires_grad_()
    total = sum(gate.delta.numel() for gate in gates.values())
    batches = image_batches(calibration, learning)[task]

    def loss(step: int) -> Tensor:
        rows = batches[step]
        weights, open_gates = dict(base), torch.zeros((), dtype=thresholds.dtype)
        for (key, gate), threshold, scale in zip(gates.items(), thresholds, scales, strict=True):
            vector, soft = gate(threshold, scale)
            weights[key] = base[key] + vector
            open_gates = open_gates + soft.sum()
        found = log_odds(weights, inputs[rows])
        distance = F.kl_div(found, target[rows], reduction="batchmean", log_target=True)
        return distance + sparsity * open_gates / total

    minimise([thresholds, scales], loss, learning, by_step=True, what=f"switches of {task!r}")
    learned = zip(thresholds.detach(), scales.detach(), strict=True)
    return dict(zip(gates, learned, strict=True))


@model_method(
    "flex_switch",
    title="FlexSwitch",
    paper="gao2026flexswitch",
    family="compression",
    status="our reading",
    needs=("images",),
)
def flex_switch(
    experts: Experts,
    calibration: Calibration,
    *,
    bits: Bits = 1,
    drop: Annotated[float, Range(0, 0.99)] = 0.6,
    sparsity: Annotated[float, Range(0, 100)] = 0.2,
    learning: Training = Learning(steps=20, lr=0.05, batch_size=32),
) -> SwitchedModel:
    r"""Learn, for each tensor, how much of a task vector to keep and how large to make it.

    Tensor l of task t keeps the entries above a threshold, :math:`|\tau_{t,i}| > a_l r_l` with
    :math:`r_l` their root mean square. A kept entry becomes its sign times one of
    :math:`2^{b-1}` levels (the centres of equal cells between the threshold and the largest
    entry), times the factor that gives back the L2 norm of the kept entries, times a scale
    :math:`s_l`. Thresholds and scales minimise, with Adam,

    .. math:: \mathrm{KL}(p_{\theta_t} \,\|\, p_{\hat\theta_t}) + \mu\,\frac1{P'}
              \sum_{l,i} \sigma\big((|\tau_{t,i}| - a_l r_l) / (0.1\,r_l)\big)

    on the task's images, where p are the class probabilities under the expert and under the
    switched weights. The gate is hard in the forward pass; the gradient is that of the sigmoid.
    With 1 bit and 0 steps this is T-Switch with one threshold for both signs. Storage
    b(P' + F) + G + M + bits K + 32 N bits, each tensor with the group size that takes the least
    and N knobs (two per tensor and task where there are steps between levels).

    Parameters
    ----------
    bits : int, default 1
        Bits of a kept entry, its sign included, the same for all tensors.
    drop : float, default 0.6
        Share of the entries that are not zero which the first thresholds drop.
    sparsity : float, default 0.2
        Weight :math:`\mu` of the share of open gates.
    steps : int, default 20
        Steps for each task; a choice of ours for the mini suite.
    batch_size : int, default 32
        Images per step.
    seed : int, default 0
        Of the batches, the same for every task.

    Notes
    -----
    Our reading, from the names of the paper's parts: learnable gates (a threshold with a sigmoid,
    together with a magnitude), distillation by KL, grouped coordinates with a group size per unit.
    The paper has about 100 images per task. Losses, schedules and the unit of a threshold are ours.
    Its choice of 1, 2, 4 or 8 bits for each unit is left out: all have `bits`. No code was
    published. The images are from the training split unless the calibration says otherwise.

    Holds one task's vector at a time, and the levels of all with two bytes each.
    """
    base = {key: value.to(experts.dtype) for key, value in experts.base.items()}
    keys = experts.trained
    levels: dict[str, list[Tensor]] = {key: [] for key in keys}
    knobs = torch.zeros(1 if bits == 1 else 2, len(experts.tasks), len(levels), dtype=experts.dtype)
    for row, task in enumerate(experts.tasks):
        gates = {layer.name: Gate(layer.deltas[0], bits) for layer in experts.select([task])}
        expert = {key: base[key] + gates[key].delta if key in gates else base[key] for key in base}
        learned = learn_switches(gates, base, expert, task, calibration, drop, sparsity, learning)
        for column, (key, rows) in enumerate(levels.items()):
            if key not in gates:  # trained by other tasks only
                rows.append(torch.zeros_like(base[key], dtype=torch.int16))
                continue
            threshold, scale = learned[key]
            cells, kept, knob = gates[key].hard(threshold)
            rows.append((gates[key].sign * (cells + 1) * kept).to(torch.int16))
            knobs[:, row, column] = (scale * knob)[: len(knobs)]
    vectors = ((key, torch.stack(rows)) for key, rows in levels.items())
    layout, streams = code_vectors(experts.tasks, vectors, bits)
    return SwitchedModel(experts.sizes, experts.base, bits, layout, streams, knobs)
