"""Estimates and the bootstrap over test images, against closed forms."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mergebook.errors import ExperimentError
from mergebook.uncertainty import Estimate, Scores, exact, mean_of, over_subsets

NUMBERS = st.floats(-10, 10)
ESTIMATES = st.builds(Estimate, NUMBERS, st.lists(NUMBERS, min_size=4, max_size=4))


@given(ESTIMATES, ESTIMATES, NUMBERS)
def test_arithmetic_goes_draw_by_draw(one, other, number):
    for found, value, draws in (
        (one + other, one.value + other.value, one.draws + other.draws),
        (one - other, one.value - other.value, one.draws - other.draws),
        (one - number, one.value - number, one.draws - number),
        (number - one, number - one.value, number - one.draws),
        (number + one, number + one.value, number + one.draws),
        (number * one, number * one.value, number * one.draws),
        (-one, -one.value, -one.draws),
        (one - exact(number), one.value - number, one.draws - number),
    ):
        assert found.value == pytest.approx(value)
        np.testing.assert_allclose(found.draws, draws)


def test_interval_is_the_central_95_percent():
    assert Estimate(0, np.arange(1001)).interval == pytest.approx((25, 975))
    assert exact(3).interval == (3, 3)


@pytest.mark.parametrize("draws", [[], [[1.0, 2.0]], [1.0, math.nan], [math.inf]])
def test_what_is_no_sample_is_refused(draws):
    with pytest.raises(ExperimentError, match="estimate"):
        Estimate(0.0, draws)


def test_a_value_must_be_finite_and_draws_must_pair():
    with pytest.raises(ExperimentError, match="estimate of nan"):
        exact(math.nan)
    with pytest.raises(ExperimentError, match="2 draws cannot be paired with 3"):
        Estimate(0, [1, 2]) + Estimate(0, [1, 2, 3])
    with pytest.raises(ExperimentError, match=r"numbers of shape \(N,\), got \(0,\)"):
        mean_of([])


def test_the_spread_of_a_mean_is_the_standard_error():
    numbers = np.random.default_rng(0).normal(size=50)
    found = mean_of(numbers, draws=4000)
    assert found.value == numbers.mean()
    assert found.draws.std() == pytest.approx(numbers.std() / np.sqrt(50), rel=0.05)
    assert mean_of([2.0]).interval == (2, 2)


def test_sets_of_tasks_are_drawn_with_replacement():
    same = Estimate(0.5, np.linspace(0, 1, 11))
    np.testing.assert_allclose(over_subsets([same, same, same]).draws, same.draws)
    apart = over_subsets([Estimate(0, np.zeros(4000)), Estimate(1, np.ones(4000))])
    assert set(apart.draws) == {0.0, 0.5, 1.0}
    assert apart.value == 0.5
    assert abs(apart.draws.mean() - 0.5) < 0.03
    assert abs((apart.draws == 0.5).mean() - 0.5) < 0.03


RNG = np.random.default_rng(0)
EXPERT = {"a": RNG.random(400) < 0.9, "b": RNG.random(300) < 0.8}
MERGED = {"a": RNG.random(400) < 0.6, "b": RNG.random(300) < 0.7}
SCORES = Scores({"fine_tuned": EXPERT, "ties": MERGED}, draws=4000)


def test_means_by_hand():
    a, b = MERGED["a"].mean(), MERGED["b"].mean()
    assert SCORES.mean("ties") == pytest.approx((a + b) / 2)
    ratio = (a / EXPERT["a"].mean() + b / EXPERT["b"].mean()) / 2
    assert SCORES.mean("ties", normalised=True) == pytest.approx(ratio)
    assert SCORES.mean("fine_tuned", normalised=True) == 1
    assert SCORES.per_task("ties").tolist() == [a, b]


def test_spread_is_that_of_the_mean_of_bernoullis():
    variance = sum(h.var() / len(h) for h in MERGED.values()) / 4
    estimate = SCORES.estimate("ties")
    assert estimate.value == SCORES.mean("ties")
    assert estimate.draws.mean() == pytest.approx(estimate.value, abs=0.002)
    assert estimate.draws.std() == pytest.approx(np.sqrt(variance), rel=0.05)
    low, high = SCORES.interval("ties")
    assert high - low == pytest.approx(2 * 1.96 * np.sqrt(variance), rel=0.06)


def test_some_tasks_only():
    part = SCORES.estimate("ties", normalised=True, tasks=["b"])
    assert part.value == SCORES.per_task("ties", normalised=True)[1]
    alone = Scores({"fine_tuned": {"b": EXPERT["b"]}, "ties": {"b": MERGED["b"]}}, draws=4000)
    assert (part - alone.estimate("ties", normalised=True)).interval == (0, 0)
    with pytest.raises(ExperimentError, match="unknown task 'c'"):
        SCORES.estimate("ties", tasks=["a", "c"])
    with pytest.raises(ExperimentError, match="at least one task"):
        SCORES.estimate("ties", tasks=[])


def test_methods_are_paired():
    twin = Scores({"fine_tuned": EXPERT, "ties": EXPERT})
    assert (twin.estimate("ties") - twin.estimate("fine_tuned")).interval == (0, 0)
    assert (twin.estimate("ties", normalised=True).draws == 1).all()


@pytest.mark.parametrize(
    ("correct", "message"),
    [
        ({"ties": MERGED}, "unknown reference method 'fine_tuned'"),
        ({"fine_tuned": EXPERT, "ties": {"a": MERGED["a"]}}, "'ties': outcomes on task 'b'"),
        ({"fine_tuned": EXPERT, "ties": {**MERGED, "b": MERGED["b"][1:]}}, "'ties'.*'b'"),
    ],
)
def test_bad_input(correct, message):
    with pytest.raises(ExperimentError, match=message):
        Scores(correct)


def test_unknown_method():
    with pytest.raises(ExperimentError, match="unknown method 'tie'; did you mean 'ties'"):
        SCORES.mean("tie")


def test_a_task_is_resampled_alike_in_any_company():
    one, other = EXPERT["a"], EXPERT["b"]
    both = Scores({"fine_tuned": {"b": other, "a": one}}, draws=50).estimate("fine_tuned").draws
    alone = [
        Scores({"fine_tuned": {task: hits}}, draws=50).estimate("fine_tuned").draws
        for task, hits in EXPERT.items()
    ]
    np.testing.assert_allclose(both, sum(alone) / 2)
