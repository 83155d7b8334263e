"""Learning a few numbers on a few images: the loop and the losses that trained methods share."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor

from mergebook.calibration import Calibration
from mergebook.errors import MethodError
from mergebook.weights import Experts, Layer
from mergebook.weights.qkv import Qkv, named_like

Optimizer = Literal["adamw", "sgd"]
Parts = Callable[[Layer], tuple[Tensor, Tensor]]


def minimise(
    parameters: Sequence[Tensor],
    loss: Callable[[int], Tensor],
    *,
    steps: int,
    lr: float,
    betas: tuple[float, float] = (0.9, 0.999),
    cosine: bool = False,
    optimizer: Optimizer = "adamw",
    weight_decay: float = 0.0,
    clip: float | None = None,
    what: str = "parameters",
) -> list[float]:
    """Minimise a loss, in place.

    Parameters
    ----------
    parameters : sequence of Tensor
        Leaf tensors that require gradients. One that a step's loss does not depend on keeps its
        value in that step.
    loss : callable
        ``loss(step) -> scalar``; draws its own images, so that a method fixes its seed.
    steps : int
        Number of steps; with 0, or without parameters, nothing happens.
    lr : float
        Learning rate.
    betas : tuple of float, default (0.9, 0.999)
        Of Adam.
    cosine : bool, default False
        Whether the rate falls to zero on a cosine.
    optimizer : {"adamw", "sgd"}, default "adamw"
        Adam with decoupled weight decay, or gradient descent without momentum.
    weight_decay : float, default 0
        Share of each parameter, times `lr`, that a step takes away; 0 makes AdamW plain Adam.
    clip : float, optional
        Largest norm of the gradient of all parameters together.
    what : str
        What is learned, for the error message.

    Returns
    -------
    list of float
        The loss before each step.

    Raises
    ------
    MethodError
        If the loss stops being finite (names the step).
    """
    if not steps or not parameters:
        return []
    if optimizer == "sgd":
        descent = torch.optim.SGD(parameters, lr, weight_decay=weight_decay)
    else:
        descent = torch.optim.AdamW(parameters, lr, betas, weight_decay=weight_decay)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(descent, steps)
    curve = []
    for step in range(steps):
        value = loss(step)
        if not torch.isfinite(value):
            raise MethodError(f"learning the {what}: loss is {value.item()} at step {step}")
        descent.zero_grad()
        value.backward()
        if clip is not None:
            torch.nn.utils.clip_grad_norm_(parameters, clip)
        descent.step()
        if cosine:
            schedule.step()
        curve.append(value.item())
    return curve


def entropy(logits: Tensor) -> Tensor:
    """Mean Shannon entropy, in nats, of the predictions ``[N, C]``."""
    log = torch.log_softmax(logits, -1)
    return -(log.exp() * log).sum(-1).mean()


class Combination:
    """Merged weights as a differentiable function of one coefficient per tensor and task.

    ``origin + sum_t coefficient[t] * vector[t]`` for each tensor. Origins and vectors of all
    tensors are held in memory, (T + 1) P' numbers: every step of learning needs all of them.

    Parameters
    ----------
    experts : Experts
        Base and experts.
    parts : callable, optional
        Maps a layer to its origin ``[*s]`` and vectors ``[T, *s]``; by default the base and the
        task vectors.
    qkv : {"fused", "split"}, optional
        How the layers show query, key and value, see :mod:`mergebook.weights.qkv`; by default as
        they are stored.

    Attributes
    ----------
    names : tuple of str
        The K tensors that are merged, so arranged.
    tasks : tuple of str
        The T tasks.
    dtype : torch.dtype
        Type of the arithmetic.
    """

    def __init__(
        self,
        experts: Experts,
        parts: Parts = lambda layer: (layer.base, layer.deltas),
        qkv: Qkv | None = None,
    ):
        view = experts.arranged(qkv) if qkv else experts
        self.names, self.tasks, self.dtype = view.trained, experts.tasks, experts.dtype
        self._base = experts.base
        self._frozen = frozen_weights(view)
        self._parts = [parts(layer) for layer in view]

    def __call__(self, coefficients: Tensor) -> dict[str, Tensor]:
        """State dict, in the type of the arithmetic, for coefficients ``[K, T]``."""
        merged = dict(self._frozen)
        rows = coefficients.unbind(0)
        for name, (origin, vectors), row in zip(self.names, self._parts, rows, strict=True):
            merged[name] = origin + torch.tensordot(row, vectors, 1)
        return named_like(merged, self._base)


def frozen_weights(experts: Experts) -> dict[str, Tensor]:
    """Tensors of the base that no expert changed, in the type of the arithmetic."""
    trained = set(experts.trained)
    return {key: experts.base[key].to(experts.dtype) for key in experts.base if key not in trained}


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
