"""Bootstrap intervals, against closed forms."""

import numpy as np
import pytest

from mergebook.errors import ExperimentError
from mergebook.evaluation import Scores

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
