"""Every registered method of weights alone against brute force."""

import inspect

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import mergebook as mb
from mergebook.weights import Experts
from oracles import ORACLES, Oracles, assert_complete
from strategies import cases, flat, gaussian, grid, parameters, reals

METHODS = [name for name in mb.list_methods() if not mb.get_method(name).needs]


def outcome(merged, experts: Experts) -> np.ndarray:
    """Weights of every task [T, P] as the library has them."""
    return np.array([flat(merged.state_dict(task), experts.trained) for task in experts.tasks])


def arrays(state, keys) -> dict[str, np.ndarray]:
    """The named tensors as arrays, float32 unless the case is wider."""
    dtype = np.float64 if any(state[k].dtype == torch.float64 for k in keys) else np.float32
    return {key: state[key].double().numpy().astype(dtype) for key in keys}


def expected(name: str, experts: Experts, params: dict) -> np.ndarray:
    """Weights of every task [T, P] as the oracle has them."""
    keys, oracle = experts.trained, ORACLES[name]
    params = {
        key: [value[task] for task in experts.tasks] if isinstance(value, dict) else value
        for key, value in params.items()
    }
    states = [experts.expert(task) for task in experts.tasks]
    if oracle.named:
        if "d" in inspect.signature(oracle.function).parameters:
            params["d"] = experts.num_entries
        results = oracle.function(
            arrays(experts.base, keys), [arrays(s, keys) for s in states], **params
        )
        return np.array(
            [np.concatenate([np.zeros(0), *(np.ravel(r[k]) for k in keys)]) for r in results]
        )
    rows = np.array([flat(state, keys) for state in states])
    return oracle.function(flat(experts.base, keys), rows, experts.num_entries, **params)


def slack(name: str, wanted: np.ndarray, eps: float) -> float:
    """The oracle's tolerance and two roundings, both of the largest value involved."""
    largest = max(1.0, float(np.abs(wanted).max(initial=0)))
    return (ORACLES[name].tolerance + 2 * eps) * largest


def assert_close(name: str, experts: Experts, params: dict, eps: float = 0.0) -> None:
    """The library and the oracle agree; where rounding may decide, in double precision first."""
    got = outcome(mb.merge(name, experts, **params), experts)
    if ORACLES[name].jumps and experts.trained and experts.dtype != torch.float64:
        double = in_double(experts)
        assert_close(name, double, params)
        again = outcome(mb.merge(name, double, **params), double)
        assume(np.allclose(got, again, rtol=0, atol=slack(name, again, eps)))
    wanted = expected(name, experts, params)
    np.testing.assert_allclose(got, wanted, rtol=0, atol=slack(name, wanted, eps))


def in_double(experts: Experts) -> Experts:
    """The same values in double precision."""
    base, *others = (
        {
            key: value.double() if value.is_floating_point() else value
            for key, value in state.items()
        }
        for state in (experts.base, *map(experts.expert, experts.tasks))
    )
    options = {"entries": experts.entries, "frozen_extra": experts.frozen_extra}
    return Experts(base, dict(zip(experts.tasks, others, strict=True)), **options)


def test_every_method_has_an_oracle_and_every_oracle_a_method():
    assert_complete(METHODS, ORACLES)


def test_a_method_without_an_oracle_is_told_what_it_needs():
    for name in ("ties", "fisher"):
        for ask in (Oracles().__getitem__, lambda each: assert_complete([each], Oracles())):
            with pytest.raises(AssertionError, match=rf"{name}' asks for an oracle.*tests/oracles"):
                ask(name)
    with pytest.raises(AssertionError, match="no method for the oracles ties of tests/oracles"):
        assert_complete(["fisher"], Oracles(ties=1, fisher=2))


@pytest.mark.parametrize("name", METHODS)
@given(data=st.data())
@settings(max_examples=50)
def test_equals_brute_force(name, data):
    elements = data.draw(st.sampled_from((gaussian,) if ORACLES[name].generic else (grid, reals)))
    dtype = data.draw(st.sampled_from((torch.float32, torch.float32, torch.float64)))
    case = data.draw(cases(elements=elements, dtypes=(dtype,)))
    entries = data.draw(st.sampled_from(("trained", "stored")))
    experts = case.load(entries=entries, frozen_extra=data.draw(st.sampled_from((0, 0, 7))))
    params = data.draw(parameters(name, experts.tasks))
    assert_close(name, experts, params)
    merged = mb.merge(name, experts, **params)
    for task in experts.tasks:
        state = merged.state_dict(task)
        for key in set(case.base) - set(experts.trained):
            assert torch.equal(state[key], case.base[key])


@pytest.mark.parametrize("name", METHODS)
@given(data=st.data())
def test_half_precision_is_brute_force_in_float32_then_rounded(name, data):
    dtype = data.draw(st.sampled_from((torch.bfloat16, torch.float16)))
    elements = gaussian if ORACLES[name].generic else grid
    case = data.draw(cases(elements=elements, dtypes=(dtype,)))
    experts = case.load()
    params = data.draw(parameters(name, experts.tasks))
    # A masked model rounds its vector, then the sum.
    assert_close(name, experts, params, torch.finfo(dtype).eps)


@pytest.mark.parametrize("name", METHODS)
@given(data=st.data())
def test_mixed_types_are_merged_in_the_widest(name, data):
    elements = gaussian if ORACLES[name].generic else grid
    case = data.draw(cases(elements=elements, dtypes=(torch.float32, torch.float64)))
    experts = case.load()
    params = data.draw(parameters(name, experts.tasks))
    assert_close(name, experts, params, 1e-6)
