"""CART around any weights is CART, and grafts are made of two models."""

import pytest
import torch

import mergebook as mb
from blocks import BLOCKS, SHAPES, block_experts, state
from comparison import assert_near
from mergebook.analysis import cart_around, graft
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
    name = "transformer.resblocks.0.attn.q_proj.weight"
    apart = [{**state(t), name: state(t)["proj"]} for t in range(3)]
    for weights in apart:
        weights |= {name.replace("q_", f"{x}_"): weights[name] for x in "kv"}
    split = Experts(apart[0], {"one": apart[1], "two": apart[2]})
    with pytest.raises(ExperimentError, match="query, key and value together"):
        cart_around(split, split.base)


def test_a_graft_takes_what_is_chosen(experts):
    cart, average = (mb.merge(name, experts) for name in ("cart", "averaging"))
    mixed = graft(cart, average, lambda name: "attn" in name).state_dict()
    for key in SHAPES:
        source = cart if "attn" in key else average
        assert torch.equal(mixed[key], source.state_dict()[key])
    assert graft(cart, average, lambda name: True).storage() == average.storage()
