"""Contrastive pre-training of the mini backbones on the rendered world."""

from __future__ import annotations

import json
import math
import os
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from mergebook.errors import BackboneError, ExperimentError, unknown
from mergebook.learning.loop import descend, warm_cosine
from mergebook.paths import assets_dir, checkpoints_dir
from mergebook.suites.mini.world import TEMPLATES, render_world
from mergebook.towers import clip
from mergebook.training.finetuning import jitter
from mergebook.weights import save_checkpoint

SAVE_EVERY = 200  # steps between resumable states


@dataclass(frozen=True)
class PretrainRecipe:
    """Hyper-parameters of pre-training.

    Parameters
    ----------
    steps, batch_size : int
    lr : float
        Peak learning rate of AdamW; linear warm-up, cosine to zero.
    warmup : int
        Warm-up steps.
    weight_decay : float
        On matrices only; none on embeddings, biases, gains and the logit scale.
    images_per_concept : int
        Images rendered for a concept of weight 1.
    seed : int
    """

    steps: int
    lr: float
    batch_size: int = 256
    warmup: int = 150
    weight_decay: float = 0.05
    images_per_concept: int = 320
    seed: int = 0


RECIPES = {
    "mini-small": PretrainRecipe(steps=2600, lr=2e-3),
    "mini-large": PretrainRecipe(steps=2200, lr=1.5e-3),
}


def world_vocabulary(captions: list[str]) -> list[str]:
    """Return the words of captions and templates, sorted."""
    texts = [*captions, *(template.format("") for template in TEMPLATES)]
    return sorted({word for text in texts for word in clip.WordTokenizer.words(text)})


def pretrain(
    name: str,
    recipe: PretrainRecipe | None = None,
    out: Path | None = None,
    device: str = "cpu",
) -> Path:
    """Pre-train a mini backbone and save its weights in half precision.

    Image to text direction of the CLIP loss [radford2021clip]_, with every caption of the world
    as a negative: the captions number a few hundred, so all of them are encoded at each step.
    An interrupted run goes on from its last saved state.

    Parameters
    ----------
    name : {"mini-small", "mini-large"}
    recipe : PretrainRecipe, optional
        The backbone's own recipe if not given.
    out : path, optional
        Target file; the package's asset if not given.
    device : str, default "cpu"

    Returns
    -------
    Path
        The written file.

    Raises
    ------
    BackboneError
        Not a mini backbone.
    ExperimentError
        If the loss stops being finite (names the step).
    """
    if name not in RECIPES:
        raise BackboneError(unknown("mini backbone", name, RECIPES))
    recipe = recipe or RECIPES[name]
    out = assets_dir() / f"{name}.safetensors" if out is None else Path(out)
    images, labels, captions = render_world(recipe.images_per_concept, recipe.seed)
    words = world_vocabulary(captions)
    if words != clip.vocabulary():
        (assets_dir() / clip.VOCABULARY).write_text("\n".join(words) + "\n", encoding="utf-8")

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        backbone = clip.create(name)
    model = backbone.model.train().to(device)
    prompts = [backbone.tokenize([t.format(c) for c in captions]).to(device) for t in TEMPLATES]
    pixels, targets = backbone.preprocess(images), torch.from_numpy(labels)
    decay = [p for n, p in model.named_parameters() if p.ndim > 1 and "embedding" not in n]
    other = [p for n, p in model.named_parameters() if p.ndim <= 1 or "embedding" in n]
    optimizer = torch.optim.AdamW(
        [{"params": decay}, {"params": other, "weight_decay": 0.0}],
        lr=recipe.lr, betas=(0.9, 0.98), weight_decay=recipe.weight_decay,
    )  # fmt: skip
    generator = torch.Generator().manual_seed(recipe.seed)
    state_file = checkpoints_dir() / "pretraining" / f"{name}.pt"
    start = _resume(state_file, recipe, model, optimizer, generator)
    bar = tqdm(
        range(start, recipe.steps), desc=name, initial=start, total=recipe.steps, mininterval=5
    )

    def loss(step: int) -> Tensor:
        index = torch.randint(len(pixels), (recipe.batch_size,), generator=generator)
        template = torch.randint(len(prompts), (1,), generator=generator).item()
        batch, target = jitter(pixels[index], generator).to(device), targets[index].to(device)
        features = F.normalize(model.encode_image(batch), dim=-1)
        text = F.normalize(model.encode_text(prompts[template]), dim=-1)
        logits = model.logit_scale.exp().clamp(max=100) * features @ text.T
        value = F.cross_entropy(logits, target, label_smoothing=0.05)
        if step % 50 == 0:
            hits = (logits.argmax(1) == target).float().mean().item()
            bar.set_postfix(loss=f"{value.item():.3f}", accuracy=f"{hits:.2f}")
        return value

    def keep(step: int) -> None:
        if (step + 1) % SAVE_EVERY == 0:
            _keep(state_file, recipe, model, optimizer, generator, step + 1)

    descend(
        list(model.parameters()),
        loss,
        optimizer,
        steps=bar,
        rate=lambda step: recipe.lr * warm_cosine(step, recipe.steps, recipe.warmup),
        clip=1.0,
        after=keep,
        what=f"pre-training {name!r}",
        error=ExperimentError,
    )
    with torch.no_grad():
        model.logit_scale.clamp_(max=math.log(100))
    state = {key: value.cpu().half() for key, value in model.state_dict().items()}
    metadata = {"backbone": name, "recipe": json.dumps(asdict(recipe)), "role": "pretrained"}
    save_checkpoint(state, out, metadata)
    state_file.unlink(missing_ok=True)
    return out


def _keep(path, recipe, model, optimizer, generator, step) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    state = {"recipe": asdict(recipe), "step": step, "model": model.state_dict(),
             "optimizer": optimizer.state_dict(), "generator": generator.get_state()}  # fmt: skip
    torch.save(state, temporary)
    os.replace(temporary, path)


def _resume(path, recipe, model, optimizer, generator) -> int:
    if not path.is_file():
        return 0
    state = torch.load(path, weights_only=True)
    if state["recipe"] != asdict(recipe):
        return 0
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    generator.set_state(state["generator"])
    return state["step"]
