"""Encoders that are not ours: open_clip's image tower, and BERT of transformers."""

from __future__ import annotations

import torch

from mergebook.towers import clip
from mergebook.towers.minilm import minilm_folder

WORDS = "embeddings.word_embeddings.weight"  # a tensor that text encoders have
THREE = ("query", "key", "value")  # attention's maps, which BERT stores apart
TRIO = "[qkv]"


def stacked(values, join):
    """Values by name, with those of BERT's query, key and value joined."""
    found = {}
    for name, value in values.items():
        if name.endswith("query.weight"):
            trio = [values[name.replace("query", each)] for each in THREE]
            found[name.replace("query", TRIO)] = join(trio)
        elif not name.endswith(("key.weight", "value.weight")):
            found[name] = value
    return found


def unstacked(weights):
    """Undo :func:`stacked`, of tensors."""
    found = {}
    for name, value in weights.items():
        if TRIO in name:
            parts = zip(THREE, value.chunk(3), strict=True)
            found |= {name.replace(TRIO, each): part for each, part in parts}
        else:
            found[name] = value
    return found


def encoder(weights, backbone="mini-small"):
    """A module with these weights, that maps inputs to features; its tensors have their names."""
    return text_encoder(weights) if WORDS in weights else clip.visual_encoder(backbone, weights)


def blocks_of(net):
    """The blocks of an encoder."""
    return net.transformer.resblocks if hasattr(net, "transformer") else net.encoder.layer


def text_encoder(weights):
    """BERT, one text at a time and without padding, then the mean over tokens."""
    import transformers

    class MeanBert(transformers.BertModel):
        def forward(self, texts):
            rows = []
            for text in texts:
                tokens = text[: int((text != 0).sum())][None]
                rows.append(super().forward(input_ids=tokens).last_hidden_state.mean(1))
            return torch.cat(rows)

    config = transformers.BertConfig.from_pretrained(minilm_folder(), attn_implementation="eager")
    net = MeanBert(config).eval()
    missing, extra = net.load_state_dict(
        {key: value for key, value in weights.items() if "position_ids" not in key}, strict=False
    )
    assert not extra and set(missing) <= {"pooler.dense.weight", "pooler.dense.bias"}
    return net
