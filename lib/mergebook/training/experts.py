"""The cache of experts: fine-tune on first use, in parallel processes, and never twice."""

from __future__ import annotations

import hashlib
import json
import sys
from dataclasses import asdict, replace
from functools import lru_cache
from pathlib import Path

import torch
from tqdm import tqdm

import mergebook
from mergebook.errors import ExperimentError
from mergebook.paths import assets_dir, checkpoints_dir
from mergebook.suites import Suite, Task, load_suite
from mergebook.towers import minilm
from mergebook.towers.backbones import TRAINED_HERE, load_backbone, modality
from mergebook.training.finetuning import FinetuneRecipe, finetune, usual_recipe
from mergebook.training.lora import LoraRecipe, finetune_factors, with_factors
from mergebook.training.manifest import Manifest
from mergebook.weights import Checkpoint, Experts, save_checkpoint
from mergebook.workers import advance, run_all

BASE = "base"
FEW, OFTEN = 200, 0.02  # texts that are looked at, and the share from which cutting them is said


def default_recipe(steps: int | None = None, backbone: str = "mini-small") -> FinetuneRecipe:
    """Return the recipe of a backbone's experts, with another number of steps if given.

    None and 0 stand for the usual number.
    """
    recipe = usual_recipe(backbone)
    if not steps:
        return recipe
    if steps < 1:
        raise ExperimentError(f"steps must be positive, got {steps}")
    return replace(recipe, steps=steps, warmup=min(recipe.warmup, max(1, steps // 5)))


def experts_dir(suite: str, backbone: str, seed: int, recipe: FinetuneRecipe) -> Path:
    """Folder of the experts of a suite, backbone, seed and recipe."""
    usual = recipe == usual_recipe(backbone)
    kind = "lora-" if isinstance(recipe, LoraRecipe) else ""
    digest = _digest(json.dumps(asdict(recipe)))[:8]
    name = f"seed{seed}" if usual else f"seed{seed}-{kind}{digest}"
    return checkpoints_dir() / suite / backbone / name


def _digest(data: str | bytes) -> str:
    return hashlib.sha256(data.encode() if isinstance(data, str) else data).hexdigest()


# Code that decides what an expert is, by what it is trained on: images drawn or stored, or texts.
_TOWERS = {
    "drawn": ("clip.py",),
    "stored": ("clip.py",),
    "text": ("bert.py", "minilm.py", "tokens.py", "tower.py"),
}
_READING = {"stored": ("arrays.py", "stored.py", "splits.py"), "text": ("splits.py", "texts.py")}


@lru_cache(maxsize=8)
def _sources(data: str, lora: bool = False) -> str:
    """Digest of the code that decides what an expert is: examples, prompts, backbone, training.

    The code that draws images counts for drawn tasks, the code that reads them for stored ones
    (their descriptions count through their fingerprint), that of factors for LoRA experts.
    """
    package = Path(mergebook.__file__).parent
    suites = package / "suites"
    files = [package / "towers" / name for name in ("backbones.py", *_TOWERS[data])]
    files += [suites / "base.py", package / "training" / "finetuning.py"]
    files += [package / "learning" / "loop.py"]
    files += [package / "training" / "lora.py"] if lora else []
    files += [suites / name for name in _READING.get(data, ())]
    files += (suites / "mini").glob("*.py") if data == "drawn" else []
    kept = sorted(path for path in files if path.name != "world.py")
    return _digest(b"".join(path.read_bytes() for path in kept))[:16]


def _identity(backbone: str, task: Task, seed: int, recipe: FinetuneRecipe) -> dict[str, str]:
    """Metadata that a cached expert must carry to be used again."""
    data, lora = task.fingerprint(), isinstance(recipe, LoraRecipe)
    kind = "text" if task.modality == "text" else "stored" if data else "drawn"
    return {"role": "expert", "backbone": backbone, "task": task.name, "seed": str(seed),
            "recipe": json.dumps(asdict(recipe)), "pretrained": _pretrained(backbone),
            "data": data, "sources": _sources(kind, lora)}  # fmt: skip


def _pretrained(backbone: str) -> str:
    """Start of the hash of a backbone's weights."""
    if modality(backbone) == "text":
        path = minilm.minilm_folder() / minilm.WEIGHTS
    else:
        path = assets_dir() / f"{backbone}.safetensors"
    return _hash(path, path.stat().st_mtime_ns)[:16]


@lru_cache(maxsize=4)
def _hash(path: Path, changed: int) -> str:
    return Checkpoint(path).sha256()


def _train_one(suite: str, task: str, backbone: str, seed: int, recipe, path: Path) -> str:
    found = load_suite(suite)[task]
    train = finetune_factors if isinstance(recipe, LoraRecipe) else finetune
    state = train(load_backbone(backbone), found, recipe, seed, progress=lambda step: advance())
    save_checkpoint(state, path, _identity(backbone, found, seed, recipe))
    return task


def check_modality(suite: Suite, backbone: str) -> None:
    """Refuse a suite of images for an encoder of texts, and the other way round.

    Raises
    ------
    ExperimentError
        Names both.
    """
    kind, wanted = next(iter(suite)).modality, modality(backbone)
    if kind != wanted:
        fitting = [name for name in TRAINED_HERE if modality(name) == kind]
        raise ExperimentError(
            f"suite {suite.name!r} has {kind}s, but backbone {backbone!r} encodes {wanted}s; "
            f"backbones for {kind}s: {', '.join(fitting)}"
        )


def _say_what_is_cut(suite: Suite, backbone: str) -> None:
    """Say on standard error of which tasks more than a few texts are longer than is read."""
    for task in suite if modality(backbone) == "text" else ():
        encoder = load_backbone(backbone)
        texts = task.examples("test", task.at_most("test", FEW)).inputs
        share = encoder.count_cut(texts) / len(texts)
        if share > OFTEN:
            most = encoder.tower.num_tokens
            text = f"{task.name}: {share:.0%} of the texts have more than the {most} tokens"
            tqdm.write(f"{text} that {backbone} reads; the rest is cut", file=sys.stderr)


def finetune_experts(
    suite: Suite,
    backbone: str = "mini-small",
    seed: int = 0,
    jobs: int | None = None,
    recipe: FinetuneRecipe | None = None,
) -> Path:
    """Fine-tune whatever expert of a suite is not cached yet.

    One process of one thread per expert. Each expert is written atomically when it is done, so an
    interrupted call goes on where it stopped. A manifest lists all experts with recipe, seed and
    hash; an expert that no longer has its hash is trained again, which is said on standard error.

    Parameters
    ----------
    suite : Suite
    backbone : str, default "mini-small"
    seed : int, default 0
    jobs : int, optional
        Processes; the number of cores if not given.
    recipe : FinetuneRecipe, optional
        With a :class:`LoraRecipe` the files of the tasks hold the factors alone.

    Returns
    -------
    Path
        The folder with ``base.safetensors``, one file per task and ``manifest.json``.

    Raises
    ------
    ExperimentError
        If training of a task fails (names the task).
    """
    if backbone not in TRAINED_HERE:
        raise ExperimentError(
            f"experts of {backbone!r} are not fine-tuned here, only those of "
            f"{', '.join(TRAINED_HERE)}"
        )
    check_modality(suite, backbone)
    recipe = recipe or usual_recipe(backbone)
    folder = experts_dir(suite.name, backbone, seed, recipe)
    manifest = Manifest(folder)
    paths = {task.name: manifest.path(task.name) for task in suite}
    identities = {task.name: _identity(backbone, task, seed, recipe) for task in suite}
    base_identity = {"role": "base", "backbone": backbone, "pretrained": _pretrained(backbone)}
    new_base = not manifest.holds(BASE, base_identity)
    if new_base:
        state = load_backbone(backbone).weights()
        save_checkpoint(state, manifest.path(BASE), base_identity)
    missing = [name for name in paths if not manifest.holds(name, identities[name])]
    if missing:
        _say_what_is_cut(suite.select(missing), backbone)
        run_all(
            _train_one,
            {name: (suite.source, name, backbone, seed, recipe, paths[name]) for name in missing},
            jobs=jobs,
            name=lambda task: f"fine-tuning {task!r}",
            title=f"{backbone} experts, seed {seed}",
            ticks=recipe.steps,
        )
    facts = {"suite": suite.name, "backbone": backbone, "seed": seed, "recipe": asdict(recipe)}
    manifest.write(facts, made=[*missing, *[BASE] * new_base])
    return folder


def load_experts(
    suite: Suite,
    backbone: str = "mini-small",
    seed: int = 0,
    jobs: int | None = None,
    steps: int | None = None,
) -> Experts:
    """Return the experts of a suite, fine-tuning what is missing.

    Parameters
    ----------
    suite : Suite
    backbone, seed, jobs
        As in :func:`finetune_experts`.
    steps : int, optional
        Fine-tuning steps other than the recipe's; such experts have a folder of their own.

    Returns
    -------
    Experts
        Backed by files; the text tower's entries count as frozen in its storage.
    """
    folder = finetune_experts(suite, backbone, seed, jobs, default_recipe(steps, backbone))
    file = Manifest(folder).path
    files = {task.name: file(task.name) for task in suite}
    return Experts(file(BASE), files, frozen_extra=load_backbone(backbone).num_text)


def load_factors(
    suite: Suite,
    backbone: str = "mini-small",
    seed: int = 0,
    jobs: int | None = None,
    recipe: LoraRecipe | None = None,
) -> Experts:
    """Return the factors of LoRA experts as task vectors, fine-tuning what is missing.

    Parameters
    ----------
    suite : Suite
    backbone, seed, jobs
        As in :func:`finetune_experts`.
    recipe : LoraRecipe, optional

    Returns
    -------
    Experts
        Whose weights are the factors, and whose base is zero: what is done to task vectors can be
        done to it. :func:`lora_experts` multiplies factors out.
    """
    folder = finetune_experts(suite, backbone, seed, jobs, recipe or LoraRecipe())
    file = Manifest(folder).path
    factors = {task.name: dict(Checkpoint(file(task.name))) for task in suite}
    first = next(iter(factors.values()))
    return Experts({key: torch.zeros_like(value) for key, value in first.items()}, factors)


def lora_experts(factors: Experts, experts: Experts, recipe: LoraRecipe | None = None) -> Experts:
    """Return the experts that factors make of a base: W + (alpha / r) B A.

    Parameters
    ----------
    factors : Experts
        See :func:`load_factors`; also such of which something was discarded.
    experts : Experts
        Any of the same base.
    recipe : LoraRecipe, optional
        With which the factors were learned.
    """
    scale = (recipe or LoraRecipe()).scale
    weights = {
        task: with_factors(experts.base, factors.expert(task), scale) for task in factors.tasks
    }
    return Experts(
        experts.base,
        weights,
        frozen_extra=experts.frozen_extra,
        backbone=experts.backbone,
    )
