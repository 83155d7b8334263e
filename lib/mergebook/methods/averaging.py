"""Weight averaging."""

from __future__ import annotations

from torch import Tensor

from mergebook.registry import merge_method
from mergebook.weights import Layer


@merge_method("averaging", title="Weight averaging", paper="wortsman2022soups")
def averaging(layer: Layer) -> Tensor:
    r"""Average the experts: :math:`\theta = \frac1T \sum_t \theta_t`.

    Computed as :math:`\theta_0 + \frac1T \sum_t \tau_t`, that is, task arithmetic at scale 1/T;
    the uniform soup of [wortsman2022soups], here over experts of different tasks.
    """
    return layer.base + layer.total / layer.num_tasks
