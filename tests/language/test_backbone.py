"""The text backbone: where its files come from, what it makes of texts, what it refuses."""

import json
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from language.conftest import TASKS, write_folder
from mergebook.errors import BackboneError, ExperimentError, SuiteError
from mergebook.evaluation import Benchmark
from mergebook.suites import Task, load_suite
from mergebook.suites.base import Split
from mergebook.towers import minilm
from mergebook.towers.backbones import build_head, list_backbones, load_backbone, modality

pytest.importorskip("tokenizers")


@pytest.fixture
def folder(model_folder, tmp_path, monkeypatch):
    """A copy of the model's folder that a test may damage."""
    shutil.copytree(model_folder, tmp_path / "model")
    monkeypatch.setenv(minilm.FOLDER, str(tmp_path / "model"))
    return tmp_path / "model"


def test_texts_become_numbers_cut_and_padded():
    backbone = load_backbone("minilm")
    tokens = backbone.preprocess(["a b", "", "A  zebra, c!", " ".join("abcdefghij" * 4)])
    assert tokens.dtype == torch.int64 and tokens.shape == (4, 20)  # the tiny model's 20 positions
    assert tokens[0].tolist() == [2, 4, 5, 3] + [0] * 16
    assert tokens[1].tolist() == [2, 3] + [0] * 18
    assert tokens[2, :7].tolist() == [2, 4, 1, 1, 6, 1, 3]  # unknown words; case does not count
    assert tokens[3].tolist() == [2, *range(4, 14), *range(4, 12), 3]
    assert backbone.count_cut(["a b", " ".join("abcdefghij" * 4), "c"]) == 1


def test_texts_of_about_one_length_are_encoded_together():
    backbone = load_backbone("minilm")
    tokens = backbone.preprocess(["a b c", "a", "a b c d", "a b"])
    batches = backbone.batches(tokens, 2)
    assert [rows.tolist() for rows in batches] == [[1, 3], [0, 2]]


def test_a_head_is_made_of_the_prompts_embeddings():
    backbone = load_backbone("minilm")
    task = Task("letters", "Letters", ("a", "b c"), ("{}", "z {}."), None, modality="text")
    head = build_head(backbone, task)
    for row, name in zip(head, task.class_names, strict=True):
        rows = [
            backbone.tower(backbone.state, backbone.preprocess([t.format(name)]))[0]
            for t in task.templates
        ]
        mean = torch.stack([own / own.norm() for own in rows]).mean(0)
        torch.testing.assert_close(row, mean / mean.norm(), rtol=1e-5, atol=1e-6)
    assert backbone.logit_scale == 30


def test_the_files_come_from_a_folder_the_package_or_the_hub(folder, monkeypatch, tmp_path):
    assert minilm.minilm_folder() == folder
    monkeypatch.delenv(minilm.FOLDER)
    hub = tmp_path / "hub"
    snapshot = hub / f"models--{minilm.HUB.replace('/', '--')}" / "snapshots" / minilm.REVISION
    snapshot.parent.mkdir(parents=True)
    shutil.copytree(folder, snapshot)  # the layout of the hub's cache
    monkeypatch.setattr(minilm, "PACKAGE", "no_such_package")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(hub))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert minilm.minilm_folder() == snapshot
    assert load_backbone("minilm").config.hidden_size == 32
    shutil.rmtree(hub)
    with pytest.raises(BackboneError, match=r"mergebook\[language\].*MERGEBOOK_MINILM"):
        load_backbone("minilm")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: (f / "tokenizer.json").unlink(), "no tokenizer.json in it"),
        (lambda f: (f / "tokenizer.json").write_text("{}"), "tokenizer.json: no tokenizer"),
        (lambda f: (f / "config.json").write_text("[]"), "config.json: no configuration of BERT"),
        (lambda f: change(f, model_type="roberta"), "model_type is 'roberta', must be 'bert'"),
        (lambda f: change(f, hidden_act="relu"), "hidden_act is 'relu', must be 'gelu'"),
        (lambda f: change(f, hidden_size=0), "no sizes of BERT: hidden_size"),
        (lambda f: change(f, num_attention_heads=5), "no sizes of BERT: hidden_size"),
        (lambda f: change(f, vocab_size=40), "'embeddings.word_embeddings.weight' should have"),
        (lambda f: change(f, num_hidden_layers=5), "'encoder.layer.4.* is missing"),
        (lambda f: change(f, vocab_size=20), "word_embeddings|30 tokens, the model has 20"),
        (lambda f: (f / "model.safetensors").write_bytes(b"x" * 40), "model.safetensors"),
    ],
)
def test_damaged_folders_are_named(damage, message, folder):
    damage(folder)
    minilm._config.cache_clear()
    minilm._load.cache_clear()
    with pytest.raises(Exception, match=message) as error:
        load_backbone("minilm")
    assert type(error.value).__module__ == "mergebook.errors"


def change(folder, **values):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | values))


def test_other_weights_can_be_given(folder, tmp_path):
    state = load_file(folder / "model.safetensors")
    name = "encoder.layer.0.output.dense.bias"
    save_file({**state, name: state[name] + 1}, tmp_path / "other.safetensors")
    other = load_backbone("minilm", tmp_path / "other.safetensors")
    assert torch.equal(other.state[name], load_backbone("minilm").state[name] + 1)


def test_a_suite_and_a_backbone_must_be_of_one_kind():
    assert {name for name in list_backbones() if modality(name) == "text"} == {"minilm"}
    with pytest.raises(ExperimentError, match="'mini' has images, but backbone 'minilm' encodes"):
        Benchmark("mini", "minilm", num_tasks=1)
    with pytest.raises(ExperimentError, match=r"'text8' has texts, but .*for texts: minilm"):
        Benchmark("text8", "mini-small", num_tasks=1)


def test_samples_and_sizes_speak_of_texts():
    texts = Split(np.array(["a", "b"], object), np.zeros(2, np.int64))
    task = Task("few", "Few", ("x", "y"), ("{}",), lambda *_: texts, {"test": 3}, modality="text")
    with pytest.raises(SuiteError, match="task 'few': test has 2 texts, 3 were asked for"):
        task.examples("test")


def test_the_layout_is_the_published_one(tmp_path):
    names = {path.name for path in write_folder(tmp_path / "again").iterdir()}
    assert names == {minilm.WEIGHTS, minilm.CONFIG, minilm.TOKENIZER}
    assert len(TASKS) == 3 and load_suite("text8").names[0] == "banking77"
