"""A tower that keeps what goes in and out of each of its maps."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from mergebook.calibration import Calibration
from mergebook.towers.tower import Tower, Weights
from mergebook.weights import Experts
from mergebook.weights.qkv import Arranged

BATCH = 64  # images per forward pass; only memory depends on it

Kind = Literal["linear", "patches", "scale"]
Stage = Callable[[Weights, Tensor], Tensor]


@dataclass(frozen=True)
class Tap:
    """Input and output of one map of the tower, for a batch of images.

    Attributes
    ----------
    kind : {"linear", "patches", "scale"}
        A linear map; the convolution, with the embeddings that are added to it; the scale and
        shift of a norm.
    x : Tensor, shape [N, L, in]
        Tokens, patches, or normalised tokens.
    y : Tensor, shape [N, L, out]
        Tokens; of patches, all tokens that the embedding makes, so that L is one more.
    """

    kind: Kind
    x: Tensor
    y: Tensor


class Tape(Tower):
    """A tower that keeps the inputs and outputs of all its maps.

    Parameters
    ----------
    backbone : str
        One of :func:`mergebook.towers.clip.list_backbones`.

    Attributes
    ----------
    taps : dict of str to Tap
        By the name of the map's weight: what passed since the dictionary was last emptied, in the
        order of the maps.
    """

    def __init__(self, backbone: str):
        super().__init__(backbone, linear=self._linear)
        self.taps: dict[str, Tap] = {}

    def stages(self) -> tuple[Stage, ...]:
        """The tower in pieces: embedding, each block, pooling; each takes weights and its input."""
        blocks = [lambda weights, x, b=b: self.block(weights, b, x) for b in range(self.num_blocks)]
        return (self.embed, *blocks, self.pool)

    def embed(self, weights: Weights, images: Tensor) -> Tensor:
        """As :meth:`Tower.embed`, with the convolution written as a product."""
        kernel = weights["conv1.weight"]
        patches = F.unfold(images, kernel.shape[-2:], stride=self._stride).transpose(1, 2)
        token = weights["class_embedding"].expand(len(images), 1, -1)
        tokens = torch.cat([token, patches @ kernel.flatten(1).T], 1)
        tokens = tokens + weights["positional_embedding"]
        if torch.is_grad_enabled():
            tokens.requires_grad_()  # the first tensor that a gradient is asked for
        self.taps["conv1.weight"] = Tap("patches", patches, tokens)
        return self._norm(weights, "ln_pre.", tokens)

    def _linear(self, key: str, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if key == "proj":
            x = x[:, None]
        y = F.linear(x, weight, bias)
        self.taps[key] = Tap("linear", x, y)
        return y[:, 0] if key == "proj" else y

    def _norm(self, weights: Weights, name: str, x: Tensor) -> Tensor:
        if name == "ln_post.":
            x = x[:, :1]  # no other token is used
        normal = F.layer_norm(x, x.shape[-1:], eps=self._eps)
        y = normal * weights[f"{name}weight"] + weights[f"{name}bias"]
        self.taps[f"{name}weight"] = Tap("scale", normal, y)
        return y


class _Cast(Mapping[str, Tensor]):
    """Weights in the type of the arithmetic, each tensor read when it is used."""

    def __init__(self, weights: Mapping[str, Tensor], dtype: torch.dtype):
        self._weights, self._dtype = weights, dtype

    def __getitem__(self, key: str) -> Tensor:
        return self._weights[key].to(self._dtype)

    def __iter__(self) -> Iterator[str]:
        return iter(self._weights)

    def __len__(self) -> int:
        return len(self._weights)


def tower_weights(experts: Experts, calibration: Calibration) -> dict[str, Mapping[str, Tensor]]:
    """Weights of every expert as the tower takes them, read lazily."""
    return {task: _Cast(as_stored(experts.expert(task)), experts.dtype) for task in experts.tasks}


def as_stored(weights: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Weights with query, key and value as the checkpoint has them, however they are shown."""
    return weights.source if isinstance(weights, Arranged) else weights
