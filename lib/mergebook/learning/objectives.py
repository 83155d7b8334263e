"""What methods that learn on images minimise, and how they look at the images of several tasks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import torch
from torch import Tensor

from mergebook.calibration import Calibration


def entropy(logits: Tensor) -> Tensor:
    """Mean Shannon entropy, in nats, of the predictions ``[N, C]``."""
    log = torch.log_softmax(logits, -1)
    return -(log.exp() * log).sum(-1).mean()


def features(
    calibration: Calibration, weights: Mapping[str, Tensor], picks: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Features ``[B, D]`` of chosen images of several tasks, in one pass through the tower.

    Parameters
    ----------
    calibration : Calibration
        The images.
    weights : mapping of str to Tensor
        State dict of the image tower; its type is that of the arithmetic.
    picks : mapping of task to Tensor, int64 [B]
        Which images.
    """
    images = torch.cat([calibration.inputs[task][index] for task, index in picks.items()])
    joint = calibration.tower(weights, images.to(weights["proj"].dtype))
    rows = joint.split([len(index) for index in picks.values()])
    return dict(zip(picks, rows, strict=True))


def scores(calibration: Calibration, task: str, rows: Tensor) -> Tensor:
    """Class scores ``[B, C]`` of features ``[B, D]`` under a task's zero-shot head."""
    return calibration.logits(rows, task, calibration.heads[task].to(rows.dtype))


def entropy_of_all_tasks(
    calibration: Calibration, batch_size: int, batches: int, seed: int
) -> Callable[[Mapping[str, Tensor]], Tensor]:
    """Objective of AdaMerging: entropies of the predictions, summed over tasks and batches.

    Parameters
    ----------
    calibration : Calibration
        Unlabelled images and heads.
    batch_size : int
        Images per batch.
    batches : int
        Batches of each task per call; the mean entropy of each counts.
    seed : int
        Of the order of the images, see :meth:`Calibration.batches`.

    Returns
    -------
    callable
        Maps weights to the loss; every call draws the next batches.
    """
    streams = {task: calibration.batches(task, batch_size, seed) for task in calibration.tasks}

    def loss(weights: Mapping[str, Tensor]) -> Tensor:
        drawn = {task: _several(stream, batches) for task, stream in streams.items()}
        rows = features(calibration, weights, {t: torch.cat(drawn[t]) for t in drawn})
        return torch.stack(
            [
                entropy(scores(calibration, task, batch))
                for task, indices in drawn.items()
                for batch in rows[task].split([len(index) for index in indices])
            ]
        ).sum()

    return loss


def _several(stream: Iterator[Tensor], number: int) -> list[Tensor]:
    return [next(stream) for _ in range(number)]
