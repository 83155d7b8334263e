"""Experts of a text encoder, and benchmarks on texts."""

import json
import zlib

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional as F

import mergebook as mb
from language.conftest import random_weights, write_folder
from mergebook.errors import ExperimentError
from mergebook.evaluation import Benchmark
from mergebook.suites import load_suite
from mergebook.towers import minilm
from mergebook.towers.backbones import build_encoder, build_head, load_backbone
from mergebook.towers.bert import TextTower
from mergebook.training import (
    FinetuneRecipe,
    LoraRecipe,
    TextRecipe,
    default_recipe,
    experts_dir,
    finetune,
    finetune_experts,
    load_factors,
    lora_experts,
)
from mergebook.training.finetuning import text_batches

pytest.importorskip("tokenizers")

QUICK = TextRecipe(steps=30, warmup=3, lr=3e-3, batch_size=8)
TRAINED = [k for k in random_weights() if TextTower.role(k) not in ("unused", "embedding")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two tasks: whether a text has an "a" first, and which of three letters ends it."""
    folder, generator = tmp_path_factory.mktemp("letters"), torch.Generator().manual_seed(0)
    for name, classes in (("first", ["a", "b"]), ("last", ["x", "y", "z"])):
        rows = []
        for number in range(240):
            length = int(torch.randint(2, 12, (), generator=generator))
            letters = torch.randint(2, 20, (length,), generator=generator).tolist()
            words = [chr(ord("a") + n) for n in letters]
            words[0 if name == "first" else -1] = classes[number % len(classes)]
            rows.append({"text": " ".join(words), "label": number % len(classes)})
        lines = "\n".join(json.dumps(row) for row in rows)
        (folder / f"{name}.jsonl").write_text(lines)
    tasks = [{"name": "first", "class_names": ["a", "b"], "templates": ["{}"]},
             {"name": "last", "class_names": ["x", "y", "z"], "templates": ["{}"]}]  # fmt: skip
    (folder / "suite.yaml").write_text(json.dumps({"texts": ".", "tasks": tasks}))
    return folder


@pytest.fixture
def suite(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("MERGEBOOK_CHECKPOINTS", str(tmp_path / "checkpoints"))
    return load_suite(str(folder))


def test_the_recipe_is_that_of_texts():
    assert default_recipe(backbone="minilm") == default_recipe(0, "minilm") == TextRecipe()
    assert default_recipe(backbone="mini-small") == FinetuneRecipe()
    assert default_recipe(20, "minilm") == TextRecipe(steps=20, warmup=4)


def test_blocks_learn_and_embeddings_and_pooler_stay(suite):
    backbone, task = load_backbone("minilm"), suite["first"]
    state = finetune(backbone, task, QUICK)
    assert set(state) == set(backbone.weights())
    for key, value in backbone.weights().items():
        assert torch.equal(state[key], value) == (key not in TRAINED), key
    texts, labels = task.examples("train")
    tokens, head = backbone.preprocess(texts), build_head(backbone, task)

    def loss(weights):
        with torch.no_grad():
            features = F.normalize(build_encoder("minilm", weights)(tokens), dim=-1)
            return F.cross_entropy(30 * features @ head.T, torch.from_numpy(labels))

    assert loss(state) < 0.5 * loss(backbone.weights())
    again = finetune(backbone, task, QUICK)
    assert all(torch.equal(state[key], again[key]) for key in state)
    other = finetune(backbone, task, QUICK, seed=1)
    assert any(not torch.equal(state[key], other[key]) for key in TRAINED)


def test_embeddings_learn_where_asked(suite):
    recipe = TextRecipe(steps=2, warmup=1, batch_size=4, embeddings=True)
    state = finetune(load_backbone("minilm"), suite["first"], recipe)
    still = {k for k, v in load_backbone("minilm").weights().items() if torch.equal(state[k], v)}
    assert still == {"embeddings.position_ids", "pooler.dense.weight", "pooler.dense.bias"}


def test_the_loss_of_the_first_step_by_hand(suite):
    """One step of AdamW without decay moves every weight against its gradient by the rate."""
    backbone, task = load_backbone("minilm"), suite["last"]
    recipe = TextRecipe(steps=1, warmup=1, lr=1e-3, batch_size=200, weight_decay=0.0)
    state = finetune(backbone, task, recipe)
    texts, labels = task.examples("train", task.at_most("train", 6000))
    generator = torch.Generator().manual_seed(zlib.crc32(b"last/0"))
    index, tokens = next(text_batches(backbone.preprocess(texts), 200, generator))
    weights = {k: v.clone() for k, v in backbone.weights().items()}
    leaf = weights["encoder.layer.3.output.dense.weight"].requires_grad_()
    features = F.normalize(backbone.tower(weights, tokens), dim=-1)
    logits = 30 * features @ build_head(backbone, task).clone().T
    F.cross_entropy(logits, torch.from_numpy(labels)[index]).backward()
    moved = state["encoder.layer.3.output.dense.weight"] - leaf.detach()
    big = leaf.grad.abs() > 0.1 * leaf.grad.abs().max()
    torch.testing.assert_close(moved[big], -1e-3 * leaf.grad.sign()[big], rtol=1e-3, atol=0)


def test_batches_hold_texts_of_about_one_length_and_each_text_once_a_pass():
    tokens = torch.zeros(160, 20, dtype=torch.int64)
    lengths = torch.randint(2, 20, (160,), generator=torch.Generator().manual_seed(0))
    for row, length in zip(tokens, lengths.tolist(), strict=True):
        row[:length] = 5
    batches = text_batches(tokens, 10, torch.Generator().manual_seed(1))
    first = [next(batches) for _ in range(16)]
    assert sorted(torch.cat([index for index, _ in first]).tolist()) == list(range(160))
    for index, given in first:
        assert torch.equal(given, tokens[index])
        assert lengths[index].max() - lengths[index].min() <= 5
    assert [index.tolist() for index, _ in first] != [next(batches)[0].tolist() for _ in range(16)]


def test_experts_are_cached_by_model_and_texts(suite, model_folder, tmp_path, monkeypatch):
    recipe = TextRecipe(steps=1, warmup=1, batch_size=4)
    folder = finetune_experts(suite, "minilm", jobs=1, recipe=recipe)
    assert folder == experts_dir(suite.name, "minilm", 0, recipe)
    facts = json.loads((folder / "manifest.json").read_text())
    assert facts["recipe"]["embeddings"] is False and set(facts["sha256"]) == {
        "base", "first", "last"
    }  # fmt: skip
    before = (folder / "first.safetensors").stat().st_mtime_ns
    finetune_experts(suite, "minilm", jobs=1, recipe=recipe)
    assert (folder / "first.safetensors").stat().st_mtime_ns == before
    other = write_folder(tmp_path / "other")
    state = load_file(other / "model.safetensors")
    state["encoder.layer.0.output.dense.bias"] += 1
    save_file(state, other / "model.safetensors")
    monkeypatch.setenv(minilm.FOLDER, str(other))
    finetune_experts(suite, "minilm", jobs=1, recipe=recipe)
    assert (folder / "first.safetensors").stat().st_mtime_ns > before


def test_a_task_of_images_is_refused():
    with pytest.raises(ExperimentError, match=r"'cells' has images, but .*'minilm' encodes texts"):
        finetune(load_backbone("minilm"), load_suite("mini")["cells"], QUICK)


def test_accuracy_does_not_depend_on_the_batches(suite):
    bench = Benchmark(suite, "minilm", test_size=40, validation_size=20, steps=2, jobs=1)
    model = bench.merge("task_arithmetic", scale=0.5)
    for task, hits in bench.correct(model).items():
        tokens, labels = bench.inputs(task)
        state = model.state_dict()
        rows = torch.cat([build_encoder("minilm", state)(row[None]) for row in tokens])
        guesses = (F.normalize(rows, dim=-1) @ bench.heads[task].T).argmax(1)
        assert hits.tolist() == (guesses == labels).tolist()
    found = bench.search("task_arithmetic", {"scale": (0.1, 0.5)})
    assert found.params["scale"] in (0.1, 0.5)
    assert bench.experts.frozen_extra == 0


def test_factors_are_those_of_the_mlps(suite):
    recipe = LoraRecipe(steps=1, warmup=1, batch_size=4, rank=2)
    factors = load_factors(suite, "minilm", jobs=1, recipe=recipe)
    names = {key.rpartition(".")[0] for key in factors.base}
    ends = ("intermediate.dense.weight", "output.dense.weight")
    assert names == {f"encoder.layer.{b}.{end}" for b in range(4) for end in ends}
    experts = mb.load_experts(suite, "minilm", jobs=1, steps=1)
    made = lora_experts(factors, experts, recipe)
    assert set(made.trained) <= names and made.trained


def test_it_is_said_where_texts_are_cut(suite, folder, tmp_path, monkeypatch, capsys):
    recipe = TextRecipe(steps=1, warmup=1, batch_size=4)
    finetune_experts(suite, "minilm", jobs=1, recipe=recipe)
    assert "is cut" not in capsys.readouterr().err  # of at most 11 words
    for path in folder.iterdir():
        text = path.read_text().replace('"text": "', '"text": "a b c d e f g h i j ')
        (tmp_path / path.name).write_text(text)
    longer = load_suite(str(tmp_path))
    finetune_experts(longer.select(["first"]), "minilm", jobs=1, recipe=recipe)
    said = capsys.readouterr().err
    assert "first: " in said and "have more than the 20 tokens that minilm reads" in said
    finetune_experts(longer.select(["first"]), "minilm", jobs=1, recipe=recipe)
    assert "is cut" not in capsys.readouterr().err  # they are there
