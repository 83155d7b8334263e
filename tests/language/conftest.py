"""A tiny random BERT in Hugging Face's layout, three experts beside it, a few random texts."""

import json

import pytest
import torch
from safetensors.torch import save_file

from mergebook.calibration import Calibration
from mergebook.towers import minilm
from mergebook.towers.bert import BertConfig
from mergebook.weights import Experts

CONFIG = {
    "architectures": ["BertModel"],
    "model_type": "bert",
    "hidden_act": "gelu",
    "hidden_size": 32,
    "intermediate_size": 40,
    "layer_norm_eps": 1e-12,
    "max_position_embeddings": 20,
    "num_attention_heads": 4,
    "num_hidden_layers": 4,
    "pad_token_id": 0,
    "position_embedding_type": "absolute",
    "type_vocab_size": 2,
    "vocab_size": 60,
}
WORDS = "abcdefghijklmnopqrstuvwxyz"
TASKS = {"one": 3, "two": 4, "three": 2}  # name -> number of classes
LENGTHS = (5, 3, 12, 8, 5, 20)  # tokens of the texts of the first task; others have fewer
FROZEN = ("embeddings.", "pooler.")
# One tensor to see that not all are trained; and the biases of keys, which attention does not
# depend on, so that methods that learn a coefficient of each tensor would follow rounding noise.
STILL = ("1.output.LayerNorm.bias", "self.key.bias")


def random_weights(seed=0):
    """Weights of a BERT of this configuration, under the names of its files."""
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for key, shape in BertConfig(**sizes()).shapes().items():
        noise = torch.randn(shape, generator=generator)
        if "LayerNorm" in key:
            state[key] = 0.1 * noise + float(key.endswith("weight"))
        else:
            state[key] = noise * (1.0 if "embeddings" in key else 0.3)
    d = CONFIG["hidden_size"]
    state["pooler.dense.weight"] = torch.randn(d, d, generator=generator)
    state["pooler.dense.bias"] = torch.randn(d, generator=generator)
    return state


def sizes():
    """The part of the configuration that BertConfig holds."""
    return {key: CONFIG[key] for key in BertConfig.__dataclass_fields__}


def write_tokenizer(path):
    """Letters are words: [PAD], [UNK], [CLS], [SEP], a ... z."""
    tokenizers = pytest.importorskip("tokenizers")
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS]
    model = tokenizers.models.WordPiece(
        {name: number for number, name in enumerate(names)}, unk_token="[UNK]"
    )
    tokenizer = tokenizers.Tokenizer(model)
    tokenizer.normalizer = tokenizers.normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = tokenizers.processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    tokenizer.enable_padding(length=128)  # as in the published file, with a cut at 128
    tokenizer.enable_truncation(128)
    tokenizer.save(str(path))


def write_folder(folder, **changes):
    """A model's folder in Hugging Face's layout."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(CONFIG | changes))
    state = random_weights() | {"embeddings.position_ids": torch.arange(20)[None]}
    save_file(state, folder / "model.safetensors", {"format": "pt"})
    write_tokenizer(folder / "tokenizer.json")
    return folder


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp("bert"))


@pytest.fixture(autouse=True)
def tiny(model_folder, monkeypatch):
    """In these tests, the text backbone is the tiny one."""
    monkeypatch.setenv(minilm.FOLDER, str(model_folder))


@pytest.fixture(scope="session")
def base():
    return random_weights()


@pytest.fixture(scope="session")
def states(base):
    """Experts: the base with noise of a tenth of each tensor's spread; embeddings are frozen."""
    generator = torch.Generator().manual_seed(1)

    def moved(key, value):
        noise = torch.randn(value.shape, generator=generator)
        frozen = key.startswith(FROZEN) or key.endswith(STILL)
        return value if frozen else value + 0.1 * value.std() * noise

    return {task: {key: moved(key, value) for key, value in base.items()} for task in TASKS}


@pytest.fixture
def experts(base, states):
    return Experts(base, states, backbone="minilm")


def texts(generator, most=20):
    """Token numbers of texts of different lengths, padded with 0."""
    tokens = torch.zeros(len(LENGTHS), 20, dtype=torch.int64)
    for row, length in zip(tokens, LENGTHS, strict=True):
        length = min(length, most)
        row[:length] = torch.randint(1, 60, (length,), generator=generator)
    return tokens


@pytest.fixture(scope="session")
def calibration():
    """Random texts with random labels and random heads."""
    generator = torch.Generator().manual_seed(2)
    inputs = {task: texts(generator, most) for task, most in zip(TASKS, (20, 9, 14), strict=True)}
    labels = {
        task: torch.randint(c, (len(LENGTHS),), generator=generator) for task, c in TASKS.items()
    }
    heads = {
        task: torch.nn.functional.normalize(torch.randn(c, 32, generator=generator), dim=-1)
        for task, c in TASKS.items()
    }
    return Calibration("minilm", inputs, heads, 20.0, labels)
