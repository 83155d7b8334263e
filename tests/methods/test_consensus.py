"""Consensus merging at the ends of k, and by hand."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import mergebook as mb
from mergebook.weights import Experts
from strategies import cases, parameters, reals

PAIRS = {"consensus_ta": ("task_arithmetic", {}), "consensus_ties": ("ties", {"combine": "sum"})}


@pytest.mark.parametrize("name", PAIRS)
@given(data=st.data())
def test_k_zero_is_the_plain_merge_and_k_above_t_is_zero_shot(name, data):
    case = data.draw(cases(elements=reals))
    experts = case.load()
    params = data.draw(parameters(name, experts.tasks, k=0))
    plain, fixed = PAIRS[name]
    shared = {p.name: params[p.name] for p in mb.get_method(plain).parameters if p.name in params}
    left = mb.merge(name, experts, **params).state_dict()
    right = mb.merge(plain, experts, **(shared | fixed)).state_dict()
    none = mb.merge(name, experts, **(params | {"k": len(experts.tasks) + 1})).state_dict()
    for key in case.base:
        assert torch.equal(left[key], right[key])
        assert torch.equal(none[key], case.base[key])


def test_by_hand():
    base = {"w": torch.zeros(4)}
    one = {"w": torch.tensor([1.0, 1.0, 0.1, 0.0])}
    two = {"w": torch.tensor([1.0, 0.1, -0.1, 0.0])}
    experts = Experts(base, {"one": one, "two": two})
    # Entry 0 is used by both, 1 by the first only, 2 by both (they cancel), 3 by none.
    merged = mb.merge("consensus_ta", experts, scale=1.0, threshold=0.5, k=2)
    torch.testing.assert_close(merged.state_dict()["w"], torch.tensor([2.0, 0, 0, 0]))
    merged = mb.merge("consensus_ta", experts, scale=1.0, threshold=0.5, k=1)
    torch.testing.assert_close(merged.state_dict()["w"], torch.tensor([2.0, 1.1, 0, 0]))
    # At threshold 20 the second task would not use entry 0 either; per task, the first still does.
    thresholds = {"one": 0.5, "two": 20 / 2}
    merged = mb.merge("consensus_ta", experts, scale=1.0, threshold=thresholds, k=2)
    assert merged.state_dict()["w"].tolist() == [0, 0, 0, 0]
