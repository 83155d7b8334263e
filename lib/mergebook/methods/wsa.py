"""A counterpart of weight scope alignment for task vectors [xu2024wsa]."""

from __future__ import annotations

import torch
from torch import Tensor

from mergebook.methods.task_arithmetic import SCALES
from mergebook.registry import merge_method
from mergebook.registry.types import Scale
from mergebook.weights import Layer, sum_tasks

CONSTANT = 1e-6  # a deviation below this share of the root mean square is rounding


def deviations(vectors: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each row ``[T, n]``, both ``[T]``; 0 for constant rows."""
    mean = vectors.mean(1)
    deviation = (vectors - mean[:, None]).square().mean(1).sqrt()
    size = vectors.square().mean(1).sqrt()
    return mean, torch.where(deviation > CONSTANT * size, deviation, 0.0)


@merge_method(
    "wsa", title="Scope-aligned TA", paper="xu2024wsa", status="analogue", grid={"scale": SCALES}
)
def wsa(layer: Layer, *, scale: Scale = 0.3) -> Tensor:
    r"""Task arithmetic after giving the task vectors of each tensor one standard deviation.

    With :math:`\mu_t` and :math:`\sigma_t` the mean and the standard deviation of the entries of
    :math:`\tau_t` in a tensor, and :math:`\bar\sigma` the average of the :math:`\sigma_t`,

    .. math::

        \hat\tau_t = \mu_t + \frac{\bar\sigma}{\sigma_t} (\tau_t - \mu_t), \qquad
        \theta = \theta_0 + \alpha \sum_t \hat\tau_t.

    Aligning the means as well would not change the sum. A task whose vector is constant in a
    tensor (an unchanged or a scalar one) is left as it is there, and out of the average.

    Notes
    -----
    Our analogue, not the paper's method. The paper [xu2024wsa] changes the training: a regulariser
    pulls the mean and the deviation of each layer's *weights* to a common scope, so that networks
    trained apart can be averaged. Experts of one base share the scope of their weights already;
    what differs between tasks is the scope of the task vectors.
    """
    if layer.numel == 0:
        return layer.base
    flat = layer.deltas.reshape(layer.num_tasks, -1).double()
    mean, deviation = deviations(flat)
    uneven = deviation > 0
    target = deviation.sum() / uneven.sum().clamp(min=1)
    factor = torch.where(uneven, target / deviation, 1.0)
    spread = layer.deltas - layer.per_task(mean)
    return layer.base + scale * sum_tasks(layer.deltas + layer.per_task(factor - 1) * spread)
