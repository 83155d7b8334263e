"""Pre-training, fine-tuning and the cache of experts."""

import itertools
import json
import shutil
from pathlib import Path

import pytest
import torch

import mergebook
from mergebook.errors import BackboneError, ExperimentError, SuiteError
from mergebook.learning import warm_cosine
from mergebook.suites import Suite, Task, load_suite
from mergebook.towers import clip
from mergebook.towers.backbones import build_head
from mergebook.training import (
    FinetuneRecipe,
    PretrainRecipe,
    default_recipe,
    experts_dir,
    finetune,
    finetune_experts,
    load_experts,
    pretrain,
    pretraining,
)
from mergebook.training import experts as experts_module
from mergebook.weights import Checkpoint

TINY = FinetuneRecipe(steps=3, warmup=1, train_size=64)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MERGEBOOK_CHECKPOINTS", str(tmp_path / "checkpoints"))
    return tmp_path / "checkpoints"


def test_schedule():
    factors = [warm_cosine(step, 10, 3) for step in range(10)]
    assert factors[:3] == pytest.approx([1 / 3, 2 / 3, 1])
    assert factors[3] == 1 and all(a > b for a, b in itertools.pairwise(factors[3:]))


def test_finetuning_lowers_the_loss_and_leaves_the_base_alone():
    backbone, task = clip.load_backbone("mini-small"), load_suite()["shapes"]
    before = {key: value.clone() for key, value in backbone.visual.state_dict().items()}
    seen = []
    recipe = FinetuneRecipe(steps=30, warmup=3, train_size=256)
    state = finetune(backbone, task, recipe, progress=seen.append)
    assert seen == list(range(1, 31))
    assert all(torch.equal(before[k], v) for k, v in backbone.visual.state_dict().items())
    images, labels = task.examples("train", 256)
    inputs, head = backbone.preprocess(images), build_head(backbone, task)

    def loss(weights):
        with torch.inference_mode():
            features = clip.visual_encoder("mini-small", weights)(inputs)
        logits = 100 * torch.nn.functional.normalize(features, dim=-1) @ head.T
        return torch.nn.functional.cross_entropy(logits, torch.from_numpy(labels)).item()

    assert loss(state) < 0.8 * loss(before)


def test_finetuning_depends_on_the_seed_alone():
    backbone, task = clip.load_backbone("mini-small"), load_suite()["cells"]
    one, same, other = (finetune(backbone, task, TINY, seed) for seed in (0, 0, 1))
    assert all(torch.equal(one[key], same[key]) for key in one)
    assert any(not torch.equal(one[key], other[key]) for key in one)


def test_diverging_finetuning_is_reported():
    recipe = FinetuneRecipe(steps=40, lr=1e30, warmup=1, train_size=64)
    with pytest.raises(ExperimentError, match="'cells': loss is nan at step"):
        finetune(clip.load_backbone("mini-small"), load_suite()["cells"], recipe)


