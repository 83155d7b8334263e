"""Statistics of masks, by hand and by counting."""

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import mergebook as mb
from mergebook.analysis import agreement, categories, distance_to_experts, mask_use, overlap
from mergebook.analysis.masks import kind_of
from mergebook.errors import ExperimentError
from mergebook.weights import Experts, Masks
from mergebook.weights.masks import pack_rows
from strategies import cases, reals


def masks_of(**tensors):
    rows = {key: torch.tensor(value, dtype=torch.bool) for key, value in tensors.items()}
    tasks = tuple("abcdef"[: len(next(iter(rows.values())))])
    packed = {key: pack_rows(row) for key, row in rows.items()}
    return Masks(tasks, packed, {key: tuple(row.shape[1:]) for key, row in rows.items()})


@pytest.mark.parametrize(
    ("name", "kind"),
    {
        "transformer.resblocks.0.attn.in_proj_weight": "attention",
        "transformer.resblocks.11.mlp.c_fc.bias": "MLP",
        "transformer.resblocks.3.ln_1.weight": "LayerNorm",
        "vision_model.encoder.layers.0.layer_norm1.weight": "LayerNorm",
        "encoder.layer.0.attention.self.value.bias": "attention",
        "encoder.layer.0.attention.output.dense.weight": "attention",
        "encoder.layer.0.attention.output.LayerNorm.weight": "LayerNorm",
        "encoder.layer.0.output.dense.weight": "MLP",
        "embeddings.word_embeddings.weight": "embedding and projection",
        "conv1.weight": "embedding and projection",
        "proj": "embedding and projection",
    }.items(),
)
def test_kinds_of_layers(name, kind):
    assert kind_of(name) == kind


def test_use_by_tensor():
    masks = masks_of(**{"blocks.2.mlp.w": [[1, 1, 0, 0], [0, 0, 0, 1]], "proj": [[0], [1]]})
    use = mask_use(masks).set_index(["task", "tensor"])
    assert use["used"].unstack("tensor").loc["a"].to_dict() == {"blocks.2.mlp.w": 2, "proj": 0}
    assert use["used"].unstack("tensor").loc["b"].to_dict() == {"blocks.2.mlp.w": 1, "proj": 1}
    assert use.loc[("a", "blocks.2.mlp.w")][["kind", "block", "entries"]].tolist() == ["MLP", 2, 4]
    assert use.loc[("b", "proj"), "block"] == -1
    for task in masks.tasks:
        part = use.xs(task)
        assert part["used"].sum() / part["entries"].sum() == masks.density(task)


@pytest.mark.parametrize("method", ["tall_ta", "tall_ties"])
@given(data=st.data())
def test_agreement_is_a_count_of_votes(method, data):
    experts = data.draw(cases(elements=reals)).load()
    model = mb.merge(method, experts, threshold=data.draw(st.sampled_from([0.3, 1.0])))
    if not model.masks.num_entries:
        with pytest.raises(ExperimentError, match="no expert differs"):
            agreement(model)
        return
    votes = {"used": [], "unused": []}
    for key, vector in model.vector.items():
        stack = np.stack([model.masks.mask(task, key).numpy() for task in model.tasks])
        for place in np.ndindex(*vector.shape):
            count = sum(map(bool, stack[(slice(None), *place)]))
            votes["used"].append(count)
            votes["unused"].append(count if vector[place] != 0 else 0)
    for zeros, counts in votes.items():
        shares = agreement(model, zeros)
        assert shares.index.tolist() == list(range(len(model.tasks) + 1))
        for k, share in shares.items():
            assert share == counts.count(k) / len(counts)


def test_ties_claims_what_it_has_removed():
    base = {"w": torch.zeros(10)}
    one = {"w": torch.arange(1.0, 11)}
    experts = Experts(base, {"one": one, "two": {"w": -0.5 * one["w"].flip(0)}})
    model = mb.merge("tall_ties", experts, density=0.2, threshold=0.5, keep="k")
    zero = float((model.vector["w"] == 0).double().mean())
    assert zero == pytest.approx(0.6)
    assert agreement(model)[2] >= zero
    assert agreement(model, "unused")[0] >= zero
    with pytest.raises(ExperimentError, match="reading of zeros"):
        agreement(model, "ignored")


