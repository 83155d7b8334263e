"""ATM: alternate tuning and merging [zhou2024atm]."""

from __future__ import annotations

from typing import Annotated, Literal

import torch

from mergebook.calibration import Calibration
from mergebook.learning.tuning import labelled_batches, tune
from mergebook.merged import SharedModel
from mergebook.registry import Learning, Range, model_method
from mergebook.registry.types import Scale
from mergebook.weights import Experts

Training = Annotated[Learning, {"steps": Range(1, 1_000_000), "lr": Range(0, 10)}]


@model_method(
    "atm",
    title="ATM",
    paper="zhou2024atm",
    family="training",
    status="our reading",
    needs=("images", "labels"),
    grid={"lr": (0.0005, 0.001, 0.002)},
)
def atm(
    experts: Experts,
    calibration: Calibration,
    *,
    start: Literal["base", "average"] = "base",
    rounds: Annotated[int, Range(0, 1_000), "Number of rounds."] = 20,
    scale: Scale = 1.0,
    learning: Training = Learning(steps=3, lr=1e-3, optimizer="adamw"),
) -> SharedModel:
    r"""Fine-tune a little on each task, merge, and start again from the merged model.

    Rounds k = 0, 1, ...: from :math:`\theta^{(k)}` fine-tune briefly on each task, with the frozen
    zero-shot head, to :math:`\theta_t^{(k)}`; then

    .. math:: \theta^{(k+1)}
        = \theta^{(k)} + \frac{\alpha}{T} \sum_t \big(\theta_t^{(k)} - \theta^{(k)}\big) .

    With one step of gradient descent per round and :math:`\alpha = 1` this is gradient descent on
    the mean loss of all tasks, :data:`mergebook.methods.multitask.multitask` at a constant rate:
    task vectors are then gradients [zhou2024atm]. More steps per round mean less communication
    between the tasks. Trained are the tensors that the experts changed.

    Parameters
    ----------
    start : {"base", "average"}, default "base"
        Where round 0 starts. "average", the mean of the experts, is what a first round with
        :math:`\alpha = 1` makes of the experts' own fine-tuning: ATM then refines a merge.
    steps : int, default 3
        Steps per round and task; the budget is ``rounds * steps`` batches of each task.
    lr : float, default 0.001
        Learning rate, constant within a round, with a fresh optimiser for each task and round.
    batch_size : int, default 16
        Images per step.
    optimizer : {"adamw", "sgd"}, default "adamw"
        AdamW with weight decay 0.1 and gradients clipped at norm 1, as for the experts; or
        gradient descent without either.

    Notes
    -----
    Our reading: no code is released and the paper's settings were not available to us. Its rounds
    are epochs over a task's data; here they are counted in steps, so that the budget does not
    depend on the size of the data sets. Merging other than by the mean, which the paper allows, is
    left out.

    Two uses are proposed: instead of multi-task training where data cannot be pooled
    (``start="base"``), and a few rounds on validation data after a merge (``start="average"``).
    """
    names = experts.trained
    weights = {key: value.to(experts.dtype) for key, value in experts.base.items()}
    if start == "average":
        for layer in experts:
            weights[layer.name] = layer.base + layer.total / layer.num_tasks
    streams = {task: labelled_batches(calibration, task, learning) for task in experts.tasks}
    for _ in range(rounds):
        total = {name: torch.zeros_like(weights[name]) for name in names}
        for task, stream in streams.items():
            tuned = tune(weights, names, calibration, {task: stream}, learning, cosine=False)
            for name in names:
                total[name] += tuned[name] - weights[name]
        for name in names:
            weights[name] = weights[name] + scale / len(streams) * total[name]
    return SharedModel.build(experts, lambda layer: weights[layer.name])
