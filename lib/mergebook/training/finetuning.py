"""Fine-tuning of one expert: image tower only, frozen zero-shot head, cross-entropy."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mergebook.errors import ExperimentError
from mergebook.learning.loop import descend, warm_cosine
from mergebook.suites import Task
from mergebook.towers import clip

DATA_SEED = 0  # experts of all seeds share train, validation and test images, so none can leak


@dataclass(frozen=True)
class FinetuneRecipe:
    """Hyper-parameters of fine-tuning, after [ilharco2023editing]_ scaled down.

    Parameters
    ----------
    steps, batch_size : int
    lr : float
        Peak learning rate of AdamW; linear warm-up, cosine to zero.
    warmup : int
        Warm-up steps.
    weight_decay : float
    train_size : int
        Training images, as far as the task has them.
    """

    steps: int = 200
    lr: float = 3e-4
    batch_size: int = 64
    warmup: int = 20
    weight_decay: float = 0.1
    train_size: int = 3000


def jitter(x: Tensor, generator: torch.Generator, shift: int = 3, noise: float = 0.1) -> Tensor:
    """Shift a batch by up to `shift` pixels (cyclically) and add Gaussian noise."""
    dy, dx = torch.randint(-shift, shift + 1, (2,), generator=generator).tolist()
    return torch.roll(x + noise * torch.randn(x.shape, generator=generator), (dy, dx), (2, 3))


@torch.inference_mode(False)  # a copy of the tower that is made under it could not be trained
def finetune(
    backbone: clip.Backbone,
    task: Task,
    recipe: FinetuneRecipe | None = None,
    seed: int = 0,
    progress: Callable[[int], None] | None = None,
    adapt: Callable[[nn.Module, torch.Generator], list[Tensor]] | None = None,
) -> dict[str, Tensor]:
    """Fine-tune the image tower on one task.

    Parameters
    ----------
    backbone : Backbone
        Not modified.
    task : Task
    recipe : FinetuneRecipe, optional
    seed : int, default 0
        Seed of the order of the images and of the augmentation; the images do not depend on it.
    progress : callable, optional
        Called with the number of finished steps.
    adapt : callable, optional
        ``adapt(tower, generator)`` changes the tower that is about to be trained, and returns the
        parameters that are; all of an unchanged one by default.

    Returns
    -------
    dict of str to Tensor
        State dict of the expert's image tower, float32.

    Raises
    ------
    ExperimentError
        If the loss stops being finite (names the task and the step).
    """
    recipe = recipe or FinetuneRecipe()
    size = task.at_most("train", recipe.train_size)
    images, labels = task.images("train", size, DATA_SEED)
    pixels, targets = backbone.preprocess(images), torch.from_numpy(labels)
    head, scale = clip.build_head(backbone, task).clone(), backbone.logit_scale
    encoder = clip.visual_encoder(backbone.name, backbone.visual.state_dict()).train()
    generator = torch.Generator().manual_seed(zlib.crc32(f"{task.name}/{seed}".encode()))
    parameters = list(encoder.parameters()) if adapt is None else adapt(encoder, generator)

    def loss(step: int) -> Tensor:
        index = torch.randint(len(pixels), (recipe.batch_size,), generator=generator)
        features = F.normalize(encoder(jitter(pixels[index], generator)), dim=-1)
        return F.cross_entropy(scale * features @ head.T, targets[index])

    descend(
        parameters,
        loss,
        torch.optim.AdamW(parameters, recipe.lr, weight_decay=recipe.weight_decay),
        steps=range(recipe.steps),
        rate=lambda step: recipe.lr * warm_cosine(step, recipe.steps, recipe.warmup),
        clip=1.0,
        after=lambda step: None if progress is None else progress(step + 1),
        what=f"fine-tuning {task.name!r}",
        error=ExperimentError,
    )
    return {key: value.detach().clone() for key, value in encoder.state_dict().items()}