def test_cache_trains_once_and_mends_damage(cache):
    suite = load_suite().select(["cells", "words"])
    folder = finetune_experts(suite, "mini-small", 3, jobs=2, recipe=TINY)
    assert folder == experts_dir("mini", "mini-small", 3, TINY)
    names = sorted(path.name for path in folder.iterdir())
    assert names == ["base.safetensors", "cells.safetensors", "manifest.json", "words.safetensors"]
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["seed"] == 3 and set(manifest["sha256"]) == {"base", "cells", "words"}
    assert Checkpoint(folder / "cells.safetensors").metadata["task"] == "cells"
    stamps = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    finetune_experts(suite, "mini-small", 3, jobs=2, recipe=TINY)
    assert stamps == {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}

    whole = (folder / "words.safetensors").read_bytes()
    (folder / "words.safetensors").write_bytes(whole[: len(whole) // 2])
    finetune_experts(suite, "mini-small", 3, jobs=2, recipe=TINY)
    assert (folder / "words.safetensors").read_bytes() == whole
    assert stamps["cells.safetensors"] == (folder / "cells.safetensors").stat().st_mtime_ns


def flip_a_bit(path: Path, place: int) -> bytes:
    """Change one bit of a file; returns what it held."""
    whole = path.read_bytes()
    place %= len(whole)
    path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
    return whole


@pytest.mark.parametrize("name", ["cells", "base"])
@pytest.mark.parametrize("place", [-1, -4000, 400])  # in the last tensors, and in the header
def test_a_flipped_bit_is_found_and_mended(name, place, cache, capsys):
    suite = load_suite().select(["cells"])
    folder = finetune_experts(suite, recipe=TINY, jobs=1)
    manifest = (folder / "manifest.json").read_bytes()
    assert "damaged" not in capsys.readouterr().err
    path = folder / f"{name}.safetensors"
    whole = flip_a_bit(path, place)
    finetune_experts(suite, recipe=TINY, jobs=1)
    assert f"{path} is not the file that manifest.json lists: damaged" in capsys.readouterr().err
    assert path.read_bytes() == whole
    assert (folder / "manifest.json").read_bytes() == manifest
    finetune_experts(suite, recipe=TINY, jobs=1)
    assert "damaged" not in capsys.readouterr().err


def test_an_expert_trained_after_the_manifest_was_written_is_taken(cache, capsys):
    suite = load_suite().select(["cells", "words"])
    folder = finetune_experts(suite, recipe=TINY, jobs=2)
    manifest = json.loads((folder / "manifest.json").read_text())
    for listed in ({"sha256": {"words": manifest["sha256"]["words"]}}, ["odd"], {"sha256": 3}):
        (folder / "manifest.json").write_text(json.dumps(listed))
        stamps = {path: path.stat().st_mtime_ns for path in folder.glob("*.safetensors")}
        finetune_experts(suite, recipe=TINY, jobs=1)
        assert {path: path.stat().st_mtime_ns for path in stamps} == stamps
        assert json.loads((folder / "manifest.json").read_text()) == manifest
    assert "damaged" not in capsys.readouterr().err


def test_the_manifest_keeps_the_hashes_of_other_tasks(cache, capsys):
    suite = load_suite().select(["cells", "words"])
    folder = finetune_experts(suite, recipe=TINY, jobs=2)
    flip_a_bit(folder / "words.safetensors", -1)
    finetune_experts(suite.select(["cells"]), recipe=TINY, jobs=1)  # must not list the damage
    capsys.readouterr()
    finetune_experts(suite, recipe=TINY, jobs=1)
    assert "words.safetensors is not the file" in capsys.readouterr().err


def test_cache_knows_the_code_that_made_it(cache, monkeypatch):
    suite = load_suite().select(["cells"])
    path = finetune_experts(suite, recipe=TINY) / "cells.safetensors"
    made = path.stat().st_mtime_ns
    monkeypatch.setattr(experts_module, "_sources", lambda kind, lora: "other code")
    finetune_experts(suite, recipe=TINY, jobs=1)
    assert path.stat().st_mtime_ns > made


@pytest.mark.parametrize(
    ("file", "counts"),
    [
        ("suites/base.py", ("drawn", "stored", "text")),
        ("learning/loop.py", ("drawn", "stored", "text")),
        ("towers/backbones.py", ("drawn", "stored", "text")),
        ("towers/clip.py", ("drawn", "stored")),
        ("towers/bert.py", ("text",)),
        ("suites/mini/fields.py", ("drawn",)),
        ("suites/splits.py", ("stored", "text")),
        ("suites/arrays.py", ("stored",)),
        ("suites/texts.py", ("text",)),
        ("suites/mini/world.py", ()),
        ("suites/folder.py", ()),  # what it reads counts, in the task's fingerprint
        ("suites/__init__.py", ()),
        ("training/experts.py", ()),
        ("training/lora.py", ()),
        ("learning/combination.py", ()),
    ],
)
def test_only_code_that_decides_what_an_expert_is_counts(file, counts, tmp_path, monkeypatch):
    package = Path(mergebook.__file__).parent
    for part in ("suites", "training", "learning", "towers"):
        shutil.copytree(package / part, tmp_path / part)
    monkeypatch.setattr(mergebook, "__file__", str(tmp_path / "__init__.py"))
    digests = experts_module._sources.__wrapped__  # as it is called first: without its cache
    kinds = ("drawn", "stored", "text")
    before, factors = {kind: digests(kind) for kind in kinds}, digests("drawn", lora=True)
    with (tmp_path / file).open("a") as source:
        source.write("# changed\n")
    assert tuple(kind for kind in kinds if digests(kind) != before[kind]) == counts
    changed = digests("drawn", lora=True) != factors
    assert changed == ("drawn" in counts or file == "training/lora.py")


def test_interrupted_training_keeps_what_is_done(cache):
    real = load_suite()["cells"]
    ghost = Task("ghost", "Ghost", ("a", "b"), ("{}",), real.load, real.sizes)
    with pytest.raises(ExperimentError, match="fine-tuning 'ghost' failed: unknown task 'ghost'"):
        finetune_experts(Suite("mini", [real, ghost]), "mini-small", 0, jobs=1, recipe=TINY)
    folder = experts_dir("mini", "mini-small", 0, TINY)
    assert sorted(path.name for path in folder.iterdir()) == [
        "base.safetensors",
        "cells.safetensors",
    ]
    assert finetune_experts(Suite("mini", [real]), "mini-small", 0, recipe=TINY) == folder


def test_other_steps_have_their_own_folder(cache):
    usual, short = default_recipe(None), default_recipe(7)
    assert default_recipe(usual.steps) == usual
    assert experts_dir("mini", "mini-small", 0, usual).name == "seed0"
    assert experts_dir("mini", "mini-small", 0, short).name.startswith("seed0-")
    experts = load_experts(load_suite().select(["cells"]), steps=1)
    assert experts.tasks == ("cells",)
    with pytest.raises(ExperimentError, match="steps must be positive, got -1"):
        default_recipe(-1)


def test_pretraining_resumes_where_it_stopped(cache, tmp_path, monkeypatch):
    recipe = PretrainRecipe(steps=4, lr=1e-3, batch_size=16, warmup=1, images_per_concept=1)
    whole = pretrain("mini-small", recipe, tmp_path / "whole.safetensors")
    monkeypatch.setattr(pretraining, "SAVE_EVERY", 2)
    keep = pretraining._keep

    def interrupted(*args):
        keep(*args)
        raise KeyboardInterrupt

    monkeypatch.setattr(pretraining, "_keep", interrupted)
    with pytest.raises(KeyboardInterrupt):
        pretrain("mini-small", recipe, tmp_path / "parts.safetensors")
    assert not (tmp_path / "parts.safetensors").exists()
    monkeypatch.setattr(pretraining, "_keep", keep)
    parts = pretrain("mini-small", recipe, tmp_path / "parts.safetensors")
    one, two = Checkpoint(whole), Checkpoint(parts)
    assert one.metadata["backbone"] == "mini-small"
    assert all(torch.equal(one[key], two[key]) for key in one)
    assert not list((cache / "pretraining").iterdir())


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: pretrain("ViT-B-32"), BackboneError, "unknown mini backbone 'ViT-B-32'"),
        (
            lambda: finetune_experts(load_suite(), "ViT-B-32"),
            ExperimentError,
            "'ViT-B-32' are not fine-tuned",
        ),
        (lambda: load_experts(load_suite("mini", 0)), SuiteError, "got 0"),
    ],
)
def test_bad_input(call, error, message):
    with pytest.raises(error, match=message):
        call()
