"""Labels that experts give to images, and the loss of a merged model against them."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from mergebook.calibration import Calibration
from mergebook.learning.objectives import features, scores
from mergebook.weights import Experts

Samples = Annotated[
    Literal["confident", "all"],
    "Which images count: all but those on which the merged model contradicts the expert and is "
    "surer than it (SyMerge, Model Tinting++), or all (Model Tinting).",
]
CHUNK = 250  # images per pass through an expert


@torch.no_grad()
def expert_predictions(
    experts: Experts, calibration: Calibration, task: str
) -> tuple[Tensor, Tensor]:
    """Labels ``[N]`` that a task's expert gives to its images, and their probabilities ``[N]``."""
    weights = {key: value.to(experts.dtype) for key, value in experts.expert(task).items()}
    chunks = torch.arange(len(calibration.inputs[task])).split(CHUNK)
    rows = torch.cat([features(calibration, weights, {task: index})[task] for index in chunks])
    probability, label = scores(calibration, task, rows).softmax(-1).max(-1)
    return label, probability


def pseudo_label_loss(
    logits: Tensor, label: Tensor, probability: Tensor, samples: Samples
) -> Tensor:
    """Cross-entropy ``[]`` of scores ``[B, C]`` against an expert's labels, over trusted images.

    Parameters
    ----------
    logits : Tensor, shape [B, C]
        Scores of the merged model.
    label, probability : Tensor, shape [B]
        What the expert says, and how sure it is.
    samples : {"confident", "all"}
        "confident" leaves out images on which the two disagree and the merged model is surer; if
        none is left the loss is zero.
    """
    losses = F.cross_entropy(logits, label, reduction="none")
    if samples == "all":
        return losses.mean()
    own_probability, own_label = logits.detach().softmax(-1).max(-1)
    trusted = (own_label == label) | (probability >= own_probability)
    return (losses * trusted).sum() / trusted.sum().clamp(min=1)
