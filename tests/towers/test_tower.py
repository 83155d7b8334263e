"""The functional image tower against open_clip's modules."""

import pytest
import torch

from mergebook.towers import clip
from mergebook.towers.backbones import build_tower

BACKBONES = ("mini-small", "ViT-B-32")
ENDS = (".ln_1", ".attention", ".residual", ".ln_2", ".mlp", "")  # of the places in a block


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
        got = build_tower(name)(module.state_dict(), x)
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
    tower = build_tower("mini-small", linear=linear, edit=edit)
    tower(state, images(module, 3))
    matrices = {key for key, value in state.items() if value.ndim == 2}
    assert set(seen) == matrices - {"positional_embedding"} | {"conv1.weight"}
    for key, (x, weight) in seen.items():
        shape = tuple(state[key].flatten(1).shape)
        assert weight == (shape[::-1] if key == "proj" else shape)
        assert x[0] == 3 and x[-1] == weight[1]
    parts = [f"blocks.{b}{end}" for b in range(6) for end in ENDS]
    assert places == ["embedding", *parts, "features"]


def test_places_have_what_open_clip_computes_there(visual):
    name, module = visual
    x, number = images(module), 3
    block, seen, expected = module.transformer.resblocks[number], {}, {}

    def keep(end, value):
        expected[f"blocks.{number}{end}"] = value[0] if isinstance(value, tuple) else value

    hooks = [
        part.register_forward_hook(lambda _, given, got, end=end: keep(end, got))
        for end, part in ((".ln_1", block.ln_1), (".attention", block.attn), ("", block))
    ] + [
        block.ln_2.register_forward_hook(lambda _, given, got: keep(".residual", given[0])),
        block.ln_2.register_forward_hook(lambda _, given, got: keep(".ln_2", got)),
        block.mlp.register_forward_hook(lambda _, given, got: keep(".mlp", got)),
    ]
    tower = build_tower(name, edit=lambda place, y: seen.setdefault(place, y))
    with torch.inference_mode():
        module(x)
        tower(module.state_dict(), x)
    for hook in hooks:
        hook.remove()
    assert set(expected) == {f"blocks.{number}{end}" for end in ENDS}
    for place, value in expected.items():
        torch.testing.assert_close(seen[place], value, rtol=1e-3, atol=1e-4)


def test_the_rest_of_a_tower_starts_at_any_block():
    module = clip.visual_template("mini-small")
    state, x = module.state_dict(), images(module)
    entered = {}
    tower = build_tower("mini-small", edit=lambda place, y: entered.setdefault(place, y))
    wanted = tower(state, x)
    assert tower.num_tokens == 17
    assert torch.equal(tower.rest(state, tower.embed(state, x)), wanted)
    for block in range(1, 7):
        assert torch.equal(tower.rest(state, entered[f"blocks.{block - 1}"], block), wanted)


def test_an_edit_reaches_the_features():
    module = clip.visual_template("mini-small")
    state, x = module.state_dict(), images(module)
    plain = build_tower("mini-small")
    for place in (*(f"blocks.2{end}" for end in ENDS), "features"):
        negated = plain.with_hooks(edit=lambda p, y, place=place: -y if p == place else y)
        change = negated(state, x) - plain(state, x)
        assert change.norm() > 0.1 * plain(state, x).norm(), place
    # A LayerNorm follows every place of a block: the same number added to all channels is lost.
    shifted = plain.with_hooks(edit=lambda p, y: y + (p == "blocks.2.attention"))
    torch.testing.assert_close(shifted(state, x), plain(state, x), rtol=1e-3, atol=1e-3)


def test_a_gradient_reaches_a_weight():
    module = clip.visual_template("mini-small")
    state, x = module.state_dict(), images(module)
    plain = build_tower("mini-small")
    name = "transformer.resblocks.3.attn.in_proj_weight"
    weight = state[name].clone().requires_grad_()
    plain({**state, name: weight}, x).sum().backward()
    assert weight.grad.abs().sum() > 0
    assert torch.equal(plain.encoder(state)(x), plain(state, x))
