"""Training of all weights of a tower on labelled images of one task or several."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

from mergebook.calibration import Calibration
from mergebook.learning.descent import minimise
from mergebook.learning.objectives import scores
from mergebook.registry.types import Learning

WEIGHT_DECAY = 0.1  # as in the recipe of the experts
CLIP = 1.0


def labelled_batches(
    calibration: Calibration, task: str, learning: Learning
) -> Iterator[tuple[Tensor, Tensor]]:
    """Endless batches of images ``[B, 3, S, S]`` and labels ``[B]`` of one task.

    Equal seeds give equal batches, so that methods that train on one task or on several at a time
    see the same.
    """
    for index in calibration.batches(task, learning.batch_size, learning.seed):
        yield calibration.inputs[task][index], calibration.labels[task][index]


def tune(
    weights: Mapping[str, Tensor],
    trained: tuple[str, ...],
    calibration: Calibration,
    streams: Mapping[str, Iterator[tuple[Tensor, Tensor]]],
    learning: Learning,
    *,
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
    learning : Learning
        Steps, each with a batch of every task, learning rate and optimiser: AdamW with the weight
        decay of the experts' recipe and their limit on the gradient's norm, or plain gradient
        descent with neither.
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
        joint = calibration.tower(tuned, calibration.tower.cast(images, tuned))
        rows = joint.split([len(labels) for _, labels in drawn.values()])
        return torch.stack(
            [
                F.cross_entropy(scores(calibration, task, part), labels)
                for (task, (_, labels)), part in zip(drawn.items(), rows, strict=True)
            ]
        ).mean()

    adamw = learning.optimizer == "adamw"
    minimise(
        [tuned[name] for name in trained],
        loss,
        learning,
        cosine=cosine,
        weight_decay=WEIGHT_DECAY if adamw else 0.0,
        clip=CLIP if adamw else None,
        what=f"weights on {', '.join(streams)}",
    )
    return {name: tensor.detach() for name, tensor in tuned.items()}
