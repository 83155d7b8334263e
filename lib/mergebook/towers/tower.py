"""The image tower of a CLIP ViT as a function of its weights, open at every linear map.

open_clip's modules own their weights and hide the maps inside `nn.MultiheadAttention`. Methods
that learn coefficients need gradients through the weights, statistics need the inputs and outputs
of each linear map, interventions edit what a block computes, and routing gives each image weights
of its own. All of them use this one function; it computes what open_clip's module computes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mergebook.errors import BackboneError
from mergebook.towers import clip

Weights = Mapping[str, Tensor]
Edit = Callable[[str, Tensor], Tensor]
Linear = Callable[[str, Tensor, Tensor, Tensor | None], Tensor]


def _plain(key: str, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return F.linear(x, weight, bias)


def _unchanged(place: str, x: Tensor) -> Tensor:
    return x


class Tower:
    """The image tower of a backbone, without weights.

    Parameters
    ----------
    backbone : str
        One of :func:`mergebook.towers.clip.list_backbones`.
    linear : callable, optional
        ``linear(key, x, weight, bias) -> y`` computes each linear map in place of ``F.linear``:
        `key` is the weight's name in the state dict, `x` is ``[N, L, in]`` (``[N, in]`` for
        ``proj``), `weight` is always ``[out, in]`` (``proj`` comes transposed).
    edit : callable, optional
        ``edit(place, x) -> x`` is called at six places of block b, all ``[N, L, d]``: with the
        output of the first layer norm (``"blocks.<b>.ln_1"``), of the attention
        (``"blocks.<b>.attention"``, before the residual addition), with the residual stream after
        that addition (``"blocks.<b>.residual"``), the output of the second layer norm
        (``"blocks.<b>.ln_2"``), of the MLP (``"blocks.<b>.mlp"``, before the addition) and of the
        block (``"blocks.<b>"``); and with the final features (``"features"``, ``[N, D]``).

    Attributes
    ----------
    num_blocks, num_heads, width, num_tokens : int
        Depth, attention heads and width d of the transformer, and tokens L with the class token.

    Raises
    ------
    BackboneError
        If the backbone's image tower is not a plain CLIP ViT.
    """

    def __init__(self, backbone: str, linear: Linear = _plain, edit: Edit = _unchanged):
        visual = clip.visual_template(backbone)
        if visual.attn_pool is not None or visual.pool_type != "tok" or visual.final_ln_after_pool:
            raise BackboneError(f"backbone {backbone!r}: its image tower is not a plain CLIP ViT")
        first = visual.transformer.resblocks[0]
        self.backbone = backbone
        self.linear, self.edit = linear, edit
        self.num_blocks = len(visual.transformer.resblocks)
        self.num_heads = first.attn.num_heads
        self.width = first.attn.embed_dim
        self.num_tokens = len(visual.positional_embedding)
        self._activation = first.mlp.gelu  # without weights: GELU or CLIP's quick GELU
        self._stride = visual.conv1.stride
        self._eps = first.ln_1.eps

    def with_hooks(self, linear: Linear | None = None, edit: Edit | None = None) -> Tower:
        """Return the same tower with other hooks."""
        return Tower(self.backbone, linear or self.linear, edit or self.edit)

    def encoder(self, weights: Weights) -> nn.Module:
        """Return a module that maps images ``[N, 3, S, S]`` to features ``[N, D]``."""
        return TowerEncoder(self, weights)

    @staticmethod
    def prefix(block: int) -> str:
        """Start of the names of a block's tensors in the state dict."""
        return f"transformer.resblocks.{block}."

    def __call__(self, weights: Weights, images: Tensor) -> Tensor:
        """Features ``[N, D]``, not normalised, of images ``[N, 3, S, S]``."""
        return self.rest(weights, self.embed(weights, images))

    def rest(self, weights: Weights, x: Tensor, block: int = 0) -> Tensor:
        """Features ``[N, D]``, not normalised, of what enters a block ``[N, L, d]``."""
        for each in range(block, self.num_blocks):
            x = self.block(weights, each, x)
        return self.pool(weights, x)

    def embed(self, weights: Weights, images: Tensor) -> Tensor:
        """Tokens ``[N, L, d]`` that enter the first block: class token, then patches."""
        patches = F.conv2d(images, weights["conv1.weight"], stride=self._stride)
        patches = patches.flatten(2).transpose(1, 2)
        token = weights["class_embedding"].expand(len(images), 1, -1)
        x = torch.cat([token, patches], 1) + weights["positional_embedding"]
        return self._norm(weights, "ln_pre.", x)

    def block(self, weights: Weights, block: int, x: Tensor) -> Tensor:
        """Output ``[N, L, d]`` of one block for its input ``[N, L, d]``."""
        name, here = self.prefix(block), f"blocks.{block}"
        normed = self.edit(f"{here}.ln_1", self._norm(weights, f"{name}ln_1.", x))
        attention = self.attention(weights, block, normed)
        x = self.edit(f"{here}.residual", x + self.edit(f"{here}.attention", attention))
        normed = self.edit(f"{here}.ln_2", self._norm(weights, f"{name}ln_2.", x))
        x = x + self.edit(f"{here}.mlp", self.mlp(weights, block, normed))
        return self.edit(here, x)

    def attention(self, weights: Weights, block: int, x: Tensor) -> Tensor:
        """Multi-head self-attention of one block ``[N, L, d] -> [N, L, d]``."""
        name = f"{self.prefix(block)}attn."
        shape = (*x.shape[:2], 3, self.num_heads, -1)
        joint = self._map(weights, f"{name}in_proj_weight", f"{name}in_proj_bias", x)
        query, key, value = joint.view(shape).permute(2, 0, 3, 1, 4)
        heads = F.scaled_dot_product_attention(query, key, value).transpose(1, 2)
        joined = heads.reshape(x.shape)
        return self._map(weights, f"{name}out_proj.weight", f"{name}out_proj.bias", joined)

    def mlp(self, weights: Weights, block: int, x: Tensor) -> Tensor:
        """Two-layer perceptron of one block ``[N, L, d] -> [N, L, d]``."""
        name = f"{self.prefix(block)}mlp."
        hidden = self._map(weights, f"{name}c_fc.weight", f"{name}c_fc.bias", x)
        hidden = self._activation(hidden)
        return self._map(weights, f"{name}c_proj.weight", f"{name}c_proj.bias", hidden)

    def pool(self, weights: Weights, x: Tensor) -> Tensor:
        """Features ``[N, D]`` of the last block's output ``[N, L, d]``."""
        token = self._norm(weights, "ln_post.", x)[:, 0]
        features = self.linear("proj", token, weights["proj"].T, None)
        return self.edit("features", features)

    def _map(self, weights: Weights, weight: str, bias: str, x: Tensor) -> Tensor:
        return self.linear(weight, x, weights[weight], weights[bias])

    def _norm(self, weights: Weights, name: str, x: Tensor) -> Tensor:
        shape = x.shape[-1:]
        return F.layer_norm(x, shape, weights[f"{name}weight"], weights[f"{name}bias"], self._eps)


class TowerEncoder(nn.Module):
    """A tower with fixed weights, as a module.

    Parameters
    ----------
    tower : Tower
        The function.
    weights : mapping of str to Tensor
        State dict of the image tower.
    """

    def __init__(self, tower: Tower, weights: Weights):
        super().__init__()
        self.tower, self.weights = tower, dict(weights)

    def forward(self, images: Tensor) -> Tensor:
        """Features ``[N, D]`` of images ``[N, 3, S, S]``."""
        return self.tower(self.weights, images)
