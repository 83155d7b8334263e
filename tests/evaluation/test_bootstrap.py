"""Bootstrap intervals, against closed forms."""

import numpy as np
import pytest

from mergebook.errors import ExperimentError
from mergebook.evaluation import Scores, over_subsets

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
    samples = SCORES.samples("ties")
    assert samples.mean() == pytest.approx(SCORES.mean("ties"), abs=0.002)
    assert samples.std() == pytest.approx(np.sqrt(variance), rel=0.05)
    low, high = SCORES.interval("ties")
    assert high - low == pytest.approx(2 * 1.96 * np.sqrt(variance), rel=0.06)


def test_methods_are_paired():
    twin = Scores({"fine_tuned": EXPERT, "ties": EXPERT})
    assert (twin.samples("ties") == twin.samples("fine_tuned")).all()
    assert (twin.samples("ties", normalised=True) == 1).all()


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
    both = Scores({"fine_tuned": {"b": other, "a": one}}, draws=50).samples("fine_tuned")
    alone = [
        Scores({"fine_tuned": {task: hits}}, draws=50).samples("fine_tuned")
        for task, hits in EXPERT.items()
    ]
    np.testing.assert_allclose(both, sum(alone) / 2)


def test_means_over_subsets_are_drawn_with_replacement():
    same = np.linspace(0, 1, 11)
    np.testing.assert_allclose(over_subsets([same, same, same]), same)
    apart = over_subsets([np.zeros(4000), np.ones(4000)])
    assert set(apart) == {0.0, 0.5, 1.0}
    assert abs(apart.mean() - 0.5) < 0.03
    assert abs((apart == 0.5).mean() - 0.5) < 0.03
