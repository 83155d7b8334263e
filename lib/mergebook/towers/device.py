"""Where encoders run: on the processor, or on the device that ``MERGEBOOK_DEVICE`` names.

Weights are merged on the processor, in memory; what takes long is running encoders. With
``MERGEBOOK_DEVICE=cuda`` they run there, in training, in evaluation and in methods that learn on
images or texts, and nothing else in the library knows of it. Statistics and weights that are mixed
for each input stay on the processor.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping

import torch
from torch import Tensor, nn

from mergebook.errors import BackboneError
from mergebook.towers.tower import Tower, TowerEncoder, Weights

VARIABLE = "MERGEBOOK_DEVICE"
HOME = torch.device("cpu")


def compute_device() -> torch.device:
    """The device that encoders run on.

    Raises
    ------
    BackboneError
        If it is unknown or not there.
    """
    name = os.environ.get(VARIABLE) or "cpu"
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        problem = str(error).splitlines()[0]
        raise BackboneError(f"{VARIABLE} is {name!r}: {problem}") from error
    return device


def placed(encoder: nn.Module, device: torch.device) -> nn.Module:
    """An encoder on a device, if it can be moved: one whose weights are all that it is made of."""
    movable = not isinstance(encoder, TowerEncoder) or encoder.tower.plain
    movable &= any(True for _ in encoder.parameters())
    return encoder.to(device) if movable else encoder


class _There(Mapping[str, Tensor]):
    """Weights on a device, each tensor moved when it is used."""

    def __init__(self, weights: Weights, device: torch.device):
        self._weights, self._device = weights, device

    def __getitem__(self, key: str) -> Tensor:
        return self._weights[key].to(self._device)

    def __iter__(self) -> Iterator[str]:
        return iter(self._weights)

    def __len__(self) -> int:
        return len(self._weights)


class AwayTower:
    """A tower that computes on a device; what it is given and what it gives back is at home.

    Its edits are computed at home, too.

    Parameters
    ----------
    tower : Tower
        With no hook but `edit`.
    device : torch.device
    """

    def __init__(self, tower: Tower, device: torch.device):
        self.tower, self.device = tower, device
        self._inner = tower
        if not tower.plain:
            self._inner = tower.with_hooks(
                edit=lambda place, x: tower.edit(place, x.to(HOME)).to(device)
            )

    def __getattr__(self, name: str):
        return getattr(self.tower, name)

    def with_hooks(self, **hooks: Callable) -> AwayTower | Tower:
        """Return the same tower with other hooks; at home, if they need to be."""
        tower = self.tower.with_hooks(**hooks)
        return AwayTower(tower, self.device) if set(hooks) <= {"edit"} else tower

    def encoder(self, weights: Weights) -> TowerEncoder:
        """Return a module that maps inputs to features ``[N, D]``."""
        return TowerEncoder(self, weights)

    def _away(self, run: Callable[..., Tensor], weights: Weights, *given: object) -> Tensor:
        moved = [g.to(self.device) if isinstance(g, Tensor) else g for g in given]
        return run(_There(weights, self.device), *moved).to(HOME)

    def __call__(self, weights: Weights, inputs: Tensor) -> Tensor:
        """As :meth:`Tower.__call__`."""
        return self._away(self._inner, weights, inputs)

    def rest(self, weights: Weights, x: Tensor, block: int = 0) -> Tensor:
        """As :meth:`Tower.rest`."""
        return self._away(self._inner.rest, weights, x, block)

    def embed(self, weights: Weights, inputs: Tensor) -> Tensor:
        """As :meth:`Tower.embed`."""
        return self._away(self._inner.embed, weights, inputs)

    def block(self, weights: Weights, block: int, x: Tensor) -> Tensor:
        """As :meth:`Tower.block`."""
        return self._away(lambda w, x: self._inner.block(w, block, x), weights, x)

    def pool(self, weights: Weights, x: Tensor) -> Tensor:
        """As :meth:`Tower.pool`."""
        return self._away(self._inner.pool, weights, x)
