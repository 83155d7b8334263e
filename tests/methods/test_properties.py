"""What must hold for every registered method."""

import gc
import json
import struct
import tempfile
import weakref
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import mergebook as mb
from comparison import assert_equal
from mergebook.weights import Experts
from oracles import ORACLES
from strategies import Case, cases, gaussian, grid, parameters, reals

METHODS = [name for name in mb.list_methods() if not mb.get_method(name).needs]
SCALED = [m for m in METHODS if any(p.name == "scale" for p in mb.get_method(m).parameters)]
AROUND_THE_AVERAGE = {"cart", "cart_indexing"}  # at scale 0 the average, not the base
TYPES = (torch.float32, torch.bfloat16, torch.float64)


def states(merged) -> dict:
    return {task: merged.state_dict(task) for task in merged.tasks}


@pytest.mark.parametrize("name", METHODS)
@given(data=st.data())
def test_names_shapes_and_types_are_those_of_the_base_and_inputs_stay(name, data):
    case = data.draw(cases(elements=reals, dtypes=TYPES))
    before = case.copy()
    experts = case.load()
    merged = mb.merge(name, experts, **data.draw(parameters(name, experts.tasks)))
    for state in states(merged).values():
        assert state.keys() == case.base.keys()
        for key, tensor in state.items():
            assert (tensor.shape, tensor.dtype) == (case.base[key].shape, case.base[key].dtype)
            assert tensor.isfinite().all()
    assert_equal(case.base, before.base)
    assert_equal(case.experts, before.experts)


@pytest.mark.parametrize("name", METHODS)
@given(data=st.data())
def test_merges_in_a_row_are_those_made_apart(name, data):
    experts, method = data.draw(cases(elements=reals)).load(), mb.get_method(name)
    first = data.draw(parameters(name, experts.tasks))
    points = [first, *({**first, key: values[-1]} for key, values in method.grid.items()), first]
    merge = method.on(experts)
    for params in points:
        assert_equal(states(merge(**params)), states(mb.merge(name, experts, **params)))


@pytest.mark.parametrize("name", METHODS)
@given(data=st.data())
def test_files_give_the_same_bits_as_memory_also_after_saving(name, data):
    case = data.draw(cases(elements=reals, dtypes=TYPES))
    params = data.draw(parameters(name, tuple(case.experts)))
    memory = mb.merge(name, case.load(), **params)
    with tempfile.TemporaryDirectory() as folder:
        streamed = mb.merge(name, case.save(Path(folder)), **params)
        assert_equal(states(memory), states(streamed))
        again = mb.load_merged(streamed.save(Path(folder) / "merged.safetensors"))
        assert_equal(states(memory), states(again))
        assert (again.recipe, again.tasks) == (memory.recipe, memory.tasks)
        assert again.storage() == memory.storage()


@pytest.mark.parametrize("name", METHODS)
@given(data=st.data())
def test_file_size_is_the_storage_formula_plus_header_and_padding(name, data):
    case = data.draw(cases(dtypes=TYPES))
    merged = mb.merge(name, case.load(), **data.draw(parameters(name, tuple(case.experts))))
    with tempfile.TemporaryDirectory() as folder:
        content = merged.save(Path(folder) / "merged.safetensors").read_bytes()
    header = 8 + struct.unpack("<Q", content[:8])[0]
    excess = 8 * (len(content) - header) - merged.storage().bits
    # A task's mask of one tensor fills its last byte with at most 7 bits.
    assert 0 <= excess <= 7 * len(merged.tasks) * len(case.base)


@pytest.mark.parametrize("name", [m for m in METHODS if mb.get_method(m).symmetric])
@given(data=st.data())
def test_order_of_experts_does_not_matter(name, data):
    oracle = ORACLES[name]
    case = data.draw(cases(min_tasks=2, elements=gaussian if oracle.generic else grid))
    order = data.draw(st.permutations(list(case.experts)))
    params = data.draw(parameters(name, tuple(case.experts)))
    shuffled = Case(case.base, {task: case.experts[task] for task in order})
    left = states(mb.merge(name, case.load(), **params))
    right = states(mb.merge(name, shuffled.load(), **params))
    if oracle.tolerance == 0:
        assert_equal(left, right)
        return
    for task, state in left.items():
        for key, tensor in state.items():
            slack = oracle.tolerance * max(1.0, float(tensor.abs().max()) if tensor.numel() else 0)
            torch.testing.assert_close(tensor, right[task][key], rtol=0, atol=slack)