def test_categories():
    found = categories(pd.Series([0.1, 0.2, 0.3, 0.4]))
    assert found.round(9).to_dict() == {
        "catastrophic": 0.1, "selfish": 0.2, "general": 0.7, "universal": 0.4
    }  # fmt: skip
    with pytest.raises(ExperimentError, match="at least two tasks"):
        categories(pd.Series([0.5, 0.5]))


def test_overlap_by_hand_and_by_chance():
    one = masks_of(w=[[1, 1, 0, 0], [1, 1, 1, 1]], v=[[1, 0], [0, 0]])
    other = masks_of(w=[[1, 0, 1, 0], [0, 0, 0, 0]], v=[[1, 0], [0, 0]])
    found = overlap(one, other)
    # Both: one entry of w and one of v; either: three and one. By chance 2 * 2 / 4 + 1 / 2 in both.
    # With the other task's: nothing of three; and two of w, nothing of v, of five.
    assert found.loc["a"].tolist() == pytest.approx([2 / 4, 1.5 / (6 - 1.5), 0 / 3])
    assert found.loc["b"].tolist() == pytest.approx([0, 0, 2 / 5])
    assert overlap(one, one)["jaccard"].tolist() == [1, 1]
    assert overlap(one, one)["other_tasks"].tolist() == pytest.approx([2 / 5, 2 / 5])
    single = masks_of(w=[[1, 1, 0, 0]], v=[[1, 0]])
    assert np.isnan(overlap(single, single).loc["a", "other_tasks"])
    with pytest.raises(ExperimentError, match="no task in common"):
        overlap(one, masks_of(w=[[1, 1, 0, 0]]))


def test_chance_is_what_shuffling_gives_on_average():
    rng = np.random.default_rng(0)
    rows = rng.random((1, 400)) < 0.4
    fixed = masks_of(w=rows.tolist())
    drawn = [overlap(fixed, masks_of(w=rng.permuted(rows, axis=1).tolist())) for _ in range(200)]
    mean = np.mean([found.loc["a", "jaccard"] for found in drawn])
    assert mean == pytest.approx(drawn[0].loc["a", "chance"], abs=0.005)


def test_a_shuffled_consensus_keeps_as_many_entries_of_each_tensor():
    generator = torch.Generator().manual_seed(0)
    base = {"v": torch.zeros(50, 4), "w": torch.zeros(30)}
    experts = Experts(
        base,
        {t: {k: torch.randn(v.shape, generator=generator) for k, v in base.items()} for t in "ab"},
    )
    for name in ("consensus_ta", "consensus_ties"):
        own = mb.merge(name, experts, scale=1.0).state_dict()
        mixed = [
            mb.merge(name, experts, scale=1.0, shuffled=True, seed=s).state_dict() for s in (0, 1)
        ]
        plain = mb.merge(name, experts, scale=1.0, k=0).state_dict()
        places = [own, *mixed]
        for key in base:
            if name == "consensus_ta":  # its sum is nowhere zero
                assert len({int(state[key].count_nonzero()) for state in places}) == 1
            for state in places:
                kept = state[key] != 0
                assert torch.equal(state[key][kept], plain[key][kept])
        assert not torch.equal(mixed[0]["v"], mixed[1]["v"])
        assert not torch.equal(mixed[0]["v"], own["v"])


def test_distance_to_experts_by_hand():
    base = {"v": torch.zeros(3), "w": torch.ones(2)}
    one = {"v": torch.tensor([1.0, 0, -2]), "w": torch.tensor([1.0, 2])}
    experts = Experts(base, {"one": one, "idle": base})
    vector = {"v": torch.tensor([2.0, 1, 1]), "w": torch.tensor([0.0, 3])}
    masks = masks_of(v=[[1, 0, 0], [0, 0, 0]], w=[[1, 1], [0, 0]])
    masks = Masks(("one", "idle"), masks.packed, masks.shapes)
    model = mb.merge("tall_ta", experts)
    model = type(model)(experts.sizes, experts.base, vector, masks)
    # v: 2, 0 and 0 stand for 1, 0 and -2; w: 0 and 3 for 0 and 1: away by 5 of a length of 4.
    assert distance_to_experts(model, experts).to_dict() == {"one": 5 / 4}
