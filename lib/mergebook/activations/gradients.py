"""Gradients at the outputs of the maps: Fisher information, K-FAC, sensitivities."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

from mergebook.calibration import Calibration
from mergebook.errors import MethodError
from mergebook.towers.tape import BATCH, Tap, Tape
from mergebook.towers.tower import Weights

Estimator = Literal["exact", "batched"]


def output_gradients(
    tape: Tape,
    weights: Weights,
    images: Tensor,
    scores: Callable[[Tensor], Iterable[Tensor]],
) -> Iterator[dict[str, Tensor]]:
    """Gradients with respect to the outputs of all maps.

    Parameters
    ----------
    tape : Tape
        Its taps are those of these images from the first gradient on.
    weights : mapping of str to Tensor
        State dict of the image tower.
    images : Tensor, shape [N, 3, S, S]
        A batch.
    scores : callable
        Maps features ``[N, D]`` to scalars; for each, one dictionary of the taps' names to
        gradients, like the taps' `y`, is yielded.
    """
    tape.taps.clear()
    with torch.enable_grad():
        values = list(scores(tape(weights, images)))
    outputs = [tap.y for tap in tape.taps.values()]
    tape.taps = {
        key: replace(tap, x=tap.x.detach(), y=tap.y.detach()) for key, tap in tape.taps.items()
    }
    for value in values:
        gradients = torch.autograd.grad(value, outputs, retain_graph=True)
        yield dict(zip(tape.taps, gradients, strict=True))


def _class_scores(calibration: Calibration, task: str, estimate: Estimator):
    r"""Scores whose squared gradients add up to the Fisher information.

    For each class c the sum over images of :math:`\sqrt{p_c}\,\log p_c`, with the first factor held
    fixed; all classes in one sum for the batched estimate.
    """

    def scores(features: Tensor) -> Iterator[Tensor]:
        head = calibration.heads[task].to(features.dtype)
        log = calibration.logits(features, task, head).log_softmax(-1)
        of_classes = ((log.detach() / 2).exp() * log).sum(0)
        yield from of_classes if estimate == "exact" else [of_classes.sum()]

    return scores


def diagonal_fisher(
    calibration: Calibration,
    task: str,
    weights: Weights,
    estimate: Estimator = "exact",
    batch_size: int = 32,
) -> dict[str, Tensor]:
    r"""Diagonal of the Fisher information of one expert, for every tensor.

    "exact" is :math:`\frac1N \sum_n \sum_c p_c(x_n)\,(\nabla_\theta \log p_c(x_n))^2`, the
    expectation over the expert's own predictions. "batched" squares one gradient per batch B:
    :math:`\frac1N \sum_B \big(\nabla_\theta \sum_{n \in B} \sum_c \sqrt{p_c}\log p_c\big)^2` with
    :math:`\sqrt{p_c}` held fixed.

    Parameters
    ----------
    calibration : Calibration
        Images and heads.
    task : str
        The expert's task.
    weights : mapping of str to Tensor
        State dict of the expert.
    estimate : {"exact", "batched"}, default "exact"
        See above.
    batch_size : int, default 32
        Images per batch: what "batched" depends on, only memory for "exact".

    Returns
    -------
    dict of str to Tensor
        Shapes are those of the weights. Embeddings of words, positions and token types, and
        tensors that features do not depend on, are left out.

    Raises
    ------
    MethodError
        If a gradient is not finite.
    """
    tape = Tape(calibration.backbone)
    images = tape.tower.cast(calibration.inputs[task], weights)
    total: dict[str, Tensor] = {}
    for batch in images.split(batch_size):
        scores = _class_scores(calibration, task, estimate)
        for gradients in output_gradients(tape, weights, batch, scores):
            for key, gradient in _of_images(tape.taps, gradients, weights):
                if estimate == "batched":
                    gradient = gradient.sum(0, keepdim=True)
                square = gradient.square().sum(0)
                total[key] = total[key] + square if key in total else square
    for key in total:
        if tape.tower.role(key) == "projection":  # stored inputs first
            total[key] = total[key].mT
    shapes = {key: weights[key].shape for key in total}
    fisher = {key: value.reshape(shapes[key]) / len(images) for key, value in total.items()}
    for key, value in fisher.items():
        if not torch.isfinite(value).all():
            raise MethodError(f"Fisher information of {task!r}: {key!r} is NaN or infinite")
    return fisher


def _of_images(
    taps: Mapping[str, Tap], gradients: Mapping[str, Tensor], weights: Weights
) -> Iterator[tuple[str, Tensor]]:
    """Gradient of each image ``[N, *s]`` with respect to each tensor; matrices as [N, out, in]."""
    for key, g in gradients.items():
        x, kind = taps[key].x, taps[key].kind
        if kind == "words":
            continue
        if kind == "patches":
            yield "positional_embedding", g
            yield "class_embedding", g[:, 0]
            yield key, g[:, 1:].mT @ x
            continue
        yield key, (g * x).sum(1) if kind == "scale" else g.mT @ x
        if (bias := key.removesuffix("weight") + "bias") in weights:
            yield bias, g.sum(1)


def output_moments(calibration: Calibration, task: str, weights: Weights) -> dict[str, Tensor]:
    r"""Second moments of the gradients at the outputs of every linear map: K-FAC's second factor.

    :math:`H = E\big[\sum_c p_c\, g_c g_c^\top\big]` over all tokens of the images, with
    :math:`g_c = \partial \log p_c / \partial y` and the expert's own predictions.

    Parameters
    ----------
    calibration : Calibration
        Images and heads.
    task : str
        The expert's task.
    weights : mapping of str to Tensor
        State dict of the expert.

    Returns
    -------
    dict of str to Tensor, float64 [out, out]
    """
    tape = Tape(calibration.backbone)
    images = tape.tower.cast(calibration.inputs[task], weights)
    total: dict[str, Tensor] = {}
    tokens: dict[str, int] = {}
    for batch in images.split(BATCH):
        scores = _class_scores(calibration, task, "exact")
        for gradients in output_gradients(tape, weights, batch, scores):
            for key, gradient in gradients.items():
                if tape.taps[key].kind == "linear":
                    g = gradient.flatten(0, 1)
                    moment = (g.T @ g).double()
                    total[key] = total[key] + moment if key in total else moment
        for key, tap in tape.taps.items():
            tokens[key] = tokens.get(key, 0) + tap.count
    return {key: value / tokens[key] for key, value in total.items()}
