"""A BERT text encoder with mean pooling as a function of its weights.

It computes what `BertModel` of Hugging Face's transformers computes, and the mean over tokens.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from mergebook.errors import BackboneError, one_line
from mergebook.towers.tokens import present, token_mean
from mergebook.towers.tower import Role, Tower, Weights

BLOCKS = "encoder.layer."
PAD = 0  # number of the token that pads
BATCH = 32  # texts of about one length that are encoded together
ROLES: tuple[tuple[str, Role], ...] = (  # the first that is in a name counts
    ("LayerNorm", "norm"),
    ("position_ids", "unused"),
    ("embeddings.", "embedding"),
    ("attention.self.", "query_key_value"),
    ("attention.output.", "attention"),
    ("intermediate.", "mlp"),
    ("output.", "mlp"),
)
# What a configuration must say, if it says anything about it.
PLAIN = {"model_type": "bert", "position_embedding_type": "absolute", "is_decoder": False,
         "pad_token_id": PAD, "hidden_act": "gelu"}  # fmt: skip


@dataclass(frozen=True)
class BertConfig:
    """Sizes of a BERT encoder, under the names of Hugging Face's ``config.json``.

    Attributes
    ----------
    num_hidden_layers, num_attention_heads, hidden_size, intermediate_size : int
        Blocks, heads, width d, and width of the MLPs.
    vocab_size, max_position_embeddings, type_vocab_size : int
        Rows of the embeddings.
    layer_norm_eps : float
        Added to variances.
    """

    num_hidden_layers: int
    num_attention_heads: int
    hidden_size: int
    intermediate_size: int
    vocab_size: int
    max_position_embeddings: int
    type_vocab_size: int
    layer_norm_eps: float

    @classmethod
    def read(cls, path: Path) -> BertConfig:
        """Read a ``config.json``.

        Raises
        ------
        BackboneError
            If it cannot be read, lacks a size, or is of another kind of model.
        """
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            values = {field.name: found[field.name] for field in fields(cls)}
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise BackboneError(f"{path}: no configuration of BERT ({one_line(error)})") from error
        for key, wanted in PLAIN.items():
            if found.get(key, wanted) != wanted:
                raise BackboneError(f"{path}: {key} is {found[key]!r}, must be {wanted!r}")
        wrong = [k for k, v in values.items() if isinstance(v, bool | str) or not v > 0]
        if wrong or values["hidden_size"] % values["num_attention_heads"]:
            raise BackboneError(f"{path}: no sizes of BERT: {', '.join(wrong) or 'hidden_size'}")
        return cls(**values)

    def shapes(self) -> dict[str, torch.Size]:
        """Names and shapes of the tensors that features depend on."""
        d, hidden = self.hidden_size, self.intermediate_size
        found = {
            "embeddings.word_embeddings.weight": (self.vocab_size, d),
            "embeddings.position_embeddings.weight": (self.max_position_embeddings, d),
            "embeddings.token_type_embeddings.weight": (self.type_vocab_size, d),
        }
        norms = ["embeddings."]
        for block in range(self.num_hidden_layers):
            name = f"{BLOCKS}{block}."
            maps = {f"attention.self.{part}": (d, d) for part in ("query", "key", "value")}
            maps |= {"attention.output.dense": (d, d)}
            maps |= {"intermediate.dense": (hidden, d), "output.dense": (d, hidden)}
            for part, shape in maps.items():
                found |= {f"{name}{part}.weight": shape, f"{name}{part}.bias": shape[:1]}
            norms += [f"{name}attention.output.", f"{name}output."]
        for name in norms:
            found |= {f"{name}LayerNorm.{part}": (d,) for part in ("weight", "bias")}
        return {key: torch.Size(shape) for key, shape in found.items()}


class TextTower(Tower):
    """A BERT encoder: norms after the additions, features are the mean over tokens.

    Inputs are numbers of tokens ``[N, L]``, whole numbers; each text ends with padding (0), which
    counts nowhere: its tokens are zero wherever a hook sees them. Columns that are padding in all
    texts of a batch are cut off. Weights may have a leading axis of texts ``[N, *s]``, if the
    hooks take them.

    Parameters
    ----------
    backbone : str
        Name of the backbone.
    config : BertConfig
        Its sizes.
    num_tokens : int
        The most tokens of a text.
    **hooks
        See :class:`Tower`.
    """

    read, modality = "all", "text"
    blocks, roles = BLOCKS, ROLES

    def __init__(self, backbone: str, config: BertConfig, num_tokens: int, **hooks):
        super().__init__(backbone, **hooks)
        self.config = config
        self.num_blocks = config.num_hidden_layers
        self.num_heads = config.num_attention_heads
        self.width = self.num_features = config.hidden_size
        self.num_tokens = min(num_tokens, config.max_position_embeddings)
        self.wanted = (
            f"int64 [N, L] with L <= {self.num_tokens}, numbers below {config.vocab_size:,}"
        )
        self._eps = config.layer_norm_eps

    @classmethod
    def part_of(cls, key: str) -> str:
        """Part of the tower that a tensor is in: a block's number, or "embedding"."""
        return key.split(BLOCKS)[1].split(".")[0] if BLOCKS in key else "embedding"

    def shapes(self) -> dict[str, torch.Size]:
        """Names and shapes of the tensors that the tower needs."""
        return self.config.shapes()

    def fits(self, inputs: Tensor) -> bool:
        """Whether inputs are whole numbers ``[N, L]`` of tokens that there are, not too many."""
        if inputs.ndim != 2 or inputs.dtype != torch.int64 or inputs.shape[1] > self.num_tokens:
            return False
        return 0 <= int(inputs.min()) <= int(inputs.max()) < self.config.vocab_size

    def __call__(self, weights: Weights, inputs: Tensor) -> Tensor:
        """Features ``[N, d]``, not normalised, of texts.

        Without hooks, to which the order matters, many texts are encoded by length.
        """
        if len(inputs) <= BATCH or not self.plain:
            return super().__call__(weights, inputs)
        portions, encode = self.portions(inputs), super().__call__
        parts = [encode(weights, inputs[rows]) for rows in portions]
        return torch.cat(parts)[torch.cat(portions).argsort()]

    def rest(self, weights: Weights, x: Tensor, block: int = 0) -> Tensor:
        """Features ``[N, D]`` of what enters a block ``[N, L, d]``; padding of all is cut off."""
        return super().rest(weights, x[:, : _longest(present(x)[..., 0])], block)

    def portions(self, x: Tensor) -> Sequence[Tensor]:
        """Numbers of the texts to pass at once, by length, so that little is padded."""
        there = x != PAD if x.ndim == 2 else present(x)[..., 0]
        return there.sum(1).argsort(stable=True).split(BATCH)

    def there(self, x: Tensor) -> Tensor:
        """Which tokens ``[N, L, d]`` are no padding, bool ``[N, L, 1]``."""
        return present(x)

    def embed(self, weights: Weights, inputs: Tensor) -> Tensor:
        """Tokens ``[N, L, d]`` that enter the first block."""
        longest = _longest(inputs != PAD)
        inputs = inputs[:, :longest]
        there = (inputs != PAD).unsqueeze(-1)
        words, name = weights["embeddings.word_embeddings.weight"], "embeddings."
        if words.ndim == 2:
            x = F.embedding(inputs, words)
        else:
            x = words[torch.arange(len(inputs))[:, None], inputs]
        x = x + weights[f"{name}position_embeddings.weight"][..., :longest, :]
        x = x + weights[f"{name}token_type_embeddings.weight"][..., :1, :]
        x = self.edit("embedding", x * there) * there
        return self._normed(weights, f"{name}LayerNorm.", x) * there

    def block(self, weights: Weights, block: int, x: Tensor) -> Tensor:
        """Output ``[N, L, d]`` of one block for its input ``[N, L, d]``."""
        name, there = self.prefix(block), present(x)
        keep = (lambda y: y) if there.all() else (lambda y: y * there)

        def edit(place: str, y: Tensor) -> Tensor:
            edited = self.edit(f"blocks.{block}{place}", y)
            return y if edited is y else keep(edited)

        attention = edit(".attention", keep(self._attention(weights, block, x, there)))
        x = edit(".residual", x + attention)
        x = edit(".ln_1", keep(self._normed(weights, f"{name}attention.output.LayerNorm.", x)))
        x = x + edit(".mlp", keep(self.mlp(weights, block, x)))
        x = edit(".ln_2", keep(self._normed(weights, f"{name}output.LayerNorm.", x)))
        return edit("", x)

    def attention(self, weights: Weights, block: int, x: Tensor) -> Tensor:
        """Multi-head self-attention of one block ``[N, L, d] -> [N, L, d]``."""
        return self._attention(weights, block, x, present(x))

    def _attention(self, weights: Weights, block: int, x: Tensor, there: Tensor) -> Tensor:
        name, shape = f"{self.prefix(block)}attention.", (*x.shape[:2], self.num_heads, -1)
        query, key, value = (
            self._map(weights, f"{name}self.{part}.weight", f"{name}self.{part}.bias", x)
            .view(shape).transpose(1, 2)
            for part in ("query", "key", "value")
        )  # fmt: skip
        mask = None if there.all() else there[:, None, None, :, 0]
        heads = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        joined = heads.transpose(1, 2).reshape(x.shape)
        joined = joined if mask is None else joined * there
        return self._map(weights, f"{name}output.dense.weight", f"{name}output.dense.bias", joined)

    def mlp(self, weights: Weights, block: int, x: Tensor) -> Tensor:
        """Two-layer perceptron of one block ``[N, L, d] -> [N, L, d]``."""
        weights, name = self.route(weights, block, x), self.prefix(block)
        first, second = f"{name}intermediate.dense.", f"{name}output.dense."
        hidden = F.gelu(self._map(weights, f"{first}weight", f"{first}bias", x))
        there = present(x)
        hidden = hidden if there.all() else hidden * there
        return self._map(weights, f"{second}weight", f"{second}bias", hidden)

    def readout(self, x: Tensor) -> Tensor:
        """The mean over tokens of the last block's output ``[N, L, d]``: ``[N, 1, d]``."""
        return token_mean(x, present(x))[:, None]

    def pool(self, weights: Weights, x: Tensor) -> Tensor:
        """Features ``[N, d]`` of the last block's output ``[N, L, d]``."""
        return self.edit("features", self.readout(x)[:, 0])


def _longest(there: Tensor) -> int:
    """Number of columns that are not padding in all texts, of which tokens are there ``[N, L]``."""
    return max(1, int(there.sum(1).max()))
