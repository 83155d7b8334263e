"""Mixed towers and routers: exact cases, sizes, what a batch changes, and what is refused."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import mergebook as mb
from comparison import assert_near
from mergebook.errors import MethodError, ParameterError
from mergebook.merged import RoutedModel
from mergebook.registry import Learning
from mergebook.routing.block_routers import draw_routers
from mergebook.routing.classifier import train_router
from mergebook.routing.e_wemoe import largest
from mergebook.towers import clip, routers
from mergebook.towers.backbones import build_tower
from mergebook.towers.mixed import MixedEncoder, Mixture, Parts, mixed_tower
from mergebook.towers.routers import routed_by
from mergebook.weights import Experts, sum_tasks
from oracles.routing import se_features
from strategies import clones

NAMES = ("auto_switch", "twin_merging", "wemoe", "e_wemoe", "se_merging")
TRAINED = ("twin_merging", "wemoe", "e_wemoe")


def run(name, experts, calibration, **params) -> RoutedModel:
    if name in TRAINED:
        params = {"steps": 1, **params}
    if name == "auto_switch":
        params = {"neighbours": 3, **params}
    return mb.merge(name, experts, calibration, **params)


def encode(merged, images) -> torch.Tensor:
    with torch.inference_mode():
        return merged.encoder()(images)


def tower(weights, images) -> torch.Tensor:
    with torch.inference_mode():
        return build_tower("mini-small")(weights, images)


# ------------------------------------------------------------------ mixing


def test_a_mixed_tower_gives_each_image_its_own_weights(base, states, calibration):
    images = calibration.inputs["one"]
    vectors = {k: torch.stack([states[t][k] - base[k] for t in states]) for k in base}
    rows = torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 0, 0], [0.5, 0.2, 0.1], [-1, 0, 2], [0, 0, 1]])
    with torch.inference_mode():
        got = mixed_tower("mini-small")(Mixture(base, vectors, rows), images)
    for image, row, features in zip(images, rows, got, strict=True):
        own = {k: base[k] + sum(w * v for w, v in zip(row, vectors[k], strict=True)) for k in base}
        assert_near(features[None], tower(own, image[None]), 2e-5)


@pytest.mark.parametrize("backbone", ("mini-small", "ViT-B-32"))
def test_a_mixed_tower_is_the_tower_where_nothing_is_mixed(backbone):
    visual = clip.visual_template(backbone)
    size = visual.image_size[0]
    images = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        assert_near(mixed_tower(backbone)(visual.state_dict(), images), visual(images), 2e-5)


@pytest.mark.parametrize("shape", ((), (3,), (2, 0), (2, 3, 1, 2)))
@pytest.mark.parametrize("lead", ((), (4,)))
def test_a_mixture_of_any_shape(shape, lead):
    generator = torch.Generator().manual_seed(0)
    origin, vectors, weights = (
        torch.randn(size, generator=generator) for size in (shape, (5, *shape), (*lead, 5))
    )
    got = Mixture({"w": origin, "kept": origin}, {"w": vectors}, weights)
    wanted = origin.numpy() + np.tensordot(weights.numpy(), vectors.numpy(), 1)
    assert got["w"].shape == (*lead, *shape)
    np.testing.assert_allclose(got["w"].numpy(), wanted, rtol=1e-5, atol=1e-5)
    assert got["kept"] is origin


def test_some_tensors_mixed_and_others_not(base, states, calibration):
    images = calibration.inputs["two"]
    for chosen in ("bias", "weight", "proj", "embedding"):
        vectors = {k: (states["one"][k] - base[k])[None] for k in base if chosen in k}
        rows = torch.tensor([[1.0], [0], [1], [0], [0], [1]])
        with torch.inference_mode():
            got = mixed_tower("mini-small")(Mixture(base, vectors, rows), images)
        own = {**base, **{key: states["one"][key] for key in vectors}}
        for image, row, features in zip(images, rows, got, strict=True):
            assert_near(features[None], tower(own if row else base, image[None]), 2e-5)


def test_chunks_do_not_change_the_result(base, states, calibration, monkeypatch):
    images = calibration.inputs["one"]
    vectors = {k: torch.stack([states[t][k] - base[k] for t in states]) for k in base}
    parts = Parts("mini-small", base, vectors, {}, {}, 3)
    rows = torch.rand(6, 3, generator=torch.Generator().manual_seed(0))
    encoder = MixedEncoder(parts, lambda encoder, images: rows)
    assert parts.chunk > 6
    with torch.inference_mode():
        whole = encoder(images)
        monkeypatch.setattr("mergebook.towers.mixed.LARGEST", 4 * 96 * 96)
        assert parts.chunk == 1
        assert_near(encoder(images), whole, 2e-5)


def test_equal_rows_are_mixed_once(base, states, calibration, monkeypatch):
    vectors = {k: (states["one"][k] - base[k])[None] for k in base}
    encoder = MixedEncoder(Parts("mini-small", base, vectors, {}, {}, 1), None)
    seen = []
    original = Mixture.__getitem__

    def watched(self, key):
        seen.append(original(self, key).ndim - self.origin[key].ndim)
        return original(self, key)

    monkeypatch.setattr(Mixture, "__getitem__", watched)
    with torch.inference_mode():
        got = encoder.features(calibration.inputs["one"], torch.ones(6, 1))
        assert set(seen) == {0}
        encoder.features(calibration.inputs["one"], torch.arange(6.0)[:, None])
    assert set(seen) == {0, 1}
    assert_near(got, tower(states["one"], calibration.inputs["one"]), 2e-5)


# ------------------------------------------------------------------ what holds for all


@pytest.mark.parametrize("name", NAMES)
def test_the_task_only_chooses_the_head(name, experts, calibration):
    merged = run(name, experts, calibration)
    assert isinstance(merged, RoutedModel)
    encoder = merged.encoder()
    assert all(merged.encoder(task) is encoder for task in merged.tasks)
    assert all(merged.head(task) is None for task in merged.tasks)
    with pytest.raises(MethodError, match="unknown task 'four'"):
        merged.encoder("four")


@pytest.mark.parametrize("name", NAMES)
def test_weights_without_an_image(name, experts, calibration):
    merged = run(name, experts, calibration, **({} if name == "auto_switch" else {"scale": 0.2}))
    if name in ("auto_switch", "wemoe", "e_wemoe"):
        with pytest.raises(MethodError, match=r"depend on the image: use encoder\(\)"):
            merged.state_dict("one")
        return
    static = mb.merge("task_arithmetic", experts, scale=0.2).state_dict()
    for key, value in merged.state_dict("one").items():
        torch.testing.assert_close(value, static[key], rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", (torch.float64, torch.bfloat16, torch.float16))
def test_other_types(name, dtype, base, states, calibration):
    cast = {k: v.to(dtype) for k, v in base.items()}
    few = {t: {k: v.to(dtype) for k, v in states[t].items()} for t in ("one", "two")}
    experts = Experts(cast, few, backbone="mini-small")
    features = encode(run(name, experts, calibration), calibration.inputs["one"])
    assert features.dtype == torch.float32
    assert features.isfinite().all()


@pytest.mark.parametrize("name", NAMES)
def test_experts_equal_to_the_base_give_the_base(name, base, calibration):
    experts = Experts(base, {"one": clones(base), "two": clones(base)}, backbone="mini-small")
    merged = run(name, experts, calibration)
    images = calibration.inputs["one"]
    assert_near(encode(merged, images), tower(base, images), 2e-5)
    weights = 32 * sum(value.numel() for value in base.values())
    router = {part.name: part.count * part.bits for part in merged.storage().parts}
    assert merged.storage().bits == weights + router.get("router", 0)


@pytest.mark.parametrize("name", NAMES)
def test_one_expert(name, base, states, calibration):
    experts = Experts(base, {"one": states["one"]}, backbone="mini-small")
    merged = run(name, experts, calibration)
    assert encode(merged, calibration.inputs["one"]).isfinite().all()


@pytest.mark.parametrize("name", NAMES)
def test_a_saved_router_decides_as_before(name, experts, calibration, tmp_path):
    merged = run(name, experts, calibration)
    again = mb.load_merged(merged.save(tmp_path / "routed.safetensors"))
    images = calibration.inputs["three"]
    assert torch.equal(encode(merged, images), encode(again, images))
    assert again.storage() == merged.storage()
    assert (again.settings, again.router) == (merged.settings, merged.router)
    assert again.recipe["method"] == name
    twice = mb.load_merged(again.save(tmp_path / "again.safetensors"))
    assert torch.equal(encode(twice, images), encode(again, images))


def test_a_router_that_nobody_knows(experts, calibration, tmp_path):
    merged = mb.merge("se_merging", experts)
    merged.router = "oracle"
    loaded = mb.load_merged(merged.save(tmp_path / "m.safetensors"))
    with pytest.raises(MethodError, match="unknown router 'oracle'"):
        loaded.encoder()


def test_the_backbone_must_be_known(experts):
    merged = mb.merge("se_merging", experts)
    merged.backbone = None
    with pytest.raises(MethodError, match="backbone is not known"):
        merged.encoder()


# ------------------------------------------------------------------ Auto-Switch


def test_images_of_the_query_set_find_their_task_switch(experts, calibration):
    """With one neighbour, an image that is in the query set gets its own task's model, exactly."""
    merged = mb.merge("auto_switch", experts, calibration, neighbours=1)
    switched = mb.merge("t_switch", experts)
    for task, images in calibration.inputs.items():
        assert_near(encode(merged, images), tower(switched.state_dict(task), images), 2e-5)


