"""TALL masks: the rule, its ends, and what it minimises."""

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import mergebook as mb
from mergebook.weights import Experts
from strategies import cases


def tall(name, *vectors, **params):
    base = {"w": torch.zeros(len(vectors[0]))}
    states = {f"task{t}": {"w": torch.tensor(v)} for t, v in enumerate(vectors)}
    return mb.merge(name, Experts(base, states), **params)


def bits(merged, task) -> list[int]:
    return merged.masks.mask(task, "w").int().tolist()


def test_rule_by_hand():
    merged = tall("tall_ta", [1.0, 0.2, 0.0, 1.0], [0.5, 1.0, 0.0, 1.0], threshold=1.0)
    # |own| against |sum - own|: 1 > .5, .2 < 1, 0 = 0, 1 = 1
    assert bits(merged, "task0") == [1, 0, 0, 0]
    assert bits(merged, "task1") == [0, 1, 0, 0]
    assert merged.vector["w"].tolist() == pytest.approx([1.5, 1.2, 0, 2])
    assert merged.state_dict("task0")["w"].tolist() == [1.5, 0, 0, 0]


def test_equality_counts_only_if_not_strict():
    vectors = [1.0, 0.2, 0.0, 1.0], [0.5, 1.0, 0.0, 1.0]
    assert bits(tall("tall_ta", *vectors, threshold=1.0, strict=False), "task0") == [1, 0, 1, 1]


@pytest.mark.parametrize("threshold", [0.0, 0.4, 1.0, 3.0])
def test_zero_against_zero(threshold):
    # Entry 1 is never trained, entry 2 only by the other task.
    vectors = [1.0, 0.0, 0.0], [1.0, 0.0, 1.0]
    strict = tall("tall_ta", *vectors, threshold=threshold)
    loose = tall("tall_ta", *vectors, threshold=threshold, strict=False)
    assert bits(strict, "task0")[1:] == [0, 0]
    assert bits(loose, "task0")[1:] == [1, int(threshold == 0)]


def test_ties_masks_compare_untrimmed_task_vectors_with_the_disjoint_sum():
    # k + 1 = 2 entries stay: the sum is (4, 3, 0, 0), the last two are trimmed by both tasks.
    vectors = [4.0, 3.0, 1.0, 0.0], [-1.0, 1.0, 0.5, 0.25]
    params = {"density": 0.25, "threshold": 0.5}
    merged = tall("tall_ties", *vectors, **params)
    assert merged.vector["w"].tolist() == [4, 4, 0, 0]
    # task0: 4 > .5 * 0, 3 > .5 * 1, 1 > .5 * 1 (where TIES left nothing), 0 > 0 fails
    assert bits(merged, "task0") == [1, 1, 1, 0]
    # task1: 1 > .5 * 5 fails, 1 > .5 * 3 fails, .5 > .5 * .5, .25 > .5 * .25
    assert bits(merged, "task1") == [0, 0, 1, 1]


@given(case=cases(min_tasks=2))
def test_threshold_one_minimises_the_distance_to_each_expert(case):
    experts = case.load()
    merged = mb.merge("tall_ta", experts, threshold=1.0)
    for task, key in itertools.product(experts.tasks, experts.trained):
        own = case.experts[task][key] - case.base[key]
        distance = (merged.state_dict(task)[key] - case.experts[task][key]).abs()
        # Entries are independent: the best of the two values of each bit is the best mask.
        best = torch.minimum(own.abs(), (merged.vector[key] - own).abs())
        assert torch.equal(distance, best)


@given(case=cases(min_tasks=2), data=st.data())
def test_a_larger_threshold_makes_sparser_masks(case, data):
    low, high = sorted(data.draw(st.tuples(*[st.floats(0, 5)] * 2)))
    experts = case.load()
    few, many = (mb.merge("tall_ta", experts, threshold=x).masks for x in (high, low))
    for task, key in itertools.product(experts.tasks, experts.trained):
        assert not (few.mask(task, key) & ~many.mask(task, key)).any()


@given(case=cases(min_tasks=2))
def test_thresholds_of_tasks_are_independent(case):
    experts = case.load()
    values = {task: 0.2 * (1 + t) for t, task in enumerate(experts.tasks)}
    together = mb.merge("tall_ta", experts, threshold=values)
    for task, value in values.items():
        alone = mb.merge("tall_ta", experts, threshold=value)
        for key in together.vector:
            assert torch.equal(together.masks.mask(task, key), alone.masks.mask(task, key))
