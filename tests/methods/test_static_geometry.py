"""NeuroMerging, SLERP and Model Stock: angles and parts of vectors."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import mergebook as mb
from mergebook.weights import Experts
from strategies import gaussian


def merge(name: str, base, *vectors, **params) -> np.ndarray:
    """Merged task vector of one float64 tensor."""
    base = np.asarray(base, dtype=np.float64)
    states = {f"task{t}": {"w": torch.tensor(base + v)} for t, v in enumerate(vectors)}
    experts = Experts({"w": torch.tensor(base)}, states)
    return mb.merge(name, experts, **params).state_dict()["w"].numpy() - base


def split(*vectors, at: int) -> Experts:
    """Experts over a base of zeros whose vector is cut into two tensors."""
    parts = [{"a": torch.tensor(v[:at]), "b": torch.tensor(v[at:])} for v in vectors]
    zero = {key: torch.zeros_like(value) for key, value in parts[0].items()}
    return Experts(zero, {f"task{t}": part for t, part in enumerate(parts)})


def random_rotation(rng, n: int) -> np.ndarray:
    return np.linalg.qr(gaussian(rng, (n, n)))[0]


# ------------------------------------------------------------------ NeuroMerging

EVERYTHING = {"scale": 1.0, "density": 1.0}


def test_a_single_expert_comes_back():
    rng = np.random.default_rng(0)
    base, change = gaussian(rng, (2, 5, 7))
    np.testing.assert_allclose(merge("neuromerging", base, change, **EVERYTHING), change)


def test_changes_along_the_neuron_are_merged_by_ties_on_their_sizes():
    base = np.array([[3.0, 4.0], [0.0, 2.0]])
    # Neuron 0: shares 1, 2 and -1, elected plus; neuron 1: -0.5, -0.1 and 0.2, elected minus.
    shares = np.array([[1.0, -0.5], [2.0, -0.1], [-1.0, 0.2]])
    changes = shares[:, :, None] * base
    got = merge("neuromerging", base, *changes, **EVERYTHING)
    np.testing.assert_allclose(got, [1.5 * base[0], -0.3 * base[1]], atol=1e-12)
    released = merge("neuromerging", base, *changes, direction="unit", **EVERYTHING)
    np.testing.assert_allclose(released, [1.5 * base[0] / 5, -0.3 * base[1] / 2], atol=1e-12)
    lite = merge("neuromerging", base, *changes, parallel=0.0, **EVERYTHING)
    np.testing.assert_allclose(lite, 0, atol=1e-12)


def test_cancelling_shares_take_the_majority_sign_of_the_tensor():
    base = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    shares = np.array([[1.0, 2.0, 3.0], [-1.0, 2.0, 1.0]])
    got = merge("neuromerging", base, *(shares[:, :, None] * base), **EVERYTHING)
    np.testing.assert_allclose(got, np.array([1.0, 2.0, 2.0])[:, None] * base, atol=1e-12)


def test_orthogonal_changes_of_other_lengths_are_added():
    # Each singular direction is that of one task, whose coordinate is the only one there.
    base = np.array([[0.0, 0.0, 2.0]])
    one, two = np.array([[3.0, 0, 0]]), np.array([[0.0, -1, 0]])
    got = merge("neuromerging", base, one, two, **EVERYTHING)
    np.testing.assert_allclose(got, one + two, atol=1e-12)


def test_equal_and_opposite_changes():
    base = np.array([[0.0, 0.0, 2.0]])
    change = np.array([[3.0, 1.0, 0.0]])
    np.testing.assert_allclose(
        merge("neuromerging", base, change, change, change, **EVERYTHING), change, atol=1e-12
    )
    # On their common direction the coordinates are 1, 1 and -4 times a length: elected minus.
    got = merge("neuromerging", base, change, change, -4 * change, **EVERYTHING)
    np.testing.assert_allclose(got, -4 * change, atol=1e-12)


def test_a_neuron_of_zeros_changes_orthogonally():
    base = np.array([[0.0, 0.0], [1.0, 1.0]])
    change = np.array([[1.0, 2.0], [0.0, 1.0]])
    for direction in ("neuron", "unit"):
        got = merge("neuromerging", base, change, change, direction=direction, **EVERYTHING)
        np.testing.assert_allclose(got[0], change[0], atol=1e-12)
        assert np.isfinite(got).all()


@given(seed=st.integers(0, 10_000), num_tasks=st.integers(1, 4))
def test_merging_neurons_commutes_with_a_rotation_of_their_inputs(seed, num_tasks):
    rng = np.random.default_rng(seed)
    base, *changes = gaussian(rng, (num_tasks + 1, 3, 6))
    rotation = random_rotation(rng, 6)
    left = merge("neuromerging", base, *changes, **EVERYTHING) @ rotation
    rotated = [change @ rotation for change in changes]
    right = merge("neuromerging", base @ rotation, *rotated, **EVERYTHING)
    np.testing.assert_allclose(left, right, atol=1e-8)


def test_vectors_are_merged_by_ties():
    base = np.zeros(4)
    one, two = np.array([4.0, 3, -1, 1]), np.array([2.0, -5, -3, -1])
    # Signs +, -, - and, where the sum cancels, that of the majority: minus.
    np.testing.assert_allclose(merge("neuromerging", base, one, two, **EVERYTHING), [3, -5, -2, -1])
    trimmed = merge("neuromerging", base, one, two, scale=1.0, density=0.5, keep="k")
    np.testing.assert_allclose(trimmed, [4, -5, -3, 0])


# ------------------------------------------------------------------ SLERP


def test_slerp_of_two_experts_by_hand():
    one, two = np.array([2.0, 0.0]), np.array([0.0, 2.0])
    for t in (0.0, 0.25, 0.5, 1.0):
        got = merge("slerp", np.zeros(2), one, two, t=t, of="task_vectors")
        angle = t * math.pi / 2
        np.testing.assert_allclose(got, [2 * math.cos(angle), 2 * math.sin(angle)], atol=1e-12)


@given(seed=st.integers(0, 10_000), t=st.floats(0, 1), num_tasks=st.integers(2, 5))
def test_slerp_of_vectors_of_one_length_keeps_the_length(seed, t, num_tasks):
    vectors = gaussian(np.random.default_rng(seed), (num_tasks, 12))
    vectors *= 3 / np.linalg.norm(vectors, axis=1, keepdims=True)
    got = merge("slerp", np.zeros(12), *vectors, t=t, of="task_vectors")
    assert np.linalg.norm(got) == pytest.approx(3)


def test_slerp_takes_one_expert_after_the_other():
    vectors = np.eye(4)
    for order in itertools.permutations(vectors):
        got = merge("slerp", np.zeros(4), *order, of="task_vectors")
        assert np.linalg.norm(got) == pytest.approx(1)
    # Two at 45 degrees, then a third of the arc of 90 degrees to the third.
    got = merge("slerp", np.zeros(3), *np.eye(3), of="task_vectors")
    side = math.cos(math.pi / 6) / math.sqrt(2)
    np.testing.assert_allclose(got, [side, side, math.sin(math.pi / 6)], atol=1e-12)


def test_ends_of_slerp_are_the_first_and_the_last_expert():
    vectors = np.random.default_rng(3).normal(size=(4, 5))
    for of, over in itertools.product(("weights", "task_vectors"), ("tensor", "vector")):
        for t, expert in ((0.0, 0), (1.0, -1)):
            got = merge("slerp", np.ones(5), *vectors, t=t, of=of, over=over)
            np.testing.assert_allclose(got, vectors[expert], atol=1e-9)


def test_colinear_weights_are_averaged():
    rng = np.random.default_rng(4)
    base, vectors = rng.normal(size=30), 0.01 * rng.normal(size=(3, 30))
    got = merge("slerp", base, *vectors)
    np.testing.assert_allclose(got, vectors.mean(0), atol=1e-12)
    opposite = merge("slerp", np.zeros(2), [1.0, 0.0], [-3.0, 0.0], of="task_vectors")
    np.testing.assert_allclose(opposite, [-1, 0])
    idle = merge("slerp", np.zeros(2), [0.0, 0.0], [4.0, 0.0], of="task_vectors")
    np.testing.assert_allclose(idle, [2, 0])


@pytest.mark.parametrize("name", ["slerp", "model_stock"])
def test_the_whole_vector_is_one_tensor_cut_in_two(name):
    vectors = np.random.default_rng(5).normal(size=(3, 9)) + 0.5
    params = {"of": "task_vectors"} if name == "slerp" else {}
    cut = mb.merge(name, split(*vectors, at=4), over="vector", **params).state_dict()
    whole = merge(name, np.zeros(9), *vectors, over="tensor", **params)
    np.testing.assert_allclose(np.concatenate([cut["a"], cut["b"]]), whole, atol=1e-12)
    alone = mb.merge(name, split(*vectors, at=4), over="tensor", **params).state_dict()
    np.testing.assert_allclose(alone["a"], merge(name, np.zeros(4), *vectors[:, :4], **params))
    assert not np.allclose(alone["a"], cut["a"])


# ------------------------------------------------------------------ Model Stock


@given(seed=st.integers(0, 10_000), cosine=st.floats(0, 1), num_tasks=st.integers(2, 5))
def test_model_stock_is_the_foot_of_the_centre(seed, cosine, num_tasks):
    """Experts on a shell, all angles equal: w.(w - w_i) = (w - w_i).(w - w_j) with the base at 0.

    These are the conditions that put the centre of the shell, from which base and experts are seen
    at right angles, above w.
    """
    angles = np.full((num_tasks, num_tasks), cosine) + (1 - cosine) * np.eye(num_tasks)
    values, directions = np.linalg.eigh(angles)
    experts = 2 * (directions * np.sqrt(values.clip(0))) @ directions.T
    rng = np.random.default_rng(seed)
    experts = np.pad(experts, ((0, 0), (0, 2))) @ random_rotation(rng, num_tasks + 2)
    w = merge("model_stock", np.zeros(num_tasks + 2), *experts)
    for i, j in itertools.permutations(range(num_tasks), 2):
        left, right = w @ (w - experts[i]), (w - experts[i]) @ (w - experts[j])
        assert left == pytest.approx(right, abs=1e-6)


def test_model_stock_between_the_base_and_the_average():
    one = np.array([1.0, 2.0])
    np.testing.assert_allclose(merge("model_stock", np.ones(2), one, one, one), one)
    np.testing.assert_allclose(merge("model_stock", np.ones(2), one), one)
    np.testing.assert_allclose(merge("model_stock", np.ones(2), [1.0, 0], [0, 2.0]), 0)
    # 60 degrees, lengths 1 and 2: 2 c / (1 + c) = 2/3 of the average.
    two = 2 * np.array([math.cos(math.pi / 3), math.sin(math.pi / 3)])
    got = merge("model_stock", np.zeros(2), [1.0, 0], two)
    np.testing.assert_allclose(got, (np.array([1.0, 0]) + two) / 3)


def test_experts_that_part_leave_the_base_alone():
    np.testing.assert_allclose(merge("model_stock", np.ones(2), [1.0, 0.1], [-1.0, 0.1]), 0)
    np.testing.assert_allclose(merge("model_stock", np.ones(2), [1.0, 0.0], [-1.0, 0.0]), 0)
