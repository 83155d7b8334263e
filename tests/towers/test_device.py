"""A tower that computes elsewhere gives what it gives at home."""

import pytest
import torch

from mergebook.errors import BackboneError
from mergebook.towers import clip
from mergebook.towers.backbones import build_tower
from mergebook.towers.device import HOME, AwayTower, compute_device, placed


@pytest.fixture
def given():
    module = clip.visual_template("mini-small")
    images = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    return module.state_dict(), images


def test_the_device_is_the_processor_unless_said(monkeypatch):
    monkeypatch.delenv("MERGEBOOK_DEVICE", raising=False)
    assert compute_device() == HOME
    monkeypatch.setenv("MERGEBOOK_DEVICE", "no such device")
    with pytest.raises(BackboneError, match="MERGEBOOK_DEVICE is 'no such device'"):
        compute_device()
    if not torch.cuda.is_available():
        monkeypatch.setenv("MERGEBOOK_DEVICE", "cuda")
        with pytest.raises(BackboneError, match="MERGEBOOK_DEVICE is 'cuda'"):
            build_tower("mini-small")


def test_every_way_through_the_tower_is_the_same(given):
    weights, images = given
    home = build_tower("mini-small")
    away = AwayTower(home, HOME)
    wanted, x = home(weights, images), home.embed(weights, images)
    assert torch.equal(away(weights, images), wanted)
    assert torch.equal(away.embed(weights, images), x)
    assert torch.equal(away.block(weights, 2, x), home.block(weights, 2, x))
    assert torch.equal(away.rest(weights, x, 3), home.rest(weights, x, 3))
    assert torch.equal(away.pool(weights, x), home.pool(weights, x))
    assert torch.equal(away.encoder(weights)(images), wanted)
    assert (away.num_blocks, away.width, away.role("proj")) == (6, home.width, "projection")


def test_edits_are_seen_at_home_and_other_hooks_stay_there(given):
    weights, images = given
    devices, home = set(), build_tower("mini-small")

    def edit(place, x):
        devices.add(x.device)
        return 2 * x if place == "blocks.1.attention" else x

    away = AwayTower(home, HOME).with_hooks(edit=edit)
    assert isinstance(away, AwayTower) and not away.plain
    assert torch.equal(away(weights, images), home.with_hooks(edit=edit)(weights, images))
    assert devices == {HOME}
    linear = lambda key, x, weight, bias: torch.nn.functional.linear(x, weight, bias)  # noqa: E731
    assert not isinstance(AwayTower(home, HOME).with_hooks(linear=linear), AwayTower)


def test_gradients_come_home(given):
    weights, images = given
    name = "transformer.resblocks.3.attn.in_proj_weight"
    slopes = []
    for tower in (build_tower("mini-small"), AwayTower(build_tower("mini-small"), HOME)):
        leaf = weights[name].clone().requires_grad_()
        tower({**weights, name: leaf}, images).square().sum().backward()
        slopes.append(leaf.grad)
    assert torch.equal(*slopes) and slopes[0].any()


def test_only_encoders_of_weights_alone_are_moved(given):
    weights, _ = given
    meta = torch.device("meta")  # where nothing is computed: it shows what was moved
    plain = build_tower("mini-small").encoder(weights)
    assert next(placed(plain, meta).parameters()).device == meta
    edited = build_tower("mini-small", edit=lambda place, x: x).encoder(weights)
    assert next(placed(edited, meta).parameters()).device == HOME
    assert placed(torch.nn.Identity(), meta) is not None
