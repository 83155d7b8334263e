"""A tower that keeps what goes in and out of each of its maps."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from mergebook.calibration import Calibration
from mergebook.towers.backbones import build_tower
from mergebook.towers.tower import Weights
from mergebook.weights import Experts
from mergebook.weights.qkv import Arranged

BATCH = 64  # inputs per forward pass; only memory depends on it

Kind = Literal["linear", "patches", "words", "scale"]
Stage = Callable[[Weights, Tensor], Tensor]


@dataclass(frozen=True)
class Tap:
    """Input and output of one map of the tower, for a batch of inputs.

    Attributes
    ----------
    kind : {"linear", "patches", "words", "scale"}
        A linear map; the convolution of images, with the embeddings that are added to it; the
        embeddings of words; the scale and shift of a norm.
    x : Tensor, shape [N, L, in]
        Tokens, patches, or normalised tokens; of words none, ``[N, L, 0]``.
    y : Tensor, shape [N, L, out]
        Tokens; of patches, all tokens that the embedding makes, so that L is one more.
    count : int
        Tokens that enter, without padding.
    """

    kind: Kind
    x: Tensor
    y: Tensor
    count: int


class Tape:
    """A tower that keeps the inputs and outputs of all its maps.

    Parameters
    ----------
    backbone : str
        One of :func:`mergebook.towers.backbones.list_backbones`.

    Attributes
    ----------
    tower : Tower
        Whose maps are kept.
    taps : dict of str to Tap
        By the name of the map's weight: what passed since the dictionary was last emptied, in the
        order of the maps.
    """

    def __init__(self, backbone: str):
        hooks = {"linear": self._linear, "norm": self._norm, "edit": self._edit}
        self.tower = build_tower(backbone, **hooks)
        self.taps: dict[str, Tap] = {}
        self._patches: Tensor | None = None

    def __call__(self, weights: Weights, inputs: Tensor) -> Tensor:
        """Features ``[N, D]``, not normalised, of inputs."""
        return self.tower(weights, inputs)

    def stages(self) -> tuple[Stage, ...]:
        """The tower in pieces: embedding, each block, pooling; each takes weights and its input."""
        tower = self.tower
        blocks = [lambda w, x, b=b: tower.block(w, b, x) for b in range(tower.num_blocks)]
        return (tower.embed, *blocks, tower.pool)

    def _tap(self, kind: Kind, x: Tensor, y: Tensor) -> Tap:
        there = self.tower.there(x)
        return Tap(kind, x, y, x.shape[0] * x.shape[1] if there is None else int(there.sum()))

    def _linear(self, key: str, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        y = F.linear(x, weight, bias)
        if self.tower.role(key) == "embedding":
            self._patches = x
        else:
            self.taps[key] = self._tap("linear", x, y)
        return y

    def _norm(self, key: str, x: Tensor, gain: Tensor, shift: Tensor, eps: float) -> Tensor:
        normal = F.layer_norm(x, x.shape[-1:], eps=eps)
        y = normal * gain + shift
        self.taps[key] = self._tap("scale", normal, y)
        return y

    def _edit(self, place: str, x: Tensor) -> Tensor:
        if place == "embedding":
            if torch.is_grad_enabled():
                x = x.detach().requires_grad_()  # the first tensor that a gradient is asked for
            if self._patches is None:
                self.taps["embeddings.word_embeddings.weight"] = self._tap("words", x[..., :0], x)
            else:
                self.taps["conv1.weight"] = self._tap("patches", self._patches, x)
        return x


class _Cast(Mapping[str, Tensor]):
    """Weights in the type of the arithmetic, each tensor read when it is used."""

    def __init__(self, weights: Mapping[str, Tensor], dtype: torch.dtype):
        self._weights, self._dtype = weights, dtype

    def __getitem__(self, key: str) -> Tensor:
        value = self._weights[key]
        return value.to(self._dtype) if value.is_floating_point() else value

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
