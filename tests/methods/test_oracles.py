"""Every registered method against brute force."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import mergebook as mb
from mergebook.weights import Experts
from oracles import ORACLES
from strategies import cases, flat, grid, parameters, reals

METHODS = mb.list_methods()


def outcome(merged, experts: Experts) -> np.ndarray:
    """Weights of every task [T, P] as the library has them."""
    return np.array([flat(merged.state_dict(task), experts.keys()) for task in experts.tasks])


def expected(name: str, experts: Experts, params: dict) -> np.ndarray:
    keys = experts.keys()
    params = {
        key: [value[task] for task in experts.tasks] if isinstance(value, dict) else value
        for key, value in params.items()
    }
    rows = [flat(experts.expert(task), keys) for task in experts.tasks]
    return ORACLES[name](flat(experts.base, keys), np.array(rows), experts.num_entries, **params)


def test_every_method_has_an_oracle_and_every_oracle_a_method():
    assert set(METHODS) == set(ORACLES)


@pytest.mark.parametrize("name", METHODS)
@given(data=st.data())
@settings(max_examples=50)
def test_equals_brute_force(name, data):
    elements = data.draw(st.sampled_from((grid, reals)))
    dtype = data.draw(st.sampled_from((torch.float32, torch.float32, torch.float64)))
    case = data.draw(cases(elements=elements, dtypes=(dtype,)))
    entries = data.draw(st.sampled_from(("trained", "stored")))
    experts = case.load(entries=entries, frozen_extra=data.draw(st.sampled_from((0, 0, 7))))
    params = data.draw(parameters(name, experts.tasks))
    merged = mb.merge(name, experts, **params)
    np.testing.assert_array_equal(outcome(merged, experts), expected(name, experts, params))
    for task in experts.tasks:
        state = merged.state_dict(task)
        for key in set(case.base) - set(experts.keys()):
            assert torch.equal(state[key], case.base[key])


@pytest.mark.parametrize("name", METHODS)
@given(data=st.data())
def test_half_precision_is_brute_force_in_float32_then_rounded(name, data):
    dtype = data.draw(st.sampled_from((torch.bfloat16, torch.float16)))
    case = data.draw(cases(dtypes=(dtype,)))
    experts = case.load()
    params = data.draw(parameters(name, experts.tasks))
    got = outcome(mb.merge(name, experts, **params), experts)
    # A masked model rounds its vector, then the sum: two roundings of the largest value involved.
    slack = 2 * torch.finfo(dtype).eps * max(1.0, float(np.abs(got).max(initial=0)))
    np.testing.assert_allclose(got, expected(name, experts, params), rtol=0, atol=slack)


@pytest.mark.parametrize("name", METHODS)
@given(data=st.data())
def test_mixed_types_are_merged_in_the_widest(name, data):
    case = data.draw(cases(dtypes=(torch.float32, torch.float64)))
    experts = case.load()
    params = data.draw(parameters(name, experts.tasks))
    got = outcome(mb.merge(name, experts, **params), experts)
    np.testing.assert_allclose(got, expected(name, experts, params), rtol=1e-6, atol=1e-6)
