"""Task arithmetic [ilharco2023editing]."""

from __future__ import annotations

from torch import Tensor

from mergebook.registry import merge_method
from mergebook.registry.types import Scale
from mergebook.weights import Layer

# Tenths up to 1, the search of the TALL-masks code (its config, n_eval_points 21, halved).
SCALES = tuple(tenth / 10 for tenth in range(1, 11))


@merge_method(
    "task_arithmetic", title="Task arithmetic", paper="ilharco2023editing", grid={"scale": SCALES}
)
def task_arithmetic(layer: Layer, *, scale: Scale = 0.3) -> Tensor:
    r"""Add the scaled sum of the task vectors: :math:`\theta = \theta_0 + \alpha \sum_t \tau_t`.

    Here :math:`\tau_t = \theta_t - \theta_0` [ilharco2023editing, sec. 2]. Scale 0 is zero-shot,
    scale 1/T is weight averaging.

    Parameters
    ----------
    scale : float, default 0.3
        The coefficient :math:`\alpha`, one for all tasks and layers.
    """
    return layer.base + scale * layer.total