def test_a_batch_outvotes_single_images(experts, calibration):
    images = torch.cat([calibration.inputs["one"], calibration.inputs["two"]])
    alone = mb.merge("auto_switch", experts, calibration, neighbours=1)
    together = mb.merge("auto_switch", experts, calibration, neighbours=1, route="batch")
    one_by_one = torch.cat([encode(together, image[None]) for image in images])
    assert_near(one_by_one, encode(alone, images), 2e-5)
    switched = mb.merge("t_switch", experts)
    one, two = (switched.state_dict(task) for task in ("one", "two"))
    half = {key: (one[key] + two[key]) / 2 for key in one}
    assert_near(encode(together, images), tower(half, images), 2e-5)


@given(st.integers(0, 2**32 - 1), st.integers(1, 5), st.integers(1, 12))
def test_neighbours_vote(seed, num_tasks, neighbours):
    rng = np.random.default_rng(seed)
    queries = rng.integers(-2, 3, (12, 2)) / 2  # many equal distances
    owner = np.sort(rng.integers(0, num_tasks, 12))
    features = rng.integers(-2, 3, (5, 2)) / 2
    got = routers.neighbour_shares(
        torch.tensor(features), torch.tensor(queries), torch.tensor(owner), num_tasks, neighbours
    )
    for row, point in zip(got, features, strict=True):
        order = sorted(range(12), key=lambda i: ((queries[i] - point) ** 2).sum())
        votes = [int(owner[i]) for i in order[:neighbours]]
        wanted = [votes.count(task) / neighbours for task in range(num_tasks)]
        np.testing.assert_allclose(row.numpy(), wanted, atol=1e-12)