@pytest.mark.parametrize("name", [m for m in SCALED if m not in AROUND_THE_AVERAGE])
@given(data=st.data())
def test_scale_zero_gives_the_base(name, data):
    case = data.draw(cases(elements=reals))
    params = data.draw(parameters(name, tuple(case.experts), scale=0.0))
    assert_equal(mb.merge(name, case.load(), **params).state_dict(), case.base)


@pytest.mark.parametrize(
    ("name", "params"),
    [
        ("averaging", {}),
        ("task_arithmetic", {"scale": 1.0}),
        ("ties", {"scale": 1.0, "density": 1.0}),
        ("tall_ta", {}),
        ("consensus_ta", {"scale": 1.0, "k": 1}),
        ("magnitude_pruning", {"density": 1.0}),
        ("emr", {}),
        ("cart", {}),
        ("cart_indexing", {"rank": 1.0}),
        ("tsv_c", {}),
        ("awd", {"scale": 1.0}),
        ("dare_ta", {"scale": 1.0, "drop": 0.0}),
        ("dare_ties", {"scale": 1.0, "drop": 0.0, "density": 1.0}),
        ("breadcrumbs", {"scale": 1.0, "density": 1.0, "outliers": 0.0}),
        ("magmax", {"scale": 1.0}),
        ("cabs", {"scale": 1.0, "n": 256}),
        ("wsa", {"scale": 1.0}),
        ("lata", {"scale": 1.0}),
        ("lines", {"slope": 0.0}),
        ("slerp", {}),
        ("model_stock", {}),
        ("fine_tuned", {}),
    ],
)
@given(case=cases(max_tasks=1))
def test_one_expert_comes_back(name, params, case):
    merged = mb.merge(name, case.load(), **params)
    assert_equal(merged.state_dict("task0"), case.experts["task0"])


@pytest.mark.parametrize("name", METHODS)
def test_experts_equal_to_the_base_give_the_base(name):
    base = {"w": torch.randn(3, 4), "b": torch.randn(4)}
    experts = Experts(base, {"one": base, "two": dict(base)})
    merged = mb.merge(name, experts)
    assert (experts.trained, experts.num_trained, experts.num_frozen) == ((), 0, 16)
    for state in states(merged).values():
        assert_equal(state, base)
    assert merged.storage().bits == 16 * 32


@pytest.mark.parametrize("name", METHODS)
def test_layers_are_let_go_one_by_one(name, monkeypatch):
    alive, most = weakref.WeakSet(), 0
    original = Experts.layer

    def counted(self, key):
        nonlocal most
        layer = original(self, key)
        alive.add(layer.deltas)
        most = max(most, len(alive))
        return layer

    base = {f"w{i}": torch.randn(4, 4) for i in range(9)}
    experts = Experts(base, {t: {k: v + 1 for k, v in base.items()} for t in "ab"})
    monkeypatch.setattr(Experts, "layer", counted)
    merged = mb.merge(name, experts)
    gc.collect(1)  # the young: a search through all that tests have made takes long
    assert most <= 2  # the one at hand, and the one that takes its place
    assert len(alive) == 0
    assert merged.state_dict("a").keys() == base.keys()


@pytest.mark.parametrize("name", METHODS)
def test_recipe_says_how_the_model_was_made(name):
    base = {"w": torch.zeros(3)}
    merged = mb.merge(name, Experts(base, {"one": {"w": torch.ones(3)}}))
    assert merged.recipe == {
        "method": name,
        "parameters": mb.get_method(name).check(),
        "entries": "trained",
        "mergebook": mb.__version__,
    }
    assert json.loads(json.dumps(merged.recipe)) == merged.recipe
