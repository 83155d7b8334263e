"""LoRA experts: only factors learn, and their product is what they do."""

import pytest
import torch

from comparison import assert_near
from mergebook.analysis import discard
from mergebook.suites import load_suite
from mergebook.towers import clip
from mergebook.towers.backbones import build_head
from mergebook.training import (
    FinetuneRecipe,
    LoraRecipe,
    experts_dir,
    finetune_experts,
    finetune_factors,
    load_experts,
    load_factors,
    lora_experts,
    with_factors,
)
from mergebook.weights import Checkpoint

TINY = LoraRecipe(steps=3, warmup=1, train_size=64, rank=4)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MERGEBOOK_CHECKPOINTS", str(tmp_path / "checkpoints"))


@pytest.fixture(scope="module")
def factors():
    recipe = LoraRecipe(steps=30, warmup=3, train_size=256, rank=4)
    return finetune_factors(clip.load_backbone("mini-small"), load_suite()["shapes"], recipe)


def test_factors_have_the_shapes_of_their_matrices(factors):
    base = clip.load_backbone("mini-small").visual.state_dict()
    places = {key.rpartition(".")[0] for key in factors}
    assert places == {
        key for key in base
        if key.rpartition(".")[0].rpartition(".")[2] in ("conv1", "c_fc", "c_proj")
        and key.endswith("weight")
    }  # fmt: skip
    for name in places:
        rows = len(base[name])
        assert factors[f"{name}.up"].shape == (rows, 4)
        assert factors[f"{name}.down"].shape == (4, base[name].numel() // rows)


def test_they_lower_the_loss_and_nothing_else_changes(factors):
    backbone, task = clip.load_backbone("mini-small"), load_suite()["shapes"]
    base = backbone.visual.state_dict()
    own = with_factors(base, factors, 2.0)
    for key, value in base.items():
        if f"{key}.up" not in factors:
            assert torch.equal(own[key], value)
            continue
        up, down = factors[f"{key}.up"], factors[f"{key}.down"]
        product = torch.stack(
            [sum(2 * u * row for u, row in zip(us, down, strict=True)) for us in up]
        )
        assert_near(own[key], value + product.reshape(value.shape), 1e-6)
    images, labels = task.examples("train", 256)
    inputs, head = backbone.preprocess(images), build_head(backbone, task)

    def loss(weights):
        with torch.inference_mode():
            features = clip.visual_encoder("mini-small", weights)(inputs)
        logits = 100 * torch.nn.functional.normalize(features, dim=-1) @ head.T
        return torch.nn.functional.cross_entropy(logits, torch.from_numpy(labels)).item()

    assert loss(own) < 0.8 * loss(base)


def test_they_are_kept_apart_and_trained_once(cache, monkeypatch):
    suite = load_suite().select(["cells", "words"])
    folder = finetune_experts(suite, "mini-small", 0, jobs=1, recipe=TINY)
    assert (
        folder != experts_dir("mini", "mini-small", 0, FinetuneRecipe()) and "lora" in folder.name
    )
    monkeypatch.setattr("mergebook.training.experts.run_all", None)  # a second call trains nothing
    found = load_factors(suite, recipe=TINY)
    assert found.tasks == ("cells", "words")
    assert all((value == 0).all() for value in found.base.values())
    for task in found.tasks:
        for key, value in Checkpoint(folder / f"{task}.safetensors").items():
            assert torch.equal(found.expert(task)[key], value)


def test_thinned_factors_can_be_multiplied_out(cache):
    suite = load_suite().select(["cells", "words"])
    recipe = FinetuneRecipe(steps=3, warmup=1, train_size=64)
    finetune_experts(suite, "mini-small", 0, jobs=1, recipe=recipe)
    factors = load_factors(suite, jobs=1, recipe=TINY)
    experts = load_experts(suite, jobs=1, steps=3)
    whole = lora_experts(factors, experts, TINY)
    assert set(whole.trained) == {key.rpartition(".")[0] for key in factors.trained}
    nothing = lora_experts(discard(factors, 1.0), experts, TINY)
    for task in whole.tasks:
        for key, value in experts.base.items():
            assert torch.equal(nothing.expert(task)[key], value)
