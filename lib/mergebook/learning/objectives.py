"""What methods that learn on images minimise, and how they look at the images of several tasks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import torch
from torch import Tensor

from mergebook.calibration import Calibration
from mergebook.registry.types import Learning


def entropy(logits: Tensor) -> Tensor:
    """Mean Shannon entropy, in nats, of the predictions ``[N, C]``."""
    log = torch.log_softmax(logits, -1)
    return -(log.exp() * log).sum(-1).mean()


class Batches:
    """Batches of one task's image numbers, int64 [B], by their number.

    Asking for one that lies before the last one starts from the beginning.

    Parameters
    ----------
    start : callable
        Gives the endless batches, the same each time.
    """

    def __init__(self, start: Callable[[], Iterator[Tensor]]):
        self.start = start
        self._stream, self._number = start(), -1

    def __getitem__(self, number: int) -> Tensor:
        if number < self._number:
            self._stream, self._number = self.start(), -1
        while self._number < number:
            self._last = next(self._stream)
            self._number += 1
        return self._last


def image_batches(calibration: Calibration, learning: Learning) -> dict[str, Batches]:
    """Batches of image numbers of each task, see :meth:`Calibration.batches`."""

    def of(task: str) -> Batches:
        return Batches(lambda: calibration.batches(task, learning.batch_size, learning.seed))

    return {task: of(task) for task in calibration.tasks}


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
    joint = calibration.tower(weights, calibration.tower.cast(images, weights))
    rows = joint.split([len(index) for index in picks.values()])
    return dict(zip(picks, rows, strict=True))


def scores(calibration: Calibration, task: str, rows: Tensor) -> Tensor:
    """Class scores ``[B, C]`` of features ``[B, D]`` under a task's zero-shot head."""
    return calibration.logits(rows, task, calibration.heads[task].to(rows.dtype))


def entropy_of_all_tasks(
    calibration: Calibration, learning: Learning
) -> Callable[[Mapping[str, Tensor], int], Tensor]:
    """Objective of AdaMerging: entropies of the predictions, summed over tasks and batches.

    Parameters
    ----------
    calibration : Calibration
        Unlabelled images and heads.
    learning : Learning
        Images per batch, and seed of their order, see :meth:`Calibration.batches`; batches of each
        task per call, one if it does not say. The mean entropy of each batch counts.

    Returns
    -------
    callable
        Maps weights and the number of a step, which says which batches, to the loss.
    """
    batches, each = image_batches(calibration, learning), learning.batches or 1

    def loss(weights: Mapping[str, Tensor], step: int) -> Tensor:
        numbers = range(step * each, (step + 1) * each)
        drawn = {task: [own[number] for number in numbers] for task, own in batches.items()}
        rows = features(calibration, weights, {t: torch.cat(drawn[t]) for t in drawn})
        return torch.stack(
            [
                entropy(scores(calibration, task, batch))
                for task, indices in drawn.items()
                for batch in rows[task].split([len(index) for index in indices])
            ]
        ).sum()

    return loss
