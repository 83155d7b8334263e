"""LoRA experts [hu2022lora]: they learn two thin factors of some matrices, and nothing else."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from mergebook.suites import Task
from mergebook.towers.clip import Backbone
from mergebook.towers.minilm import TextBackbone
from mergebook.training.finetuning import FinetuneRecipe, finetune

# Modules with factors: as in T-Switch's released code, and their like in BERT.
PLACES = ("conv1", "c_fc", "c_proj", "intermediate.dense", "output.dense")
MARK = ".parametrizations.weight.0."  # in the names of a tower's tensors


@dataclass(frozen=True)
class LoraRecipe(FinetuneRecipe):
    """Hyper-parameters of fine-tuning by factors; rates and steps are choices of ours.

    Parameters
    ----------
    lr : float, default 3e-3
    weight_decay : float, default 0
    rank : int, default 16
        r; of a matrix that is smaller, its smaller side.
    """

    lr: float = 3e-3
    weight_decay: float = 0.0
    rank: int = 16

    @property
    def scale(self) -> float:
        """Alpha / r: the released alpha is twice the rank."""
        return 2.0


class LowRank(nn.Module):
    """A weight plus a product of two factors, of which only these learn.

    Parameters
    ----------
    shape : torch.Size, [m, *s]
        Of the weight, which counts as a matrix of m rows.
    rank : int
    scale : float
        Times which the product is added.
    generator : torch.Generator
        Of the first factor; the second starts as zero.
    """

    def __init__(self, shape: torch.Size, rank: int, scale: float, generator: torch.Generator):
        super().__init__()
        rows, columns = shape[0], math.prod(shape[1:])
        rank, bound = min(rank, rows, columns), columns**-0.5
        start = torch.empty(rank, columns).uniform_(-bound, bound, generator=generator)
        self.down, self.up = nn.Parameter(start), nn.Parameter(torch.zeros(rows, rank))
        self.scale = scale

    def forward(self, weight: Tensor) -> Tensor:
        """The weight with the product."""
        return weight + self.scale * (self.up @ self.down).reshape(weight.shape)


def finetune_factors(
    backbone: Backbone | TextBackbone,
    task: Task,
    recipe: LoraRecipe | None = None,
    seed: int = 0,
    progress: Callable[[int], None] | None = None,
) -> dict[str, Tensor]:
    """Learn the factors of one task.

    Parameters
    ----------
    backbone, task, seed, progress
        As in :func:`mergebook.training.finetune`.
    recipe : LoraRecipe, optional

    Returns
    -------
    dict of str to Tensor
        ``"<weight>.down"``, shape [r, k], and ``"<weight>.up"``, shape [m, r].

    Raises
    ------
    ExperimentError
        If the loss stops being finite (names the task and the step).
    """
    recipe = recipe or LoraRecipe()

    def adapt(tower: nn.Module, generator: torch.Generator) -> list[Tensor]:
        tower.requires_grad_(False)
        chosen = [
            (name, module)
            for name, module in tower.named_modules()
            if name.endswith(PLACES) and ".attention." not in name
        ]
        factors = []
        for _, module in chosen:
            pair = LowRank(module.weight.shape, recipe.rank, recipe.scale, generator)
            parametrize.register_parametrization(module, "weight", pair)
            factors += [pair.down, pair.up]
        return factors

    state = finetune(backbone, task, recipe, seed, progress, adapt)
    return {
        key.replace(MARK, ".weight."): value for key, value in state.items() if MARK in key
    }  # fmt: skip


def with_factors(
    base: Mapping[str, Tensor], factors: Mapping[str, Tensor], scale: float
) -> dict[str, Tensor]:
    """Add the products of factors to a base: W + scale B A, as a state dict."""
    weights = dict(base)
    for key in factors:
        name, _, part = key.rpartition(".")
        if part == "up":
            product = factors[key] @ factors[f"{name}.down"]
            weights[name] = base[name] + scale * product.reshape(base[name].shape).to(base[name])
    return weights
