"""Fine-tuning of one expert: image tower only, frozen zero-shot head, cross-entropy."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from mergebook.errors import ExperimentError
from mergebook.suites import Task
from mergebook.towers import clip
from mergebook.training.loop import cosine, jitter

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


def finetune(
    backbone: clip.Backbone,
    task: Task,
    recipe: FinetuneRecipe | None = None,
    seed: int = 0,
    progress: Callable[[int], None] | None = None,
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
    optimizer = torch.optim.AdamW(encoder.parameters(), recipe.lr, weight_decay=recipe.weight_decay)
    generator = torch.Generator().manual_seed(zlib.crc32(f"{task.name}/{seed}".encode()))
    for step in range(recipe.steps):
        for group in optimizer.param_groups:
            group["lr"] = recipe.lr * cosine(step, recipe.steps, recipe.warmup)
        index = torch.randint(len(pixels), (recipe.batch_size,), generator=generator)
        features = F.normalize(encoder(jitter(pixels[index], generator)), dim=-1)
        loss = F.cross_entropy(scale * features @ head.T, targets[index])
        if not torch.isfinite(loss):
            raise ExperimentError(
                f"fine-tuning {task.name!r}: loss is {loss.item()} at step {step}"
            )
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(encoder.parameters(), 1.0)
        optimizer.step()
        if progress is not None:
            progress(step + 1)
    return {key: value.detach().clone() for key, value in encoder.state_dict().items()}
