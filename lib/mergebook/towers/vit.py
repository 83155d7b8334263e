"""The image tower of a CLIP ViT as a function of its weights.

It computes what open_clip's module computes.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from mergebook.errors import BackboneError
from mergebook.towers import clip
from mergebook.towers.tower import Role, Tower, Weights

BLOCKS = "transformer.resblocks."
ROLES: tuple[tuple[str, Role], ...] = (  # the first that is in a name counts
    ("in_proj", "query_key_value"),
    ("out_proj", "attention"),
    (".mlp.", "mlp"),
    ("ln_", "norm"),
    ("conv1", "embedding"),
    ("embedding", "embedding"),
    ("proj", "projection"),
)


class ImageTower(Tower):
    """The image tower of a CLIP model: norms before the maps, features of the class token.

    Inputs are images ``[N, 3, S, S]``. Weights may have a leading axis of images ``[N, *s]``, if
    the hooks take them.

    Raises
    ------
    BackboneError
        If the backbone's image tower is not a plain CLIP ViT.
    """

    read, modality = "class", "image"
    blocks, roles = BLOCKS, ROLES

    def __init__(self, backbone: str, **hooks):
        super().__init__(backbone, **hooks)
        visual = clip.visual_template(backbone)
        if visual.attn_pool is not None or visual.pool_type != "tok" or visual.final_ln_after_pool:
            raise BackboneError(f"backbone {backbone!r}: its image tower is not a plain CLIP ViT")
        first = visual.transformer.resblocks[0]
        self.num_blocks = len(visual.transformer.resblocks)
        self.num_heads = first.attn.num_heads
        self.width = first.attn.embed_dim
        self.num_tokens = len(visual.positional_embedding)
        self.num_features = visual.output_dim
        self.image_size = tuple(visual.image_size)
        self.wanted = f"floating point [N, 3, {self.image_size[0]}, {self.image_size[1]}]"
        self._activation = first.mlp.gelu  # without weights: GELU or CLIP's quick GELU
        self._stride = visual.conv1.stride
        self._eps = first.ln_1.eps

    @classmethod
    def part_of(cls, key: str) -> str:
        """Part of the tower that a tensor is in: a block's number, "embedding" or "output"."""
        if BLOCKS in key:
            return key.split(BLOCKS)[1].split(".")[0]
        return "output" if key == "proj" or key.startswith("ln_post") else "embedding"

    def shapes(self) -> dict[str, torch.Size]:
        """Names and shapes of the tensors that the tower needs."""
        state = clip.visual_template(self.backbone).state_dict()
        return {key: value.shape for key, value in state.items()}

    def fits(self, inputs: Tensor) -> bool:
        """Whether inputs are floats ``[N, 3, S, S]`` of the tower's side."""
        return inputs.is_floating_point() and tuple(inputs.shape[1:]) == (3, *self.image_size)

    def cast(self, inputs: Tensor, weights: Weights) -> Tensor:
        """Images in the type of the weights."""
        return inputs.to(weights["ln_post.bias"].dtype)

    def embed(self, weights: Weights, inputs: Tensor) -> Tensor:
        """Tokens ``[N, L, d]`` that enter the first block: class token, then patches."""
        kernel = weights["conv1.weight"]
        patches = F.unfold(inputs, kernel.shape[-2:], stride=self._stride).mT
        patches = self.linear("conv1.weight", patches, kernel.flatten(-3), None)
        token = weights["class_embedding"].unsqueeze(-2).expand(len(inputs), 1, -1)
        x = torch.cat([token, patches], 1) + weights["positional_embedding"]
        return self._normed(weights, "ln_pre.", self.edit("embedding", x))

    def block(self, weights: Weights, block: int, x: Tensor) -> Tensor:
        """Output ``[N, L, d]`` of one block for its input ``[N, L, d]``."""
        name, here = self.prefix(block), f"blocks.{block}"
        normed = self.edit(f"{here}.ln_1", self._normed(weights, f"{name}ln_1.", x))
        attention = self.attention(weights, block, normed)
        x = self.edit(f"{here}.residual", x + self.edit(f"{here}.attention", attention))
        normed = self.edit(f"{here}.ln_2", self._normed(weights, f"{name}ln_2.", x))
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
        weights, name = self.route(weights, block, x), f"{self.prefix(block)}mlp."
        hidden = self._map(weights, f"{name}c_fc.weight", f"{name}c_fc.bias", x)
        hidden = self._activation(hidden)
        return self._map(weights, f"{name}c_proj.weight", f"{name}c_proj.bias", hidden)

    def readout(self, x: Tensor) -> Tensor:
        """The class token of the last block's output ``[N, L, d]``: ``[N, 1, d]``."""
        return x[:, :1]

    def pool(self, weights: Weights, x: Tensor) -> Tensor:
        """Features ``[N, D]`` of the last block's output ``[N, L, d]``."""
        token = self._normed(weights, "ln_post.", self.readout(x))
        features = self.linear("proj", token, weights["proj"].mT, None)
        return self.edit("features", features[:, 0])
