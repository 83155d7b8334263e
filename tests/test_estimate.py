"""Estimates: arithmetic draw by draw, intervals and resampling against closed forms."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mergebook.errors import ExperimentError
from mergebook.estimate import Estimate, exact, mean_of, over_subsets

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
