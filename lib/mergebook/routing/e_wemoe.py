"""E-WEMoE: WEMoE with sparse vectors and one router for all blocks [shen2024ewemoe]."""

from __future__ import annotations

from typing import Annotated

import torch
from torch import Tensor

from mergebook.calibration import Calibration
from mergebook.interventions.merges import SMALL_SCALES
from mergebook.merged import RoutedModel, SparseModel
from mergebook.registry import Learning, Range, model_method
from mergebook.registry.types import Scale
from mergebook.routing.block_routers import Depth, Training, train_routers, upscaled
from mergebook.weights import Experts, Layer


def largest(layer: Layer, density: float) -> Tensor:
    """The largest entries of each task vector of a tensor, bool ``[T, *s]``.

    Those above the (1 - density) quantile of the magnitudes, as released: of n entries the
    smallest floor((1 - density) (n - 1)) + 1 go, and whatever equals the last of these.
    """
    if density >= 1 or not layer.numel:
        return torch.ones_like(layer.deltas, dtype=torch.bool)
    magnitudes = layer.deltas.abs().reshape(layer.num_tasks, -1)
    dropped = int((1 - density) * (layer.numel - 1)) + 1
    limits = magnitudes.kthvalue(dropped, dim=1, keepdim=True).values
    return (magnitudes > limits).view_as(layer.deltas)


@model_method(
    "e_wemoe",
    title="E-WEMoE",
    paper="shen2024ewemoe",
    family="routing",
    needs=("images",),
    grid={"scale": SMALL_SCALES},
)
def e_wemoe(
    experts: Experts,
    calibration: Calibration,
    *,
    scale: Scale = 0.3,
    density: Annotated[float, Range(0, 1)] = 0.1,
    shared: Annotated[bool, "One router for all blocks, or one for each."] = True,
    depth: Depth = 2,
    learning: Training = Learning(steps=80, lr=1e-2, batch_size=4),
) -> RoutedModel:
    r"""WEMoE with sparse vectors and one router for all blocks.

    As :data:`mergebook.routing.wemoe.wemoe`; of each task's vector of each MLP tensor only the
    entries of largest magnitude are kept, and a single router serves every block.
    Storage b(P' + F + K) + T P' + 32 R bits, with P' the trained entries of the MLPs alone, K the
    kept ones of all tasks, and R = d (d + 1) + T (d + 1).

    Parameters
    ----------
    scale : float, default 0.3
        The coefficient :math:`\lambda`.
    density : float, default 0.1
        Kept share of each task vector of each MLP tensor.
    steps : int, default 80
        Steps of Adam, with the rate falling on a cosine; 1000 in the paper.
    lr : float, default 1e-2
        Learning rate of Adam; 1e-4 in the paper.
    batch_size : int, default 4
        Images of each task in a step; 16 in the paper.
    seed : int, default 0
        Seed of the router's start, and of the order of the images.

    Notes
    -----
    Pruning is that of FusionBench: entries above the quantile of the magnitudes, tensor by tensor
    and biases included, not rescaled; its option to tell the shared router the block's number is
    left out. A density of 1 keeps everything here, all but the smallest entry there.
    """
    view = upscaled(experts, calibration.tower, scale)
    sparse = SparseModel.build(view, lambda layer: largest(layer, density))
    options = {"shared": shared, "depth": depth, "scale": scale}
    return train_routers(sparse, experts, calibration, {}, learning, **options)
