"""Multi-task training: fine-tuning on all tasks at once, the line that merging is measured by."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated

import torch
from torch import Tensor
from torch.nn import functional as F

from mergebook.calibration import Calibration
from mergebook.learning import Optimizer, minimise, scores
from mergebook.merged import SharedModel
from mergebook.registry import Range, model_method
from mergebook.weights import Experts

WEIGHT_DECAY = 0.1  # as in the recipe of the experts
CLIP = 1.0


def labelled_batches(
    calibration: Calibration, task: str, batch_size: int, seed: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Endless batches of images ``[B, 3, S, S]`` and labels ``[B]`` of one task.

    Equal seeds give equal batches, so that methods that train on one task or on several at a time
    see the same.
    """
    for index in calibration.batches(task, batch_size, seed):
        yield calibration.inputs[task][index], calibration.labels[task][index]


def tune(
    weights: Mapping[str, Tensor],
    trained: tuple[str, ...],
    calibration: Calibration,
    streams: Mapping[str, Iterator[tuple[Tensor, Tensor]]],
    *,
    steps: int,
    lr: float,
    optimizer: Optimizer,
    cosine: bool,
) -> dict[str, Tensor]:
    """Fine-tune an image tower on one or several tasks.

    Minimises the mean over tasks of the cross-entropy under the frozen zero-shot heads.

    Parameters
    ----------
    weights : mapping of str to Tensor
        State dict to start from, not modified.
    trained : tuple of str
        Tensors that may change.
    calibration : Calibration
        Heads and tower.
    streams : mapping of task to iterator
        Batches of the tasks to train on, see :func:`labelled_batches`.
    steps : int
        Number of steps; each takes a batch of every task.
    lr : float
        Learning rate.
    optimizer : {"adamw", "sgd"}
        AdamW with the weight decay of the experts' recipe and their limit on the gradient's norm,
        or plain gradient descent with neither.
    cosine : bool
        Whether the rate falls to zero on a cosine.

    Returns
    -------
    dict of str to Tensor
        The whole state dict.
    """
    tuned = dict(weights)
    for name in trained:
        tuned[name] = weights[name].clone().requires_grad_()

    def loss(step: int) -> Tensor:
        drawn = {task: next(stream) for task, stream in streams.items()}
        images = torch.cat([images for images, _ in drawn.values()])
        joint = calibration.tower(tuned, images.to(tuned["proj"].dtype))
        rows = joint.split([len(labels) for _, labels in drawn.values()])
        return torch.stack(
            [
                F.cross_entropy(scores(calibration, task, part), labels)
                for (task, (_, labels)), part in zip(drawn.items(), rows, strict=True)
            ]
        ).mean()

    adamw = optimizer == "adamw"
    minimise(
        [tuned[name] for name in trained],
        loss,
        steps=steps,
        lr=lr,
        cosine=cosine,
        optimizer=optimizer,
        weight_decay=WEIGHT_DECAY if adamw else 0.0,
        clip=CLIP if adamw else None,
        what=f"weights on {', '.join(streams)}",
    )
    return {name: tensor.detach() for name, tensor in tuned.items()}


@model_method(
    "multitask",
    title="Multi-task training",
    paper=None,
    family="training",
    status="common knowledge",
    needs=("images", "labels"),
    grid={"lr": (0.0005, 0.001, 0.002)},
)
def multitask(
    experts: Experts,
    calibration: Calibration,
    *,
    steps: Annotated[int, Range(0)] = 60,
    lr: Annotated[float, Range(0, 10)] = 1e-3,
    batch_size: Annotated[int, Range(1)] = 16,
    optimizer: Optimizer = "adamw",
    seed: Annotated[int, Range(0)] = 0,
) -> SharedModel:
    r"""Fine-tune the base on the labelled images of all tasks together.

    .. math:: \min_\theta \frac1T \sum_t \frac1{|D_t|} \sum_{(x, y) \in D_t}
        -\log p_\theta(y \mid x)

    with the frozen zero-shot heads, from :math:`\theta = \theta_0`. Not a merge: of the experts it
    takes only which tensors they changed. It is the reference that merging would replace, since
    it needs all data in one place.

    Parameters
    ----------
    experts : Experts
        Base; the tensors that experts changed are those that are trained.
    calibration : Calibration
        Labelled images and the heads.
    steps : int, default 60
        Number of steps, each with a batch of every task.
    lr : float, default 0.001
        Learning rate at first; it falls to zero on a cosine.
    batch_size : int, default 16
        Images of each task per step.
    optimizer : {"adamw", "sgd"}, default "adamw"
        AdamW with weight decay 0.1 and gradients clipped at norm 1, as for the experts; or
        gradient descent without either.
    seed : int, default 0
        Seed of the order of the images.

    Notes
    -----
    The line "traditional MTL" in papers is trained on the full training sets of all tasks. This
    one sees the calibration images only, a small sample of what the experts were trained on:
    raise ``calibration_size`` of :class:`mergebook.Benchmark` (and `steps`) for a fair line, and
    state both.
    """
    start = {key: value.to(experts.dtype) for key, value in experts.base.items()}
    streams = {
        task: labelled_batches(calibration, task, batch_size, seed) for task in experts.tasks
    }
    tuned = tune(
        start,
        experts.trained,
        calibration,
        streams,
        steps=steps,
        lr=lr,
        optimizer=optimizer,
        cosine=True,
    )
    return SharedModel.build(experts, lambda layer: tuned[layer.name])
