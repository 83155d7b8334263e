"""Magnitude masking and pruning by hand."""

import pytest
import torch

import mergebook as mb
from mergebook.weights import Experts


@pytest.fixture
def experts() -> Experts:
    base = {"a": torch.full((2,), 10.0), "b": torch.full((2,), 10.0)}
    one = {"a": torch.tensor([11.0, 14.0]), "b": torch.tensor([7.0, 12.0])}
    two = {"a": torch.tensor([15.0, 9.0]), "b": torch.tensor([10.5, 8.0])}
    return Experts(base, {"one": one, "two": two})


def test_masking_selects_from_the_sum(experts):
    merged = mb.merge("magnitude_masking", experts, density=0.25)
    assert merged.state_dict("one")["a"].tolist() == [10, 13]
    assert merged.state_dict("one")["b"].tolist() == [7.5, 10]
    assert merged.state_dict("two")["a"].tolist() == [16, 10]
    assert merged.state_dict("two")["b"].tolist() == [10, 10]


def test_pruning_keeps_the_tasks_own_entries(experts):
    merged = mb.merge("magnitude_pruning", experts, density=0.25, keep="k")
    assert merged.state_dict("one")["a"].tolist() == [10, 14]
    assert merged.state_dict("two")["a"].tolist() == [15, 10]
    assert merged.state_dict("two")["b"].tolist() == [10, 10]
    # b (P' + F + K) + T P' with two kept entries
    assert merged.storage().bits == 32 * (4 + 0 + 2) + 2 * 4


def test_density_is_the_share_of_each_mask(experts):
    masks = mb.merge("magnitude_masking", experts, density=0.5, keep="k").masks
    assert [masks.density(task) for task in masks.tasks] == [0.5, 0.5]
    assert sum(int(masks.counts(key).sum()) for key in masks.shapes) == 4
