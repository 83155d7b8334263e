"""Scope-aligned and layer-aware task arithmetic, LiNeS: other coefficients for other layers."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import mergebook as mb
from mergebook.weights import Experts
from strategies import cases, reals


def experts_of(*vectors: dict) -> Experts:
    """Experts over a base of ones from their float64 task vectors."""
    states = [{k: torch.tensor(v, dtype=torch.float64) for k, v in s.items()} for s in vectors]
    base = {key: torch.ones_like(tensor) for key, tensor in states[0].items()}
    experts = {f"task{t}": {k: base[k] + v for k, v in s.items()} for t, s in enumerate(states)}
    return Experts(base, experts)


def merged(name: str, experts: Experts, **params) -> dict[str, np.ndarray]:
    """Merged task vector."""
    state = mb.merge(name, experts, **params).state_dict()
    return {key: (value - experts.base[key]).numpy() for key, value in state.items()}


# ------------------------------------------------------------------ scopes


def test_vectors_of_one_shape_and_other_sizes_get_one_size():
    vector = np.array([1.0, -1.0, 2.0, -2.0])
    got = merged("wsa", experts_of({"w": vector}, {"w": -3 * vector}, {"w": 5 * vector}), scale=1.0)
    # All have the mean 0; deviations 1, 3 and 5 of the vector's become 3.
    np.testing.assert_allclose(got["w"], 3 * vector - 3 * vector + 3 * vector, atol=1e-12)


@given(seed=st.integers(0, 10_000), num_tasks=st.integers(1, 5))
def test_wsa_aligns_deviations_and_keeps_means(seed, num_tasks):
    """Undone by hand: subtract the other tasks' aligned vectors, look at what is left."""
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(num_tasks, 11)) * rng.uniform(0.1, 10, (num_tasks, 1)) + 1
    experts = experts_of(*({"w": v} for v in vectors))
    target = np.mean([np.std(v) for v in vectors])
    aligned = [v.mean() + (v - v.mean()) / np.std(v) * target for v in vectors]
    got = merged("wsa", experts, scale=1.0)["w"]
    np.testing.assert_allclose(got, np.sum(aligned, 0), atol=1e-9)
    assert got.mean() == pytest.approx(vectors.sum(0).mean())


def test_constant_vectors_are_left_alone_and_out_of_the_average():
    idle, even = np.zeros(4), np.full(4, 0.1)
    vector = np.array([1.0, -1.0, 3.0, -3.0])
    got = merged("wsa", experts_of({"w": idle}, {"w": even}, {"w": vector}), scale=1.0)
    np.testing.assert_allclose(got["w"], even + vector, atol=1e-12)


@given(case=cases(elements=reals, max_tasks=1))
def test_wsa_of_one_expert_is_task_arithmetic(case):
    left = mb.merge("wsa", case.load(), scale=0.7).state_dict()
    right = mb.merge("task_arithmetic", case.load(), scale=0.7).state_dict()
    for key in left:
        torch.testing.assert_close(left[key], right[key])


# ------------------------------------------------------------------ layer-aware


def test_lata_by_hand():
    shared, own = np.array([1.0, 0.0]), np.array([0.0, 1.0])
    # Cosines with the sum: first task 1 in a, 1/sqrt(2) in b, 2/sqrt(5) in c.
    one = {"a": shared, "b": own, "c": 2 * shared}
    two = {"a": shared, "b": shared, "c": own}
    experts = experts_of(one, two)
    linear = merged("lata", experts, scale=1.0)
    # Ranks of the first: a 1, c 2, b 3; of the second: a 1, b 2 (1/sqrt(2)), c 3 (1/sqrt(5)).
    np.testing.assert_allclose(linear["a"], (shared + shared) / 3)
    np.testing.assert_allclose(linear["b"], own + 2 / 3 * shared)
    np.testing.assert_allclose(linear["c"], 2 / 3 * 2 * shared + own)
    logarithmic = merged("lata", experts, scale=1.0, drop="logarithmic")
    weights = [math.log(1 + rank) / math.log(4) for rank in (1, 2, 3)]
    np.testing.assert_allclose(logarithmic["a"], 2 * weights[0] * shared)
    np.testing.assert_allclose(logarithmic["b"], own + weights[1] * shared)


@pytest.mark.parametrize("drop", ["linear", "logarithmic"])
@given(case=cases(elements=reals, max_tasks=1))
def test_equal_similarities_share_the_largest_rank(drop, case):
    """One expert, or equal ones, resemble their mean in all layers: plain task arithmetic."""
    left = mb.merge("lata", case.load(), scale=0.7, drop=drop).state_dict()
    right = mb.merge("task_arithmetic", case.load(), scale=0.7).state_dict()
    trained = {
        key
        for key, value in case.base.items()
        if value.numel() and not torch.equal(value, case.experts["task0"][key])
    }
    for key in trained:
        torch.testing.assert_close(left[key], right[key])


# ------------------------------------------------------------------ depth


@pytest.mark.parametrize("prefix", ["transformer.resblocks", "vision_model.encoder.layers"])
def test_lines_grows_linearly_with_the_block(prefix):
    names = [f"{prefix}.{block}.mlp.weight" for block in range(5)]
    vector = {name: np.ones(2) for name in [*names, "conv1.weight", "ln_post.bias", "proj"]}
    got = merged("lines", experts_of(vector, vector), floor=0.5, slope=0.4)
    # The coefficient of the sum, which is 2, is 0.5 / 2 plus 0.4 times the depth.
    for block, name in enumerate(names):
        np.testing.assert_allclose(got[name], 2 * (0.25 + 0.4 * block / 4))
    for name in ("conv1.weight", "ln_post.bias", "proj"):
        np.testing.assert_allclose(got[name], 2 * 0.25)


def test_depth_counts_blocks_that_nobody_trained():
    names = [f"blocks.{block}.w" for block in range(3)]
    base = {name: torch.zeros(2) for name in names}
    expert = base | {names[1]: torch.ones(2)}
    merged = mb.merge("lines", Experts(base, {"one": expert}), floor=0.0, slope=1.0)
    assert merged.state_dict()[names[1]].tolist() == [0.5, 0.5]


def test_lines_without_slope_or_blocks_is_averaging():
    vectors = [{"layers.0.w": np.array([1.0, 2.0])}, {"layers.0.w": np.array([3.0, -2.0])}]
    got = merged("lines", experts_of(*vectors), slope=3.0)  # a single block
    np.testing.assert_allclose(got["layers.0.w"], [2, 0])
    blocks = [{f"layers.{i}.w": np.array([float(i + t)]) for i in range(3)} for t in range(2)]
    got = merged("lines", experts_of(*blocks), slope=0.0)
    np.testing.assert_allclose([got[f"layers.{i}.w"][0] for i in range(3)], [0.5, 1.5, 2.5])
