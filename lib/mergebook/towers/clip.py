"""CLIP backbones through open_clip, among them two tiny ones of ours, and zero-shot heads.

open_clip brings torchvision, which takes longer to import than torch: it is imported where a model
is built, so that whoever only names a backbone does not wait for it.
"""

from __future__ import annotations

import copy
import logging
import re
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mergebook.errors import BackboneError, unknown
from mergebook.paths import assets_dir
from mergebook.weights import Checkpoint

MINI = ("mini-small", "mini-large")
PAPER = ("ViT-B-32", "ViT-B-16", "ViT-L-14")
NAMES = MINI + PAPER  # [radford2021clip]
VOCABULARY = "vocabulary.txt"
MINI_MEAN, MINI_STD = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)


class WordTokenizer:
    """Words to token ids, for the mini backbones' small text tower.

    Words of the pre-training captions have an id each; any other word falls into one of the
    remaining ids by its CRC-32, so that unseen class names differ from one another. Id 0 pads,
    1 starts a text and the highest id ends it (open_clip pools the text at the highest id).

    Parameters
    ----------
    words : sequence of str
        The known words, in id order.
    vocab_size, context_length : int
    """

    def __init__(self, words: Sequence[str], vocab_size: int, context_length: int):
        self.known = {word: i for i, word in enumerate(words, start=2)}
        self.vocab_size, self.context_length = vocab_size, context_length
        self.first_bucket = 2 + len(words)
        if self.first_bucket >= vocab_size - 1:
            raise BackboneError(f"{len(words)} words leave no room in a vocabulary of {vocab_size}")

    @staticmethod
    def words(text: str) -> list[str]:
        """Split a text; single letters keep their case (``A`` and ``a`` are two letters)."""
        found = re.findall(r"[^\W_]+", text)
        return [word if len(word) == 1 else word.lower() for word in found]

    def __call__(self, texts: str | Sequence[str]) -> Tensor:
        """Return token ids, int64 [N, context_length]."""
        texts = [texts] if isinstance(texts, str) else list(texts)
        tokens = torch.zeros(len(texts), self.context_length, dtype=torch.int64)
        buckets = self.vocab_size - 1 - self.first_bucket
        for row, text in zip(tokens, texts, strict=True):
            ids = [
                self.known.get(word, self.first_bucket + zlib.crc32(word.encode()) % buckets)
                for word in self.words(text)[: self.context_length - 2]
            ]
            ids = [1, *ids, self.vocab_size - 1]
            row[: len(ids)] = torch.tensor(ids)
        return tokens


@dataclass(frozen=True)
class Backbone:
    """A CLIP model with what is needed to feed it.

    Attributes
    ----------
    name : str
    model : nn.Module
        open_clip's model: ``model.visual`` is the image tower.
    tokenize : callable
        Texts to token ids, int64 [N, L].
    mean, std : tuple of float
        Of the image channels.
    """

    name: str
    model: nn.Module
    tokenize: Callable[[Sequence[str]], Tensor]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    modality: ClassVar[str] = "image"

    @property
    def visual(self) -> nn.Module:
        """The image tower, the part that is fine-tuned and merged."""
        return self.model.visual

    def weights(self) -> dict[str, Tensor]:
        """State dict of the image tower, which is fine-tuned and merged."""
        return self.visual.state_dict()

    @property
    def image_size(self) -> int:
        """Side of the square input images, in pixels."""
        size = self.visual.image_size
        return size[0] if isinstance(size, tuple) else size

    @property
    def logit_scale(self) -> float:
        """Factor on the cosine similarities."""
        return self.model.logit_scale.exp().item()

    @property
    def num_text(self) -> int:
        """Entries outside the image tower: never trained, never merged."""
        total = sum(p.numel() for p in self.model.parameters())
        return total - sum(p.numel() for p in self.visual.parameters())

    def preprocess(self, images: np.ndarray) -> Tensor:
        """Turn uint8 images [N, H, W, 3] into normalised float32 inputs [N, 3, S, S]."""
        pixels = torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2)
        if pixels.shape[-2:] != (self.image_size,) * 2:
            size = (self.image_size,) * 2
            pixels = F.interpolate(pixels.float(), size, mode="bicubic", antialias=True)
            pixels = pixels.clamp(0, 255)
        mean, std = torch.tensor(self.mean), torch.tensor(self.std)
        return (pixels.float() / 255 - mean[:, None, None]) / std[:, None, None]

    def batches(self, inputs: Tensor, size: int) -> Sequence[Tensor]:
        """Numbers of the inputs of each batch, int64 [B]: in order."""
        return torch.arange(len(inputs)).split(size)

    @torch.inference_mode()
    def encode_text(self, texts: Sequence[str]) -> Tensor:
        """Return unit-length text features, float32 [N, d]."""
        return F.normalize(self.model.encode_text(self.tokenize(texts)).float(), dim=-1)


