"""ATM: alternate tuning and merging [zhou2024atm]."""

from __future__ import annotations

from typing import Annotated, Literal

import torch

from mergebook.calibration import Calibration
from mergebook.learning import Optimizer
from mergebook.merged import SharedModel
from mergebook.methods.multitask import labelled_batches, tune
from mergebook.registry import Range, model_method
from mergebook.weights import Experts

Start = Literal["base", "average"]


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
    start: Start = "base",
    rounds: Annotated[int, Range(0)] = 20,
    steps: Annotated[int, Range(1)] = 3,
    scale: Annotated[float, Range(0, 3)] = 1.0,
    lr: Annotated[float, Range(0, 10)] = 1e-3,
    batch_size: Annotated[int, Range(1)] = 16,
    optimizer: Optimizer = "adamw",
    seed: Annotated[int, Range(0)] = 0,
) -> SharedModel:
    r"""Fine-tune a little on each task, merge, and start again from the merged model.

    Rounds k = 0, 1, ...: from :math:`\theta^{(k)}` fine-tune briefly on each task, with the frozen
    zero-shot head, to :math:`\theta_t^{(k)}`; then

    .. math:: \theta^{(k+1)}
        = \theta^{(k)} + \frac{\alpha}{T} \sum_t \big(\theta_t^{(k)} - \theta^{(k)}\big) .

    With one step of gradient descent per round and :math:`\alpha = 1` this is gradient descent on
    the mean loss of all tasks, :data:`mergebook.methods.multitask.multitask` at a constant rate:
    task vectors are then gradients [zhou2024atm]. More steps per round mean less communication
    between the tasks.

    Parameters
    ----------
    experts : Experts
        Base and experts; the tensors that experts changed are those that are trained.
    calibration : Calibration
        Labelled images and the heads.
    start : {"base", "average"}, default "base"
        Where round 0 starts. "average", the mean of the experts, is what a first round with
        :math:`\alpha = 1` makes of the experts' own fine-tuning: ATM then refines a merge.
    rounds : int, default 20
        Number of rounds.
    steps : int, default 3
        Steps per round and task; the budget is ``rounds * steps`` batches of each task.
    scale : float, default 1.0
        The coefficient :math:`\alpha`.
    lr : float, default 0.001
        Learning rate, constant within a round, with a fresh optimiser for each task and round.
    batch_size : int, default 16
        Images per step.
    optimizer : {"adamw", "sgd"}, default "adamw"
        AdamW with weight decay 0.1 and gradients clipped at norm 1, as for the experts; or
        gradient descent without either.
    seed : int, default 0
        Seed of the order of the images.

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
    streams = {
        task: labelled_batches(calibration, task, batch_size, seed) for task in experts.tasks
    }
    for _ in range(rounds):
        total = {name: torch.zeros_like(weights[name]) for name in names}
        for task, stream in streams.items():
            tuned = tune(
                weights,
                names,
                calibration,
                {task: stream},
                steps=steps,
                lr=lr,
                optimizer=optimizer,
                cosine=False,
            )
            for name in names:
                total[name] += tuned[name] - weights[name]
        for name in names:
            weights[name] = weights[name] + scale / len(streams) * total[name]
    return SharedModel.build(experts, lambda layer: weights[layer.name])
