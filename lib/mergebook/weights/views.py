"""Experts as a selection over a whole model sees them: with other layers, or with some of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch

from mergebook.weights.experts import Experts
from mergebook.weights.layer import Layer


class ChangedLayers:
    """Experts whose layers are changed on the way, as streaming passes over them need it.

    Parameters
    ----------
    change : callable
        Maps a layer to the layer that a pass sees instead.
    """

    def __init__(self, experts: Experts, change: Callable[[Layer], Layer]):
        self._experts = experts
        self._change = change

    def __iter__(self) -> Iterator[Layer]:
        return map(self._change, self._experts)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._experts, name)


@dataclass(frozen=True)
class SomeLayers:
    """Experts of which some layers count, and no others.

    Attributes
    ----------
    experts : Experts
        All their layers.
    names : tuple of str
        Of the layers that count.
    """

    experts: Experts
    names: tuple[str, ...]

    @cached_property
    def num_entries(self) -> int:
        """Entries of these layers."""
        return sum(self.experts.base[name].numel() for name in self.names)

    @property
    def tasks(self) -> tuple[str, ...]:
        """The T tasks."""
        return self.experts.tasks

    @property
    def dtype(self) -> torch.dtype:
        """Type of the arithmetic."""
        return self.experts.dtype

    def __iter__(self) -> Iterator[Layer]:
        return (self.experts.layer(name) for name in self.names)
