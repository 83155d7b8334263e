"""Fine-tuning of one expert: encoder only, frozen zero-shot head, cross-entropy."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mergebook.errors import ExperimentError
from mergebook.learning.loop import descend, warm_cosine
from mergebook.suites import Task
from mergebook.towers.backbones import build_encoder, build_head, modality
from mergebook.towers.bert import PAD, TextTower
from mergebook.towers.clip import Backbone
from mergebook.towers.device import compute_device
from mergebook.towers.minilm import TextBackbone

DATA_SEED = 0  # experts of all seeds share train, validation and test examples: none can leak
POOL = 8  # batches of texts that are drawn together and sorted by length


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
        Training examples, as far as the task has them.
    """

    steps: int = 200
    lr: float = 3e-4
    batch_size: int = 64
    warmup: int = 20
    weight_decay: float = 0.1
    train_size: int = 3000


@dataclass(frozen=True)
class TextRecipe(FinetuneRecipe):
    """Hyper-parameters of fine-tuning the text encoder, chosen on validation texts.

    Parameters
    ----------
    embeddings : bool, default False
        Whether the embeddings of words, positions and token types learn, too. (The pooler, which
        no feature depends on, never does.)
    """

    steps: int = 150
    lr: float = 1e-4
    batch_size: int = 32
    warmup: int = 15
    weight_decay: float = 0.01
    train_size: int = 6000
    embeddings: bool = False


def usual_recipe(backbone: str) -> FinetuneRecipe:
    """The recipe by which a backbone's experts are fine-tuned if nothing else is asked for."""
    return TextRecipe() if modality(backbone) == "text" else FinetuneRecipe()


def jitter(x: Tensor, generator: torch.Generator, shift: int = 3, noise: float = 0.1) -> Tensor:
    """Shift a batch by up to `shift` pixels (cyclically) and add Gaussian noise."""
    dy, dx = torch.randint(-shift, shift + 1, (2,), generator=generator).tolist()
    return torch.roll(x + noise * torch.randn(x.shape, generator=generator), (dy, dx), (2, 3))


def image_batches(
    pixels: Tensor, size: int, generator: torch.Generator
) -> Iterator[tuple[Tensor, Tensor]]:
    """Endless batches of drawn images: their numbers, and the images, jittered."""
    while True:
        index = torch.randint(len(pixels), (size,), generator=generator)
        yield index, jitter(pixels[index], generator)


def text_batches(
    tokens: Tensor, size: int, generator: torch.Generator
) -> Iterator[tuple[Tensor, Tensor]]:
    """Endless batches of texts of about one length: their numbers, and the texts.

    Each pass over the texts is in a new random order; eight batches at a time are sorted by
    length, so that little is padded, and come in random order.
    """
    lengths = (tokens != PAD).sum(1)
    while True:
        for pool in torch.randperm(len(tokens), generator=generator).split(POOL * size):
            batches = pool[lengths[pool].argsort(stable=True)].split(size)
            for number in torch.randperm(len(batches), generator=generator).tolist():
                yield batches[number], tokens[batches[number]]


def _trained(
    recipe: FinetuneRecipe, encoder: nn.Module, generator: torch.Generator
) -> list[nn.Parameter]:
    """The parameters of an encoder that a recipe trains; they alone get gradients."""
    if not isinstance(recipe, TextRecipe):
        return list(encoder.parameters())
    left_out = ("unused",) if recipe.embeddings else ("unused", "embedding")
    for name, parameter in encoder.named_parameters():
        parameter.requires_grad_(TextTower.role(name) not in left_out)
    return [parameter for parameter in encoder.parameters() if parameter.requires_grad]


@torch.inference_mode(False)  # a copy of the tower that is made under it could not be trained
def finetune(
    backbone: Backbone | TextBackbone,
    task: Task,
    recipe: FinetuneRecipe | None = None,
    seed: int = 0,
    progress: Callable[[int], None] | None = None,
    adapt: Callable[[nn.Module, torch.Generator], list[Tensor]] | None = None,
) -> dict[str, Tensor]:
    """Fine-tune the encoder on one task.

    Parameters
    ----------
    backbone : Backbone
        Not modified.
    task : Task
    recipe : FinetuneRecipe, optional
    seed : int, default 0
        Seed of the order of the examples, and of the augmentation of images; which examples there
        are does not depend on it.
    progress : callable, optional
        Called with the number of finished steps.
    adapt : callable, optional
        ``adapt(tower, generator)`` changes the tower that is about to be trained, and returns the
        parameters that are; of an unchanged one by default, all or those that the recipe names.

    Returns
    -------
    dict of str to Tensor
        State dict of the expert's encoder, float32.

    Raises
    ------
    ExperimentError
        If the loss stops being finite (names the task and the step).
    """
    recipe = recipe or usual_recipe(backbone.name)
    if task.modality != backbone.modality:
        raise ExperimentError(
            f"task {task.name!r} has {task.modality}s, but backbone {backbone.name!r} "
            f"encodes {backbone.modality}s"
        )
    size = task.at_most("train", recipe.train_size)
    examples, labels = task.examples("train", size, DATA_SEED)
    inputs, targets = backbone.preprocess(examples), torch.from_numpy(labels)
    head, scale = build_head(backbone, task).clone(), backbone.logit_scale
    device = compute_device()
    encoder = build_encoder(backbone.name, backbone.weights()).to(device).train()
    head, targets = head.to(device), targets.to(device)
    generator = torch.Generator().manual_seed(zlib.crc32(f"{task.name}/{seed}".encode()))
    parameters = (adapt or partial(_trained, recipe))(encoder, generator)
    if backbone.modality == "text":
        batches = text_batches(inputs, recipe.batch_size, generator)
    else:
        batches = image_batches(inputs, recipe.batch_size, generator)

    def loss(step: int) -> Tensor:
        index, batch = next(batches)
        features = F.normalize(encoder(batch.to(device)), dim=-1)
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
    state = encoder.state_dict()
    return {key: value.detach().to("cpu", copy=True) for key, value in state.items()}
