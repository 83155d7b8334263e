"""The perceptron of Twin-Merging that names an image's task: its start and its training."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor
from torch.nn import functional as F

from mergebook.interventions.starts import uniform
from mergebook.learning import minimise
from mergebook.registry import Learning
from mergebook.towers.routers import HIDDEN, router_logits


def draw_router(width: int, num_tasks: int, seed: int) -> dict[str, Tensor]:
    """The router's numbers at the start: linear maps d -> 2d -> 2d -> T as torch draws them."""
    generator = torch.Generator().manual_seed(seed)
    sizes = [width, 2 * width, 2 * width, num_tasks]
    numbers = {}
    for layer, (fan_in, fan_out) in enumerate(pairwise(sizes), start=1):
        numbers[f"weight{layer}"] = uniform(fan_out, fan_in, fan_in=fan_in, generator=generator)
        numbers[f"bias{layer}"] = uniform(fan_out, fan_in=fan_in, generator=generator)
    for layer in HIDDEN:
        ones, zeros = torch.ones(2 * width), torch.zeros(2 * width)
        numbers |= {f"gain{layer}": ones, f"shift{layer}": zeros}
        numbers |= {f"mean{layer}": zeros.clone(), f"variance{layer}": ones.clone()}
    return numbers


def train_router(
    features: Tensor, owner: Tensor, num_tasks: int, learning: Learning
) -> dict[str, Tensor]:
    """Learn which task each image belongs to, by cross-entropy.

    Parameters
    ----------
    features : Tensor, shape [N, D]
        Of the shared expert, images of all tasks.
    owner : Tensor, int64 [N]
        Number of each image's task.
    num_tasks : int
        T.
    learning : Learning
        Steps of Adam, images of all tasks together in a step; the seed draws the start, the order
        of the images and the dropout.
    """
    numbers = draw_router(features.shape[1], num_tasks, learning.seed)
    leaves = [v.requires_grad_() for k, v in numbers.items() if k[:4] not in ("mean", "vari")]
    generator = torch.Generator().manual_seed(learning.seed)
    order: list[Tensor] = []

    def loss(step: int) -> Tensor:
        if not order:
            shuffled = torch.randperm(len(owner), generator=generator)
            order.extend(shuffled.split(learning.batch_size))
        chosen = order.pop(0)
        return F.cross_entropy(router_logits(features[chosen], numbers, generator), owner[chosen])

    minimise(leaves, loss, learning, what="router")
    return {key: value.detach() for key, value in numbers.items()}
