"""A transformer encoder as a function of its weights, open at every linear map.

Modules own their weights and hide their maps. Methods that learn coefficients need gradients
through the weights, statistics need the inputs and outputs of each linear map, interventions edit
what a block computes, and routing gives each input weights of its own. All of them use a tower: a
function of weights and inputs. What differs between an image encoder of CLIP and a text encoder,
such as the names of tensors, where norms sit and what features are read from, a tower says.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Weights = Mapping[str, Tensor]
Edit = Callable[[str, Tensor], Tensor]
Linear = Callable[[str, Tensor, Tensor, Tensor | None], Tensor]
Norm = Callable[[str, Tensor, Tensor, Tensor, float], Tensor]
Route = Callable[[Weights, int, Tensor], Weights]
Role = Literal["embedding", "query_key_value", "attention", "mlp", "norm", "projection", "unused"]


def _linear(key: str, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return F.linear(x, weight, bias)


def _norm(key: str, x: Tensor, gain: Tensor, shift: Tensor, eps: float) -> Tensor:
    return F.layer_norm(x, x.shape[-1:], gain, shift, eps)


def _edit(place: str, x: Tensor) -> Tensor:
    return x


def _route(weights: Weights, block: int, x: Tensor) -> Weights:
    return weights


class Tower(ABC):
    """An encoder without weights; :func:`mergebook.towers.backbones.build_tower` makes one.

    Parameters
    ----------
    backbone : str
        One of :func:`mergebook.towers.backbones.list_backbones`.
    linear : callable, optional
        ``linear(key, x, weight, bias) -> y`` computes each linear map in place of ``F.linear``:
        `key` is the weight's name in the state dict, `x` is ``[N, L, in]``, `weight` always
        ``[out, in]``.
    edit : callable, optional
        ``edit(place, x) -> x``, which leaves its input as it was, is called with the sum of the
        embeddings (``"embedding"``, ``[N, L, d]``); at six places of block b, all ``[N, L, d]``:
        with the output of the first layer norm (``"blocks.<b>.ln_1"``), of the attention
        (``"blocks.<b>.attention"``, before the residual addition), with the residual stream after
        that addition (``"blocks.<b>.residual"``), the output of the second layer norm
        (``"blocks.<b>.ln_2"``), of the MLP (``"blocks.<b>.mlp"``, before the addition) and of the
        block (``"blocks.<b>"``); and with the final features (``"features"``, ``[N, D]``). Where
        norms follow the additions, the second norm's output is that of the block.
    norm : callable, optional
        ``norm(key, x, gain, shift, eps) -> y`` computes each layer norm; `key` is the gain's name.
    route : callable, optional
        ``route(weights, block, x) -> weights`` gives the weights of a block's MLP for its input
        `x`, ``[N, L, d]``.

    Attributes
    ----------
    num_blocks, num_heads, width, num_tokens, num_features : int
        Depth, attention heads and width d of the transformer, the most tokens L of an input, and
        width D of the features.
    modality : {"image", "text"}
    wanted : str
        The inputs that it takes, in words.
    blocks : str
        What the names of the blocks' tensors start with, before the block's number.
    roles : tuple of (str, str)
        Fragments of tensors' names and what these tensors are for; the first that fits counts.
    read : {"class", "all"}
        Tokens of the last block that the features are made of: the first, or the mean of all.
    """

    read: ClassVar[Literal["class", "all"]]
    modality: ClassVar[Literal["image", "text"]]
    blocks: ClassVar[str]
    roles: ClassVar[tuple[tuple[str, Role], ...]]
    num_blocks: int
    num_heads: int
    width: int
    num_tokens: int
    num_features: int
    wanted: str

    def __init__(
        self,
        backbone: str,
        *,
        linear: Linear = _linear,
        edit: Edit = _edit,
        norm: Norm = _norm,
        route: Route = _route,
    ):
        self.backbone = backbone
        self.linear, self.edit, self.norm, self.route = linear, edit, norm, route

    def with_hooks(self, **hooks: Callable) -> Tower:
        """Return the same tower with other hooks."""
        other = copy.copy(self)
        other.__dict__.update(hooks)
        return other

    @property
    def plain(self) -> bool:
        """Whether no hook changes or sees what is computed."""
        mine = self.linear, self.edit, self.norm, self.route
        return mine == (_linear, _edit, _norm, _route)

    def encoder(self, weights: Weights) -> TowerEncoder:
        """Return a module that maps inputs to features ``[N, D]``."""
        return TowerEncoder(self, weights)

    @classmethod
    def prefix(cls, block: int) -> str:
        """Start of the names of a block's tensors in the state dict."""
        return f"{cls.blocks}{block}."

    @classmethod
    def role(cls, key: str) -> Role:
        """What a tensor of the state dict, or a part of a stacked one, is for."""
        return next((role for part, role in cls.roles if part in key), "unused")

    @classmethod
    @abstractmethod
    def part_of(cls, key: str) -> str:
        """Part of the tower that a tensor is in: a block's number, "embedding" or "output"."""

    @abstractmethod
    def shapes(self) -> dict[str, torch.Size]:
        """Names and shapes of the tensors that the tower needs."""

    @abstractmethod
    def embed(self, weights: Weights, inputs: Tensor) -> Tensor:
        """Tokens ``[N, L, d]`` that enter the first block."""

    @abstractmethod
    def block(self, weights: Weights, block: int, x: Tensor) -> Tensor:
        """Output ``[N, L, d]`` of one block for its input ``[N, L, d]``."""

    @abstractmethod
    def readout(self, x: Tensor) -> Tensor:
        """What the features are made of, of the last block's output ``[N, L, d]``: ``[N, 1, d]``.

        Its own readout is itself.
        """

    @abstractmethod
    def pool(self, weights: Weights, x: Tensor) -> Tensor:
        """Features ``[N, D]`` of the last block's output, or of its readout."""

    @abstractmethod
    def fits(self, inputs: Tensor) -> bool:
        """Whether inputs are of the shape that the tower takes."""

    def there(self, x: Tensor) -> Tensor | None:
        """Which tokens ``[N, L, d]`` are no padding, bool ``[N, L, 1]``; None: all."""
        return None

    def portions(self, x: Tensor) -> Sequence[Tensor]:
        """Numbers of the inputs, or of the tokens ``[N, L, d]``, to pass at once: all of them."""
        return (torch.arange(len(x)),)

    def cast(self, inputs: Tensor, weights: Weights) -> Tensor:
        """Inputs in the type of the weights, as far as inputs are numbers to calculate with."""
        return inputs

    def __call__(self, weights: Weights, inputs: Tensor) -> Tensor:
        """Features ``[N, D]``, not normalised, of inputs."""
        return self.rest(weights, self.embed(weights, inputs))

    def rest(self, weights: Weights, x: Tensor, block: int = 0) -> Tensor:
        """Features ``[N, D]``, not normalised, of what enters a block ``[N, L, d]``."""
        for each in range(block, self.num_blocks):
            x = self.block(weights, each, x)
        return self.pool(weights, x)

    def _map(self, weights: Weights, weight: str, bias: str, x: Tensor) -> Tensor:
        return self.linear(weight, x, weights[weight], weights[bias])

    def _normed(self, weights: Weights, name: str, x: Tensor) -> Tensor:
        key = f"{name}weight"
        return self.norm(key, x, weights[key], weights[f"{name}bias"], self._eps)


class TowerEncoder(nn.Module):
    """A tower with weights of its own, as a module whose state dict has the tower's names.

    Parameters
    ----------
    tower : Tower
        The function.
    weights : mapping of str to Tensor
        State dict; used as it is, not copied.
    """

    def __init__(self, tower: Tower, weights: Weights):
        super().__init__()
        self.tower, self._names = tower, tuple(weights)
        for name, value in weights.items():
            *path, last = name.split(".")
            module: nn.Module = self
            for step in path:
                if step not in dict(module.named_children()):
                    module.add_module(step, nn.Module())
                module = module.get_submodule(step)
            if value.is_floating_point():
                module.register_parameter(last, nn.Parameter(value, requires_grad=False))
            else:
                module.register_buffer(last, value)

    def weights(self) -> dict[str, Tensor]:
        """The weights, parametrised ones as they are now."""
        found = {}
        for name in self._names:
            path, _, last = name.rpartition(".")
            found[name] = getattr(self.get_submodule(path), last)
        return found

    def forward(self, inputs: Tensor) -> Tensor:
        """Features ``[N, D]`` of inputs."""
        return self.tower(self.weights(), inputs)
