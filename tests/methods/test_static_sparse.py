"""DARE, Breadcrumbs, MagMax, CABS and PCB: what is kept, and what it becomes."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import mergebook as mb
from mergebook.errors import ParameterError
from mergebook.methods.dare import thin
from mergebook.weights import Experts
from strategies import cases, parameters, reals


def experts_of(*vectors, **options) -> Experts:
    """Experts over a base of zeros from their task vectors, each a mapping or a list."""
    states = [v if isinstance(v, dict) else {"w": v} for v in vectors]
    states = [{k: torch.as_tensor(v, dtype=torch.float32) for k, v in s.items()} for s in states]
    base = {key: torch.zeros_like(tensor) for key, tensor in states[0].items()}
    return Experts(base, {f"task{t}": state for t, state in enumerate(states)}, **options)


def merged(name: str, experts: Experts, **params) -> list[float]:
    state = mb.merge(name, experts, **params).state_dict()
    return torch.cat([state[key].flatten() for key in sorted(state)]).tolist()


def gaussian_experts(*shape, num_tasks=3, seed=0) -> Experts:
    rng = np.random.default_rng(seed)
    return experts_of(*(rng.normal(size=shape) for _ in range(num_tasks)))


# ------------------------------------------------------------------ DARE


@pytest.mark.parametrize(("name", "plain"), [("dare_ta", "task_arithmetic"), ("dare_ties", "ties")])
@given(data=st.data())
def test_dare_without_dropping_is_the_plain_merge(name, plain, data):
    case = data.draw(cases(elements=reals))
    params = data.draw(parameters(plain, tuple(case.experts)))
    left = mb.merge(name, case.load(), drop=0.0, **params).state_dict()
    right = mb.merge(plain, case.load(), **params).state_dict()
    assert all(torch.equal(left[key], right[key]) for key in right)


@pytest.mark.parametrize("name", ["dare_ta", "dare_ties"])
def test_dare_that_drops_everything_is_zero_shot(name):
    assert merged(name, gaussian_experts(20), drop=1.0, scale=1.0) == [0.0] * 20


def test_dare_keeps_the_vector_on_average():
    experts = experts_of([1.0, -2.0, 4.0] * 20)
    runs = [merged("dare_ta", experts, scale=1.0, drop=0.75, seed=seed) for seed in range(300)]
    # An entry is 4 times its value with probability 1/4: standard deviation sqrt(3) times it.
    mean = torch.tensor(runs).mean(0) / torch.tensor([1.0, -2.0, 4.0] * 20)
    assert (mean - 1).abs().max() < 4.5 * (3 / 300) ** 0.5
    assert (mean.mean() - 1).abs() < 3 * (3 / 300 / 60) ** 0.5
    assert set(runs[0]) <= {0.0, 4.0, -8.0, 16.0}


def test_masks_of_dare_depend_on_seed_task_and_tensor_and_on_nothing_else():
    ones = {"a": torch.ones(64), "b": torch.ones(64)}
    experts = experts_of(ones, ones, ones)
    all_of_a = thin(experts.layer("a"), 0.5, seed=3).deltas
    alone = experts.select(["task2"])
    assert torch.equal(thin(alone.layer("a"), 0.5, seed=3).deltas[0], all_of_a[2])
    others = [
        all_of_a[0],
        all_of_a[1],
        thin(experts.layer("b"), 0.5, seed=3).deltas[0],
        thin(experts.layer("a"), 0.5, seed=4).deltas[0],
    ]
    assert len({tuple(mask.tolist()) for mask in others}) == 4
    # More dropping drops a superset.
    assert (thin(experts.layer("a"), 0.9, seed=3).deltas <= all_of_a).all()


def test_dare_ties_is_ties_of_the_rescaled_vectors():
    experts = gaussian_experts(60)
    deltas = thin(experts.layer("w"), 0.75, seed=5).deltas / 0.25
    explicit = experts_of(*deltas)
    for density in (0.1, 1.0):
        params = {"scale": 0.7, "density": density}
        got = merged("dare_ties", experts, drop=0.75, seed=5, **params)
        np.testing.assert_allclose(got, merged("ties", explicit, **params), atol=1e-6)


# ------------------------------------------------------------------ Breadcrumbs


def test_breadcrumbs_by_hand():
    matrix = [[9.0, -8.0, 1.0, 2.0, 3.0], [-0.5, 0.4, 0.3, 0.2, 0.1]]
    experts = experts_of(matrix)
    options = {"scale": 1.0, "density": 0.4, "outliers": 0.2}
    # Of ten entries two are outliers, the next four are kept.
    assert merged("breadcrumbs", experts, **options) == pytest.approx(
        [0, 0, 1, 2, 3, -0.5, 0, 0, 0, 0]
    )
    # Of five entries of a row one is an outlier, the next two are kept.
    assert merged("breadcrumbs", experts, over="rows", **options) == pytest.approx(
        [0, -8, 0, 0, 3, 0, 0.4, 0.3, 0, 0]
    )


def test_breadcrumbs_keeps_the_rest_where_the_shares_exceed_the_whole():
    values = merged("breadcrumbs", experts_of([4.0, 3, 2, 1]), scale=1.0, density=1.0, outliers=0.5)
    assert values == [0, 0, 2, 1]


def test_breadcrumbs_takes_the_first_of_equal_magnitudes_for_the_largest():
    options = {"scale": 1.0, "density": 0.25, "outliers": 0.25}
    assert merged("breadcrumbs", experts_of([2.0, -2, 2, -2]), **options) == [0, -2, 0, 0]


def test_breadcrumbs_keeps_scalars():
    vector = {"s": 3.0, "v": [1.0, 2.0, 3.0]}
    assert merged("breadcrumbs", experts_of(vector), scale=1.0, density=0.0) == [3, 0, 0, 0]


# ------------------------------------------------------------------ MagMax


def test_magmax_takes_the_largest_and_of_equal_ones_the_last():
    vectors = [[1.0, -5, 2, 0], [-3, 4, -2, 0], [2, -4, 1, 0]]
    assert merged("magmax", experts_of(*vectors), scale=1.0) == [-3, -5, -2, 0]
    assert merged("magmax", experts_of(*vectors[::-1]), scale=1.0) == [-3, -5, 2, 0]
    assert merged("magmax", experts_of(*vectors), scale=0.5) == [-1.5, -2.5, -1, 0]


# ------------------------------------------------------------------ CABS


def test_cabs_by_hand():
    one, two = [4.0, 3, -2, 1, 8], [5.0, -1, 6, 2, 7]
    options = {"scale": 1.0, "n": 1, "m": 4}
    # Blocks of four and of one: a share of 1/4, rounded up, is the one entry of the last.
    assert merged("cabs", experts_of(one, two), **options) == [4, 0, 6, 0, 8]
    assert merged("cabs", experts_of(one, two), order="reversed", **options) == [4, 0, 6, 0, 7]
    assert merged("cabs", experts_of(one, two), rest="drop", **options) == [4, 0, 6, 0, 0]
    # The second task wants place 0, which is taken.
    assert merged("cabs", experts_of(one, [9.0, 1, 2, 3, 0]), **options) == [4, 0, 0, 3, 8]
    scale = {"scale": {"task0": 1.0, "task1": 0.5}}
    assert merged("cabs", experts_of(one, two), **options | scale) == [4, 0, 3, 0, 8]


def test_places_of_zeros_are_left_to_the_other_tasks():
    idle, other = [0.0, 0, 0, 0], [1.0, 2, 3, 4]
    assert merged("cabs", experts_of(idle, other), scale=1.0, n=2, m=4) == [0, 0, 3, 4]


@given(seed=st.integers(0, 1000), n=st.integers(1, 6), order=st.sampled_from(["given", "reversed"]))
def test_cabs_is_disjoint_and_balanced(seed, n, order):
    experts = gaussian_experts(5, 8, num_tasks=4, seed=seed)
    values = np.array(merged("cabs", experts, scale=1.0, n=n, m=20, order=order, fair=False))
    deltas = experts.layer("w").deltas.reshape(4, 40).numpy()
    owner = np.array([values == delta for delta in deltas])
    assert (owner.sum(0) == (values != 0)).all()  # each place has one owner, or is zero
    per_block = owner.reshape(4, 2, 20).sum(2)
    assert (per_block == n).all() if 4 * n <= 20 else (per_block.sum(0) == 20).all()
    first = deltas[0 if order == "given" else -1].reshape(2, 20)
    for block, own in zip(first, owner[0 if order == "given" else -1].reshape(2, 20), strict=True):
        assert set(np.flatnonzero(own)) == set(np.argsort(-abs(block))[:n])


def test_fair_cabs_leaves_the_last_task_its_share():
    experts = gaussian_experts(64, num_tasks=16)
    deltas = experts.layer("w").deltas.numpy()

    def places(**params):
        values = np.array(merged("cabs", experts, scale=1.0, n=8, m=32, **params))
        return [int((values == delta).sum()) for delta in deltas]

    assert places() == [4] * 16
    assert places(fair=False) == [16] * 4 + [0] * 12


# ------------------------------------------------------------------ PCB


def test_pcb_of_one_expert_keeps_the_entries_above_the_threshold():
    vector = torch.arange(1.0, 101).tolist()
    values = merged("pcb", experts_of(vector), scale=1.0, clip=0.01)
    # The threshold is the score of 96, which has the weight 0; magnitudes end at the 99th.
    assert values == [0.0] * 96 + [97.0, 98, 99, 99]


def test_pcb_of_equal_experts_is_their_clipped_vector():
    vector = [5.0, -4, 3, -2, 1]
    values = merged("pcb", experts_of(vector, vector, vector), scale=0.5, density=1.0, clip=0.0)
    # int((1 - 0) * 5 - 1) is the largest; the smallest has size 0, hence score and weight 0.
    assert values == pytest.approx([2.5, -2, 1.5, -1, 0])


@pytest.mark.parametrize("variant", ["vision", "summary", "evolution"])
def test_pcb_looks_at_the_whole_vector_not_at_tensors(variant):
    rng = np.random.default_rng(1)
    whole = rng.normal(size=(3, 90))
    params = {"variant": variant, "density": 0.3, "scale": 1.0}
    together = merged("pcb", experts_of(*whole), **params)
    parts = [{"a": v[:7], "b": v[7:50].reshape(1, 43), "c": v[50:]} for v in whole]
    np.testing.assert_allclose(merged("pcb", experts_of(*parts), **params), together, atol=1e-5)


def test_variants_of_pcb_differ_in_what_counts_as_agreement():
    one, two = [4.0, 2, -1, 0.5], [1.0, -3, -2, 0.25]
    results = {
        variant: merged("pcb", experts_of(one, two), variant=variant, density=1.0, clip=0.0)
        for variant in ("vision", "summary", "evolution")
    }
    assert len({tuple(np.round(values, 4)) for values in results.values()}) == 3


def test_pcb_of_constant_vectors_is_the_base():
    assert merged("pcb", experts_of([2.0] * 6, [2.0] * 6)) == [0.0] * 6


@pytest.mark.parametrize(
    ("name", "params", "words"),
    [
        ("pcb", {"clip": 0.5}, "clip=0.5 is not a number from 0 to 0.25"),
        ("pcb", {"variant": "paper"}, "variant='paper' is not one of 'vision'"),
        ("pcb", {"scale": {"task0": 1.0}}, "scale must give one value for each"),
        ("cabs", {"m": 0}, "m=0 is not a whole number"),
        ("cabs", {"m": 10**12}, "m=1000000000000 is not a whole number from 1 to 65536"),
        ("cabs", {"n": 10**12}, "n=1000000000000 is not a whole number from 0 to 65536"),
        ("cabs", {"scale": {"elsewhere": 1.0}}, "missing or unknown: elsewhere, task0"),
        ("dare_ta", {"drop": 1.5}, "drop=1.5"),
        ("dare_ties", {"seed": -1}, "seed=-1"),
        ("breadcrumbs", {"over": "columns"}, "over='columns' is not one of 'tensor', 'rows'"),
    ],
)
def test_bad_parameters_are_named(name, params, words):
    with pytest.raises(ParameterError, match=words):
        mb.merge(name, gaussian_experts(4, num_tasks=2), **params)
