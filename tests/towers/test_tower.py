"""The functional image tower against open_clip's modules."""

import pytest
import torch

from mergebook.towers import clip
from mergebook.towers.tower import Tower

BACKBONES = ("mini-small", "ViT-B-32")


@pytest.fixture(scope="module", params=BACKBONES)
def visual(request):
    return request.param, clip.visual_template(request.param)


def images(visual, number=2):
    size = visual.image_size[0]
    return torch.randn(number, 3, size, size, generator=torch.Generator().manual_seed(0))


def test_equals_open_clip_on_random_weights(visual):
    name, module = visual
    x = images(module)
    with torch.inference_mode():
        expected = module(x)
        got = Tower(name)(module.state_dict(), x)
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)


def test_every_matrix_is_one_linear_map_and_every_place_is_offered():
    module = clip.visual_template("mini-small")
    seen, places = {}, []

    def linear(key, x, weight, bias):
        seen[key] = (tuple(x.shape), tuple(weight.shape))
        return torch.nn.functional.linear(x, weight, bias)

    def edit(place, x):
        places.append(place)
        return x

    state = module.state_dict()
    tower = Tower("mini-small", linear, edit)
    tower(state, images(module, 3))
    matrices = {key for key, value in state.items() if value.ndim == 2}
    assert set(seen) == matrices - {"positional_embedding"}
    for key, (x, weight) in seen.items():
        shape = tuple(state[key].shape)
        assert weight == (shape[::-1] if key == "proj" else shape)
        assert x[0] == 3 and x[-1] == weight[1]
    parts = [f"blocks.{b}{part}" for b in range(6) for part in (".attention", ".mlp", "")]
    assert places == [*parts, "features"]


def test_an_edit_reaches_the_features():
    module = clip.visual_template("mini-small")
    state, x = module.state_dict(), images(module)
    plain = Tower("mini-small")
    for place in ("blocks.2.attention", "blocks.2.mlp", "blocks.2", "features"):
        negated = plain.with_hooks(edit=lambda p, y, place=place: -y if p == place else y)
        change = negated(state, x) - plain(state, x)
        assert change.norm() > 0.1 * plain(state, x).norm(), place
    # A LayerNorm follows every place of a block: the same number added to all channels is lost.
    shifted = plain.with_hooks(edit=lambda p, y: y + (p == "blocks.2.attention"))
    torch.testing.assert_close(shifted(state, x), plain(state, x), rtol=1e-3, atol=1e-3)


def test_a_gradient_reaches_a_weight():
    module = clip.visual_template("mini-small")
    state, x = module.state_dict(), images(module)
    plain = Tower("mini-small")
    name = "transformer.resblocks.3.attn.in_proj_weight"
    weight = state[name].clone().requires_grad_()
    plain({**state, name: weight}, x).sum().backward()
    assert weight.grad.abs().sum() > 0
    assert torch.equal(plain.encoder(state)(x), plain(state, x))