def vocabulary() -> list[str]:
    """Return the known words of the mini text tower, in id order."""
    return (assets_dir() / VOCABULARY).read_text(encoding="utf-8").split()


def _configs() -> None:
    import open_clip

    if not set(MINI) <= set(open_clip.list_models()):
        for name in MINI:
            open_clip.add_model_config(assets_dir() / f"{name}.json")


def configuration(name: str) -> dict[str, Any]:
    """open_clip's configuration of a backbone.

    Raises
    ------
    BackboneError
        Unknown name.
    """
    if name not in NAMES:
        raise BackboneError(unknown("backbone", name, NAMES))
    import open_clip

    _configs()
    return open_clip.get_model_config(name)


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence open_clip's warning that a model starts from random weights: here it is meant to."""
    logger, keep = logging.getLogger(), lambda record: "No pretrained weights" not in record.msg
    logger.addFilter(keep)
    try:
        yield
    finally:
        logger.removeFilter(keep)


@torch.inference_mode(False)  # backbones are kept, and some caller may want to train a copy
def create(name: str) -> Backbone:
    """Build a backbone with random weights; torch's generator is as before.

    Parameters
    ----------
    name : str
        One of :data:`NAMES`.

    Raises
    ------
    BackboneError
        Unknown name.
    """
    configuration(name)  # checks the name, and makes ours known
    import open_clip

    quick = {} if name in MINI else {"force_quick_gelu": True}  # OpenAI's weights need it
    with _quiet(), torch.random.fork_rng(devices=[]):
        model = open_clip.create_model(name, pretrained=None, **quick).eval()
    if name not in MINI:
        mean, std = open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD
        return Backbone(name, model, open_clip.get_tokenizer(name), tuple(mean), tuple(std))
    tokenize = WordTokenizer(vocabulary(), model.vocab_size, model.context_length)
    return Backbone(name, model, tokenize, MINI_MEAN, MINI_STD)


@lru_cache(maxsize=2)
def load_backbone(name: str = "mini-small", path: str | Path | None = None) -> Backbone:
    """Load a pre-trained backbone.

    Parameters
    ----------
    name : str, default "mini-small"
        One of :data:`NAMES`.
    path : path, optional
        A safetensors file with the whole model's state dict. The mini backbones ship with the
        package; a paper's backbone without a path is taken from open_clip's ``openai`` weights.

    Returns
    -------
    Backbone
        In evaluation mode, float32. Cached: do not train it in place.

    Raises
    ------
    BackboneError
        Unknown name, weights that cannot be had, or weights that do not fit.
    """
    backbone = create(name)
    if path is None and name in PAPER:
        import open_clip

        try:
            with torch.random.fork_rng(devices=[]):
                state = open_clip.create_model(name, pretrained="openai").state_dict()
        except Exception as error:  # the hub's client raises many kinds; all mean "not available"
            raise BackboneError(
                f"backbone {name!r}: the openai weights are neither cached nor downloadable "
                f"({error}); give `path`, a safetensors file with the model's state dict"
            ) from error
    else:
        path = assets_dir() / f"{name}.safetensors" if path is None else Path(path)
        state = {key: value.float() for key, value in Checkpoint(path).items()}
    _load(backbone.model, state, f"backbone {name!r}" + (f" from {path}" if path else ""))
    return backbone


def _load(module: nn.Module, state: Mapping[str, Tensor], what: str) -> None:
    try:
        module.load_state_dict(dict(state))
    except RuntimeError as error:
        raise BackboneError(f"{what}: {error}") from error


@lru_cache(maxsize=2)
def visual_template(name: str) -> nn.Module:
    """Return a backbone's image tower with random weights. Cached: do not modify it."""
    return create(name).visual.eval()


def visual_encoder(name: str, state: Mapping[str, Tensor]) -> nn.Module:
    """Return the image tower of a backbone with the given weights.

    Parameters
    ----------
    name : str
        One of :data:`NAMES`.
    state : mapping
        State dict of the image tower (keys as in open_clip's ``model.visual``).

    Returns
    -------
    nn.Module
        Maps float32 [N, 3, S, S] to features [N, d]; in evaluation mode.

    Raises
    ------
    BackboneError
        Unknown backbone, or keys and shapes that do not fit.
    """
    encoder = copy.deepcopy(visual_template(name))
    _load(encoder, state, f"image tower of {name!r}")
    return encoder
