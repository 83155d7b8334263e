"""A tower whose weights are mixed anew for each image."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mergebook.towers.backbones import build_tower
from mergebook.towers.tower import Tower, Weights

# Numbers of one tensor that a pass may mix for all its images: what fits into a processor's cache.
LARGEST = 2**20


class Mixture(Mapping[str, Tensor]):
    r"""Weights :math:`o + \sum_t w_t v_t`, mixed tensor by tensor when they are asked for.

    Parameters
    ----------
    origin : mapping of str to Tensor
        Tensors ``[*s]``.
    vectors : mapping of str to Tensor
        ``[T, *s]`` of the tensors that are mixed.
    weights : Tensor, shape [N, T] or [T]
        Weights of each image, which give tensors ``[N, *s]``; or the same for all images, which
        give ``[*s]``.
    """

    def __init__(self, origin: Weights, vectors: Weights, weights: Tensor):
        self.origin, self.vectors, self.weights = origin, vectors, weights

    def __getitem__(self, key: str) -> Tensor:
        if key not in self.vectors:
            return self.origin[key]
        origin, vectors = self.origin[key], self.vectors[key]
        rows = self.weights.reshape(-1, len(vectors))
        size = origin.numel()
        mixed = torch.addmm(origin.reshape(1, size), rows, vectors.reshape(len(vectors), size))
        return mixed.view((*self.weights.shape[:-1], *origin.shape))

    def __iter__(self) -> Iterator[str]:
        return iter(self.origin)

    def __len__(self) -> int:
        return len(self.origin)


def linear(key: str, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """``[N, L, in] -> [N, L, out]`` by one linear map, or by one for each image."""
    if weight.ndim == 2 and (bias is None or bias.ndim == 1):
        return F.linear(x, weight, bias)
    y = x @ weight.mT
    return y if bias is None else y + bias.unsqueeze(-2)


def norm(key: str, x: Tensor, gain: Tensor, shift: Tensor, eps: float) -> Tensor:
    """``[N, L, d] -> [N, L, d]`` by one layer norm, or by one for each image."""
    x = F.layer_norm(x, x.shape[-1:], eps=eps)
    return x * gain.unsqueeze(-2) + shift.unsqueeze(-2)


def mixed_tower(backbone: str, **hooks: Any) -> Tower:
    """A tower that also takes tensors with a leading axis of images ``[N, *s]``.

    Parameters
    ----------
    backbone : str
        One of :func:`mergebook.towers.backbones.list_backbones`.
    **hooks
        Further hooks, see :class:`mergebook.towers.tower.Tower`.
    """
    return build_tower(backbone, linear=linear, norm=norm, **hooks)


@dataclass(frozen=True)
class Parts:
    """What a routed encoder is made of.

    Attributes
    ----------
    backbone : str
        The architecture.
    origin : mapping of str to Tensor
        Tensors ``[*s]``.
    vectors : mapping of str to Tensor
        ``[T, *s]`` of the tensors that are mixed.
    settings : mapping of str to plain values
        Of the router.
    numbers : mapping of str to Tensor
        Of the router.
    num_tasks : int
        T.
    """

    backbone: str
    origin: Weights
    vectors: Weights
    settings: Mapping[str, Any]
    numbers: Weights
    num_tasks: int

    @property
    def chunk(self) -> int:
        """Images per pass, so that no tensor mixed for them is too large."""
        return max(1, LARGEST // max([1, *(v[0].numel() for v in self.vectors.values())]))


class MixedEncoder(nn.Module):
    """An image encoder that first chooses weights ``[N, T]`` and then runs the mixed tower.

    Parameters
    ----------
    parts : Parts
        What it is made of.
    choose : callable
        ``choose(encoder, images) -> weights [N, T]``; may call :meth:`features`. If all rows
        are equal, the weights are mixed once.
    """

    def __init__(self, parts: Parts, choose: Callable[[MixedEncoder, Tensor], Tensor]):
        super().__init__()
        self.parts, self.choose = parts, choose
        self.tower = mixed_tower(parts.backbone)

    def features(self, images: Tensor, weights: Tensor) -> Tensor:
        """Features ``[N, D]`` under weights ``[N, T]``, or ``[T]`` for all images."""
        if weights.ndim == 2 and (weights == weights[:1]).all():
            weights = weights[0]
        if weights.ndim == 1:
            return self.tower(fixed(self.parts, weights), images)
        chunks = zip(images.split(self.parts.chunk), weights.split(self.parts.chunk), strict=True)
        mixed = [
            self.tower(Mixture(self.parts.origin, self.parts.vectors, own), chunk)
            for chunk, own in chunks
        ]
        return torch.cat(mixed)

    def forward(self, images: Tensor) -> Tensor:
        """Features ``[N, D]`` of images or texts."""
        return self.features(images, self.choose(self, images))


def fixed(parts: Parts, weights: Tensor) -> Mixture:
    """The mixture with the same weights ``[T]`` for all images."""
    return Mixture(parts.origin, parts.vectors, weights)
