"""CART around any weights is CART, and grafts are made of two models."""

import numpy as np
import pytest
import torch

import mergebook as mb
from blocks import BLOCKS, SHAPES, block_experts
from comparison import assert_near
from mergebook.analysis import cart_around, graft, spectrum, subspace_profile
from mergebook.errors import ExperimentError
from mergebook.weights import Experts


@pytest.fixture(scope="module")
def experts() -> Experts:
    return block_experts()


@pytest.mark.parametrize("rank", [0.0, 0.3, 0.6, 1.0])
@pytest.mark.parametrize(
    ("method", "origin"),
    [("averaging", {"origin": "average"}), ("zero_shot", {"origin": "base"}),
     ("tsv_m", {"origin": "tsv_m"})],
)  # fmt: skip
def test_around_a_known_origin_it_is_the_registered_method(experts, rank, method, origin):
    centre = mb.merge(method, experts).state_dict()
    found = cart_around(experts, centre)(rank=rank, scale=1.7).state_dict()
    expected = mb.merge("cart", experts, rank=rank, scale=1.7, **origin).state_dict()
    for key in SHAPES:
        assert_near(found[key], expected[key] if key in BLOCKS else centre[key], 1e-11)


def test_decompositions_are_kept(experts, monkeypatch):
    from mergebook.methods import cart

    counted, directions = [], cart.directions
    monkeypatch.setattr(cart, "directions", lambda m: counted.append(1) or directions(m))
    merge = cart_around(experts, mb.merge("averaging", experts).state_dict())
    models = [merge(rank=rank, scale=scale) for rank in (0.2, 0.6) for scale in (1.0, 2.0)]
    assert len(counted) == 3 * len(BLOCKS)
    weights = [model.state_dict()[BLOCKS[0]] for model in models]
    assert all(not torch.equal(weights[0], other) for other in weights[1:])


def test_an_incomplete_centre_is_refused(experts):
    with pytest.raises(ExperimentError, match="no tensor 'transformer"):
        cart_around(experts, {"proj": experts.base["proj"]})


def trio(style, part):
    """Name of one of three tensors that are stored apart."""
    if style == "bert":
        name = {"q": "query", "k": "key", "v": "value"}[part]
        return f"encoder.layer.0.attention.self.{name}.weight"
    return f"transformer.resblocks.0.attn.{part}_proj.weight"


@pytest.mark.parametrize("style", ["bert", "clip"])
def test_query_key_and_value_may_be_stored_apart(style):
    """And are then decomposed as one matrix, as where they are stored as one."""
    stacked = "transformer.resblocks.0.attn.in_proj_weight"
    generator = torch.Generator().manual_seed(5)
    whole = [{stacked: torch.randn(12, 6, generator=generator)} for _ in range(4)]
    apart = [
        {trio(style, x): part for x, part in zip("qkv", own[stacked].chunk(3), strict=True)}
        for own in whole
    ]
    tables, merged = [], []
    for base, *others in (whole, apart):
        experts = Experts(base, dict(zip(("one", "two", "three"), others, strict=True)))
        centre = mb.merge("averaging", experts).state_dict()
        state_dict = cart_around(experts, centre)(rank=0.4, scale=1.5).state_dict()
        assert set(state_dict) == set(base)
        merged.append(torch.cat([state_dict[key] for key in base]))
        model = mb.merge("task_arithmetic", experts)
        tables.append([subspace_profile(experts, (0.3, 0.8), centre), spectrum(experts, model)])
    torch.testing.assert_close(*merged)
    for one, two in zip(*tables, strict=True):
        numbers = one.select_dtypes("number").columns
        np.testing.assert_allclose(one[numbers], two[numbers], rtol=1e-6, atol=1e-9)


def test_a_graft_takes_what_is_chosen(experts):
    cart, average = (mb.merge(name, experts) for name in ("cart", "averaging"))
    mixed = graft(cart, average, lambda name: "attn" in name).state_dict()
    for key in SHAPES:
        source = cart if "attn" in key else average
        assert torch.equal(mixed[key], source.state_dict()[key])
    assert graft(cart, average, lambda name: True).storage() == average.storage()