def test_query_set_and_storage(experts, calibration):
    merged = mb.merge("auto_switch", experts, calibration, neighbours=2, num_images=4)
    assert merged.settings["counts"] == [4, 4, 4]
    assert merged.numbers["queries"].shape == (12, 64)
    inner = mb.merge("t_switch", experts).storage()
    assert merged.storage().bits == inner.bits + 32 * 12 * 64
    assert merged.storage().expression == f"{inner.expression} + 32R"
    for number, task in enumerate(calibration.tasks):
        expected = tower(experts.base, calibration.inputs[task][:4])
        assert_near(merged.numbers["queries"][4 * number : 4 * number + 4], expected, 2e-5)


def test_more_neighbours_than_queries(experts, calibration):
    with pytest.raises(ParameterError, match="neighbours=19, but the query set has 18 images"):
        mb.merge("auto_switch", experts, calibration, neighbours=19)


def test_a_routing_that_is_neither(experts, calibration):
    with pytest.raises(ParameterError, match="route='task' is not one of 'image', 'batch'"):
        mb.merge("auto_switch", experts, calibration, route="task")
    rows = torch.tensor([[1.0, 0], [0, 1], [0, 1], [0, 1]])
    assert routed_by("image", rows) is rows
    assert routed_by("batch", rows).tolist() == [[0.25, 0.75]] * 4


# ------------------------------------------------------------------ Twin-Merging


def test_a_certain_router_and_full_rank_give_the_expert_back(experts, calibration):
    merged = mb.merge("twin_merging", experts, calibration, rank=1.0, steps=0)
    numbers = {key: value.clone() for key, value in merged.numbers.items()}
    numbers["weight3"].zero_()
    for number, task in enumerate(experts.tasks):
        numbers["bias3"] = torch.full((3,), -100.0).index_fill(0, torch.tensor(number), 100.0)
        sure = RoutedModel(
            merged.sizes, merged.inner, merged.router, merged.settings, numbers, merged.own_origin
        )
        sure.backbone = "mini-small"
        images = calibration.inputs[task]
        assert_near(encode(sure, images), tower(experts.expert(task), images), 2e-5)


