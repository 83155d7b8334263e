"""Every registered method that needs images: against its oracle, and what must hold for all."""

import struct

import pytest
import torch

import mergebook as mb
from mergebook.errors import CheckpointError, MethodError
from mergebook.weights import Experts
from oracles import IMAGE_ORACLES, assert_complete

METHODS = [name for name in mb.list_methods() if mb.get_method(name).needs]
CHOICES = [(name, i) for name, o in IMAGE_ORACLES.items() for i in range(len(o.choices))]


def short(name: str, **params) -> dict:
    """Parameters with two steps of training where the method trains."""
    names = {parameter.name for parameter in mb.get_method(name).parameters}
    lengths = ("steps", "router_steps", "rounds", "iterations")
    return {key: 2 for key in lengths if key in names} | params


def features(merged, calibration) -> dict[str, torch.Tensor]:
    with torch.inference_mode():
        return {task: merged.encoder(task)(calibration.inputs[task]) for task in merged.tasks}


def assert_same(left, right, calibration) -> None:
    ours, theirs = features(left, calibration), features(right, calibration)
    for task in left.tasks:
        assert torch.equal(ours[task], theirs[task])
        heads = left.head(task), right.head(task)
        assert (heads[0] is None) == (heads[1] is None)
        assert heads[0] is None or torch.equal(*heads)


def test_every_method_has_an_oracle_and_every_oracle_a_method():
    assert_complete(METHODS, IMAGE_ORACLES)


def assert_expected(merged, expected, experts, calibration, tolerance, compared) -> None:
    """Weights (of the tensors that are compared) or features of every task are as expected."""
    for task, wanted in expected.items():
        if isinstance(wanted, dict):
            state = merged.state_dict(task)
            assert set(wanted) >= set(experts.trained)
            pairs = {key: (state[key], wanted[key]) for key in wanted if key in compared}
        else:
            pairs = {"features": (features(merged, calibration)[task], wanted)}
        for key, (got, want) in pairs.items():
            want = torch.as_tensor(want, dtype=got.dtype)
            slack = tolerance * max(1e-3, float(want.abs().max()))
            torch.testing.assert_close(
                got, want, rtol=0, atol=slack, msg=lambda m, k=key: f"{k}: {m}"
            )


@pytest.mark.parametrize(("name", "choice"), CHOICES)
def test_equals_an_independent_computation(name, choice, base, states, experts, calibration):
    oracle = IMAGE_ORACLES[name]
    params = mb.get_method(name).check(**short(name, **oracle.choices[choice]))
    merged = mb.merge(name, experts, calibration, **params)
    expected = oracle.function(base, states, calibration, **params)
    assert set(expected) == set(states)
    assert_expected(merged, expected, experts, calibration, oracle.tolerance, base)


@pytest.mark.parametrize("name", METHODS)
def test_inputs_stay_and_seeds_repeat_also_in_a_row(name, base, states, experts, calibration):
    before = {key: value.clone() for key, value in base.items()}
    own = {key: value.clone() for key, value in states["one"].items()}
    merged = mb.merge(name, experts, calibration, **short(name))
    in_a_row, grid = mb.get_method(name).on(experts, calibration), mb.get_method(name).grid
    for key, values in grid.items():
        in_a_row(**{key: values[0]} | short(name))
    assert_same(merged, in_a_row(**short(name)), calibration)
    assert all(torch.equal(before[key], base[key]) for key in base)
    assert all(torch.equal(own[key], states["one"][key]) for key in base)
    assert not any(value.requires_grad for value in merged.stored()[0].values())


@pytest.mark.parametrize("name", METHODS)
def test_a_saved_solution_comes_back(name, experts, calibration, tmp_path):
    merged = mb.merge(name, experts, calibration, **short(name))
    path = merged.save(tmp_path / "merged.safetensors")
    again = mb.load_merged(path)
    assert_same(merged, again, calibration)
    assert (again.recipe, again.storage()) == (merged.recipe, merged.storage())
    assert merged.recipe["images"] == {task: len(calibration.inputs[task]) for task in merged.tasks}
    assert merged.recipe["split"] == calibration.split
    assert type(merged) is mb.get_method(name).gives
    content = path.read_bytes()
    header = 8 + struct.unpack("<Q", content[:8])[0]
    excess = 8 * (len(content) - header) - merged.storage().bits
    assert 0 <= excess <= 7 * len(merged.tasks) * len(experts.base)  # masks fill their last byte


@pytest.mark.parametrize("name", METHODS)
def test_what_is_missing_is_named(name, experts, calibration, base):
    with pytest.raises(MethodError, match=f"{name} needs"):
        mb.merge(name, experts)
    stranger = Experts(base, {"elsewhere": experts.expert("one")}, backbone="mini-small")
    with pytest.raises(MethodError, match="elsewhere"):
        mb.merge(name, stranger, calibration)
    other = Experts({"w": torch.zeros(2)}, {"one": {"w": torch.ones(2)}})
    with pytest.raises(CheckpointError, match="mini-small has a tensor 'class_embedding'"):
        mb.merge(name, other, calibration)
