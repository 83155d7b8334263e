"""The two ends that every merge is compared with: no fine-tuning, and one model per task."""

from __future__ import annotations

from torch import Tensor

from mergebook.merged import TaskModels
from mergebook.registry import merge_method, model_method
from mergebook.weights import Experts, Layer


@merge_method("zero_shot", title="Zero-shot", paper="radford2021clip", family="reference")
def zero_shot(layer: Layer) -> Tensor:
    r"""Keep the pre-trained weights: :math:`\theta = \theta_0`.

    Storage b(P' + F) bits for all tasks.
    """
    return layer.base


@model_method("fine_tuned", title="Fine-tuned", paper=None, family="reference")
def fine_tuned(experts: Experts) -> TaskModels:
    r"""Keep every expert: :math:`\theta_t` for task t.

    Storage b(T P' + F) bits: tensors that no expert changed are stored once.
    """
    return TaskModels.build(experts)