def test_the_router_learns_which_task_an_image_is_of():
    generator = torch.Generator().manual_seed(0)
    owner = torch.arange(4).repeat_interleave(30)
    features = 0.5 * torch.randn(120, 8, generator=generator) + 2 * torch.eye(8)[owner]
    learning = Learning(steps=60, lr=5e-3, batch_size=40)
    numbers = train_router(features, owner, 4, learning)
    fresh = 0.5 * torch.randn(120, 8, generator=generator) + 2 * torch.eye(8)[owner]
    found = routers.router_logits(fresh, numbers).argmax(1)
    assert (found == owner).double().mean() > 0.9
    again = train_router(features, owner, 4, learning)
    assert all(torch.equal(again[key], value) for key, value in numbers.items())


def test_a_router_can_learn_from_a_single_image():
    owner, learning = torch.zeros(1, dtype=torch.int64), Learning(steps=2, lr=1e-3, batch_size=4)
    numbers = train_router(torch.ones(1, 3), owner, 1, learning)
    assert all(value.isfinite().all() for value in numbers.values())


def test_twin_storage(experts, calibration):
    merged = mb.merge("twin_merging", experts, calibration, steps=0)
    shapes = {key: tuple(experts.base[key].shape) for key in experts.trained}
    factored = {key: shape for key, shape in shapes.items() if len(shape) == 2}
    whole = sum(np.prod(shape) for key, shape in shapes.items() if key not in factored)
    factors = sum(max(1, min(s) // 10) * (sum(s) + 1) for s in factored.values())
    router = 64 * 128 + 128 + 128 * 128 + 128 + 128 * 3 + 3 + 2 * 4 * 128
    origins = sum(np.prod(shape) for shape in factored.values())
    numbers = origins + 3 * factors + 4 * whole + experts.num_frozen + router
    assert merged.storage().bits == 32 * numbers
    assert merged.storage().expression == "32(L+F+T(P'-L)+K) + 32O + 32R"


# ------------------------------------------------------------------ WEMoE

# Trainable numbers of the routers on the papers' architectures, eight tasks (ICML 2024, table 1,
# and the documentation of FusionBench for one layer).
ROUTERS = [
    ("ViT-B-32", 12, 768, 0, "96"),
    ("ViT-L-14", 24, 1024, 0, "192"),
    ("ViT-B-32", 12, 768, 1, "73.8K"),
    ("ViT-B-16", 12, 768, 2, "7.16M"),
    ("ViT-L-14", 24, 1024, 2, "25.39M"),
]


@pytest.mark.parametrize(("backbone", "blocks", "width", "depth", "printed"), ROUTERS)
def test_router_sizes_on_the_papers_architectures(backbone, blocks, width, depth, printed):
    numbers = draw_routers(blocks, width, 8, depth=depth, scale=0.3, seed=0)
    count = sum(value.numel() for value in numbers.values())
    unit = {"K": (1e3, 1), "M": (1e6, 2)}.get(printed[-1])
    assert (f"{count / unit[0]:.{unit[1]}f}{printed[-1]}" if unit else str(count)) == printed


def test_total_size_on_vit_b_32():
    """573.96M numbers in the paper for eight tasks: encoder of 113.45M, T MLPs, routers."""
    state = clip.visual_template("ViT-B-32").state_dict()
    mlps = sum(value.numel() for key, value in state.items() if ".mlp." in key)
    routers = draw_routers(12, 768, 8, depth=2, scale=0.3, seed=0)
    total = 113_448_705 + 8 * mlps + sum(value.numel() for value in routers.values())
    assert f"{total / 1e6:.2f}M" == "573.96M"


def test_wemoe_storage(experts, calibration):
    mlp = sum(v.numel() for k, v in experts.base.items() if ".mlp." in k)
    total = experts.num_trained + experts.num_frozen
    router = 97 * 96 + 97 * 3
    merged = run("wemoe", experts, calibration)
    assert merged.storage().bits == 32 * (total + 3 * mlp + 6 * router)
    assert merged.storage().expression == "32(TP'+F) + 32O + 32R"
    sparse = run("e_wemoe", experts, calibration)
    kept = sum(values.numel() for values in sparse.inner.values.values())
    assert sparse.storage().bits == 32 * (total + kept + router) + 3 * mlp
    assert abs(kept / (3 * mlp) - 0.1) < 1e-3


def test_wemoe_starts_about_task_arithmetic(experts, calibration):
    static = mb.merge("task_arithmetic", experts, scale=0.3).state_dict()
    images = calibration.inputs["one"]
    exact = mb.merge("wemoe", experts, calibration, steps=0, depth=0)
    assert_near(encode(exact, images), tower(static, images), 2e-5)
    near = mb.merge("wemoe", experts, calibration, steps=0)
    expected = tower(static, images)
    assert 0 < float((encode(near, images) - expected).norm() / expected.norm()) < 0.02


def test_training_lowers_the_entropy(experts, calibration):
    def total(merged):
        value = 0.0
        for task, images in calibration.inputs.items():
            logits = calibration.logits(encode(merged, images), task)
            value += float(torch.distributions.Categorical(logits=logits).entropy().mean())
        return value

    for name in ("wemoe", "e_wemoe"):
        merged = [
            mb.merge(name, experts, calibration, steps=steps, lr=3e-3, batch_size=6)
            for steps in (0, 8)
        ]
        assert total(merged[1]) < total(merged[0])


@given(st.integers(0, 2**32 - 1), st.sampled_from((0.0, 0.05, 0.1, 0.37, 0.5, 0.9, 1.0)))
def test_pruning_keeps_what_is_above_the_quantile(seed, density):
    rng = np.random.default_rng(seed)
    shape = [(), (7,), (3, 4), (0, 3), (1,)][seed % 5]
    base = {"w": torch.zeros(shape, dtype=torch.float64)}
    tau = [torch.tensor(rng.integers(-4, 5, shape) / 4.0) for _ in range(2)]
    tau[0] = tau[0] + 1e-3  # an expert that equals the base is not trained
    experts = Experts(base, {"a": {"w": tau[0]}, "b": {"w": tau[1]}})
    for layer in experts:
        masks = largest(layer, density)
        for delta, mask in zip(layer.deltas, masks, strict=True):
            magnitudes = delta.abs().numpy()
            if density >= 1 or not magnitudes.size:
                assert mask.all()
                continue
            # NumPy interpolates between neighbours: only what is strictly above survives.
            limit = np.quantile(magnitudes, 1 - density, method="lower")
            assert np.array_equal(mask.numpy(), magnitudes > limit)


def test_only_the_mlps_are_mixed(experts, calibration):
    merged = run("wemoe", experts, calibration)
    assert merged.vectors()
    assert all(".mlp." in key for key in merged.vectors())
    origin, static = merged.origin(), mb.merge("task_arithmetic", experts).state_dict()
    for key, value in origin.items():
        assert torch.equal(value, experts.base[key] if ".mlp." in key else static[key])


# ------------------------------------------------------------------ SE-Merging


@pytest.mark.parametrize("similarity", ("distance", "movement"))
def test_se_merging_equals_one_image_after_the_other(
    similarity, base, states, experts, calibration
):
    params = {"scale": 0.25, "similarity": similarity, "temperature": 0.4}
    merged = mb.merge("se_merging", experts, **params)
    images = calibration.inputs["two"]
    assert_near(encode(merged, images), se_features(base, states, images, **params), 2e-5)


def test_what_the_coefficients_add_up_to_stays():
    similarity = torch.randn(50, 7, generator=torch.Generator().manual_seed(0))
    shares = routers.shares(similarity, 0.2)
    torch.testing.assert_close(shares.sum(1), torch.ones(50))
    assert torch.equal(shares.argmax(1), similarity.argmax(1))
    assert torch.equal(routers.shares(torch.ones(2, 4), 0.1), torch.full((2, 4), 0.25))
    # The range of the similarities does not matter.
    torch.testing.assert_close(shares, routers.shares(1000 * similarity - 5, 0.2))


def test_equal_shares_are_the_static_merge(experts, calibration):
    merged = mb.merge("se_merging", experts, temperature=1000.0, scale=0.3)
    static = mb.merge("task_arithmetic", experts, scale=0.3).state_dict()
    images = calibration.inputs["one"]
    wanted = tower(static, images)
    assert float((encode(merged, images) - wanted).norm() / wanted.norm()) < 1e-3


def test_sum_tasks_is_what_a_mixture_of_ones_adds(base, states):
    vectors = {k: torch.stack([states[t][k] - base[k] for t in states]) for k in base}
    mixture = Mixture(base, vectors, torch.ones(3))
    assert (set(mixture), len(mixture)) == (set(base), len(base))
    for key in base:
        torch.testing.assert_close(mixture[key], base[key] + sum_tasks(vectors[key]))
