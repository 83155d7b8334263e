"""Routers of the blocks' MLPs, as WEMoE and E-WEMoE start and learn them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

import torch
from torch import Tensor

from mergebook.calibration import Calibration
from mergebook.learning import entropy, image_batches, minimise
from mergebook.merged import MergedModel, RoutedModel
from mergebook.merged.intervened import fresh
from mergebook.registry import Learning, Range
from mergebook.towers.routers import block_routed_tower
from mergebook.towers.tower import Tower
from mergebook.weights import Experts

Depth = Annotated[
    Literal[0, 1, 2],
    r"Layers of a router: a perceptron with a hidden layer; :math:`W h + b` alone; or constant "
    "weights per block, which is AdaMerging of the MLPs.",
]
Training = Annotated[Learning, {"lr": Range(0)}]
START = 0.01  # standard deviation of the routers' weights at the start


def draw_routers(
    routers: int, width: int, num_tasks: int, *, depth: int, scale: float, seed: int
) -> dict[str, Tensor]:
    """The routers' numbers at the start, with a leading axis of routers.

    The last bias is `scale`; the weights are Gaussian of standard deviation 0.01, drawn router by
    router, first layer first.
    """
    generator = torch.Generator().manual_seed(seed)
    bias = torch.full((routers, num_tasks), scale)
    if depth == 0:
        return {"bias": bias}
    drawn = []
    for _ in range(routers):
        hidden = [START * torch.randn(width, width, generator=generator)] if depth == 2 else []
        drawn.append([*hidden, START * torch.randn(num_tasks, width, generator=generator)])
    *hidden, weight = (torch.stack(layers) for layers in zip(*drawn, strict=True))
    numbers = {"weight": weight, "bias": bias}
    if hidden:
        numbers |= {"hidden_weight": hidden[0], "hidden_bias": torch.zeros(routers, width)}
    return numbers


def upscaled(experts: Experts, tower: Tower, scale: float) -> Experts:
    """Experts that differ in the MLPs of the blocks only; all else is task arithmetic.

    The base's MLPs stay as they are. Holds the trained tensors of all experts at once.
    """
    base = dict(experts.base)
    own: dict[str, dict[str, Tensor]] = {task: {} for task in experts.tasks}
    for layer in experts:
        if tower.role(layer.name) == "mlp":
            for task in experts.tasks:
                own[task][layer.name] = experts.expert(task)[layer.name]
        else:
            merged = layer.base + scale * layer.total
            base[layer.name] = experts.to_base(layer.name, merged)
    return Experts(
        base,
        {task: {**base, **tensors} for task, tensors in own.items()},
        entries=experts.entries,
        frozen_extra=experts.frozen_extra,
        backbone=experts.backbone,
    )


def train_routers(
    inner: MergedModel,
    experts: Experts,
    calibration: Calibration,
    origin: Mapping[str, Tensor],
    learning: Learning,
    *,
    shared: bool,
    depth: int,
    scale: float,
) -> RoutedModel:
    """Learn the routers and put the model together.

    Parameters
    ----------
    inner : MergedModel
        The MLPs of each task.
    experts : Experts
        Of all tasks.
    calibration : Calibration
        Images of each task.
    origin : mapping of str to Tensor
        Tensors of the origin that `inner` does not share.
    learning : Learning
        Steps of Adam, with the rate falling on a cosine; images of each task in a step.
    shared : bool
        One router for all blocks, or one for each.
    depth : {2, 1, 0}
        Layers of a router.
    scale : float
        Where the weights start, for all tasks and images.
    """
    tower, tasks = calibration.tower, experts.tasks
    numbers = draw_routers(
        1 if shared else tower.num_blocks,
        tower.width,
        len(tasks),
        depth=depth,
        scale=scale,
        seed=learning.seed,
    )
    merged = RoutedModel(experts.sizes, inner, "blocks", {}, numbers, origin)
    weights, leaves = fresh(merged.origin()), [v.requires_grad_() for v in numbers.values()]
    vectors = fresh(merged.vectors())
    routed = block_routed_tower(calibration.backbone, vectors, numbers)
    batches = image_batches(calibration, learning)

    def loss(step: int) -> Tensor:
        chosen = {task: own[step] for task, own in batches.items()}
        images = torch.cat([calibration.inputs[task][rows] for task, rows in chosen.items()])
        features = routed(weights, images).split([len(rows) for rows in chosen.values()])
        parts = zip(tasks, features, strict=True)
        return sum(entropy(calibration.logits(own, task)) for task, own in parts)

    leaves = leaves if vectors else []  # experts equal to the base leave nothing to learn
    minimise(leaves, loss, learning, cosine=True, by_step=True, what="routers")
    merged.numbers = {key: value.detach() for key, value in numbers.items()}
    return merged
