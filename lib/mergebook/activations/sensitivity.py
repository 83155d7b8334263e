"""How sensitive an expert's predictions are to its blocks, and how well they serve other tasks."""

from __future__ import annotations

import torch
from torch import Tensor

from mergebook.activations.gradients import output_gradients
from mergebook.calibration import Calibration
from mergebook.learning import entropy
from mergebook.towers.tape import BATCH, Tape
from mergebook.towers.tower import Weights


def sensitivities(calibration: Calibration, task: str, weights: Weights) -> dict[str, Tensor]:
    r"""Mean over images of :math:`|\langle\nabla H, \theta\rangle|` of each block, H the entropy.

    Summed over a map and its bias the inner product is that of the output with its gradient:
    :math:`\langle g x^\top, W\rangle + \langle g, b\rangle = \langle g, y\rangle`.
    """
    tape, images = Tape(calibration.backbone), calibration.inputs[task]
    images = tape.tower.cast(images, weights)
    total: dict[str, Tensor] = {}
    for batch in images.split(BATCH):

        def scores(features: Tensor) -> list[Tensor]:
            head = calibration.heads[task].to(features.dtype)
            return [len(features) * entropy(calibration.logits(features, task, head))]

        for gradients in output_gradients(tape, weights, batch, scores):
            products: dict[str, Tensor] = {}
            for key, gradient in gradients.items():
                product = (gradient * tape.taps[key].y).sum((1, 2))
                block = tape.tower.part_of(key)
                products[block] = products[block] + product if block in products else product
            for block, product in products.items():
                size = product.abs().sum()
                total[block] = total[block] + size if block in total else size
    return {block: value / len(images) for block, value in total.items()}


@torch.no_grad()
def transfers(calibration: Calibration, weights: dict[str, Weights]) -> Tensor:
    """How well each expert predicts the other tasks as their experts do: shares ``[T]``, sum 1."""
    tasks, agreement = list(weights), torch.zeros(len(weights), len(weights), dtype=torch.float64)
    for column, task in enumerate(tasks):
        predictions = []
        for own in weights.values():
            images = calibration.tower.cast(calibration.inputs[task], own)
            features = torch.cat([calibration.tower(own, batch) for batch in images.split(BATCH)])
            head = calibration.heads[task].to(features.dtype)
            predictions.append(calibration.logits(features, task, head).softmax(-1).double())
        for row, prediction in enumerate(predictions):
            if row != column:
                shared = torch.minimum(prediction, predictions[column]).sum(-1)
                agreement[row, column] = shared.mean()
    total = agreement.sum(1)
    return total / total.sum() if len(tasks) > 1 else torch.ones_like(total)
