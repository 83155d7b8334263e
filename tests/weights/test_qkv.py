"""Query, key and value, stacked or apart."""

import pytest
import torch

from mergebook.weights import Experts, save_checkpoint
from mergebook.weights.qkv import Arranged, named_like

BERT = {"q": "query", "k": "key", "v": "value"}


def state(stacked: bool, seed: int = 0, bert: bool = False) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    parts = {x: torch.randn(4, 4, generator=generator) for x in "qkv"}
    bias = torch.randn(12, generator=generator)
    if stacked:
        return {"attn.in_proj_weight": torch.cat(list(parts.values())), "attn.in_proj_bias": bias}
    if bert:
        return {f"self.{BERT[x]}.weight": part for x, part in parts.items()} | {"bias": bias}
    return {f"attn.{x}_proj.weight": part for x, part in parts.items()} | {"bias": bias}


@pytest.mark.parametrize("in_file", [False, True])
@pytest.mark.parametrize("kind", ["stacked", "apart", "bert"])
def test_all_sorts_of_checkpoints_show_both_arrangements(kind, in_file, tmp_path):
    stored = state(kind == "stacked", bert=kind == "bert")
    source = save_checkpoint(stored, tmp_path / "a.safetensors") if in_file else stored
    if in_file:
        source = Experts(source, {"a": source}).base
    fused, split = Arranged(source, "fused"), Arranged(source, "split")
    matrices = [key for key in fused if fused[key].ndim == 2]
    assert [fused.shape(key) for key in matrices] == [(12, 4)]
    thirds = sorted(key for key in split if split[key].ndim == 2)
    assert [split.shape(key) for key in thirds] == [(4, 4)] * 3
    whole = state(True)["attn.in_proj_weight"]
    assert torch.equal(fused[matrices[0]], whole)
    by_letter = {
        x: split[key]
        for x in "qkv"
        for key in thirds
        if f"[{x}]" in key or f"{x}_" in key or f".{BERT[x]}." in key
    }
    for number, x in enumerate("qkv"):
        assert torch.equal(by_letter[x], whole[4 * number : 4 * number + 4])
    for view in (fused, split):
        again = named_like({key: view[key] for key in view}, source)
        assert list(again) == list(source)
        assert all(torch.equal(again[key], stored[key]) for key in stored)
        assert all(view.dtype(key) == torch.float32 for key in view)


def test_experts_arranged_have_the_same_entries():
    base, one = state(True), state(True, 1)
    experts = Experts(base, {"one": one}, frozen_extra=5, entries="stored", backbone="ViT-B-32")
    split = experts.arranged("split")
    assert split.num_entries == experts.num_entries
    assert split.sizes == experts.sizes
    assert (split.backbone, split.entries) == ("ViT-B-32", "stored")
    assert split.trained == ("attn.in_proj_bias", *(f"attn.in_proj_weight[{x}]" for x in "kqv"))
    assert torch.equal(
        split.layer("attn.in_proj_weight[k]").deltas[0],
        (one["attn.in_proj_weight"] - base["attn.in_proj_weight"])[4:8],
    )


def test_what_is_no_stack_stays():
    odd = {
        "in_proj_weight": torch.zeros(4, 2),
        "q_proj.weight": torch.zeros(2, 2),
        "v": torch.zeros(3),
    }
    assert list(Arranged(odd, "split")) == list(odd)
    assert list(Arranged(odd, "fused")) == list(odd)


@pytest.mark.parametrize(
    "shapes",
    [((2, 2), (2, 2), (2, 3)), ((2,), (2,), (2,)), ((2, 2, 1), (2, 2, 1), (2, 2, 1))],
    ids=["of other widths", "vectors", "of three axes"],
)
def test_three_that_are_no_matrices_of_one_width_stay_apart(shapes):
    pairs = zip("qkv", shapes, strict=True)
    three = {f"{x}_proj.weight": torch.zeros(shape) for x, shape in pairs}
    assert list(Arranged(three, "fused")) == list(three)
