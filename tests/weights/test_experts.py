"""Experts: counting, streaming, and refusing what does not fit."""

import re

import pytest
import torch
from hypothesis import given

import mergebook as mb
from mergebook.errors import CheckpointError, MergebookError
from mergebook.weights import Checkpoint, Experts, save_checkpoint, sum_tasks
from strategies import cases

METHODS = [name for name in mb.list_methods() if not mb.get_method(name).needs]


def state(**changes) -> dict:
    """A small state dict; entries may be replaced, or removed with None."""
    full = {
        "a.weight": torch.arange(6.0).reshape(2, 3),
        "b.bias": torch.ones(3),
        "frozen": torch.zeros(4, dtype=torch.float16),
        "steps": torch.tensor(7),
    }
    full |= changes
    return {key: tensor for key, tensor in full.items() if tensor is not None}


def trained(**changes) -> dict:
    return state(**{"a.weight": torch.full((2, 3), 2.0)} | changes)


def test_counts_only_what_an_expert_changed():
    experts = Experts(state(), {"one": trained(), "two": state()})
    assert experts.tasks == ("one", "two")
    assert experts.trained == ("a.weight",)
    assert (experts.num_trained, experts.num_frozen, experts.num_entries) == (6, 8, 6)
    assert experts.sizes.trained == {32: 6}
    assert experts.sizes.frozen == {32: 3, 16: 4, 64: 1}


def test_stored_entries_and_entries_outside_the_files():
    experts = Experts(state(), {"one": trained()}, entries="stored", frozen_extra=100)
    assert (experts.num_trained, experts.num_frozen, experts.num_entries) == (6, 108, 114)
    assert experts.trained == ("a.weight",)
    alone = Experts({"w": torch.zeros(2)}, {"one": {"w": torch.ones(2)}}, frozen_extra=5)
    assert (alone.num_entries, alone.sizes.frozen) == (2, {32: 5})


def test_layers_are_differences_in_task_order():
    both = {"b.bias": torch.tensor([1.0, 2.0, 3.0])}
    experts = Experts(state(), {"one": trained(), "two": trained(**both)})
    layers = list(experts)
    assert [layer.name for layer in layers] == ["a.weight", "b.bias"]
    layer = layers[1]
    assert layer.deltas.tolist() == [[0, 0, 0], [0, 1, 2]]
    assert layer.total.tolist() == [0, 1, 2]
    assert (layer.ndim, layer.numel, layer.num_tasks, layer.tasks) == (1, 3, 2, ("one", "two"))
    assert layer.per_task({"two": 2.0, "one": 1.0}).tolist() == [[1], [2]]
    assert layer.per_task(3).tolist() == [[3], [3]]


def test_half_precision_is_subtracted_in_float32():
    base, expert = torch.tensor([1.0]), torch.tensor([1.0078125])
    experts = Experts(
        {"w": base.bfloat16()}, {"one": {"w": expert.bfloat16()}, "two": {"w": base.bfloat16()}}
    )
    layer = experts.layer("w")
    assert (layer.base.dtype, layer.deltas.dtype) == (torch.float32, torch.float32)
    assert layer.deltas.tolist() == [[0.0078125], [0.0]]


def test_double_precision_is_kept():
    tiny = 1 + 1e-12
    experts = Experts(
        {"w": torch.ones(1, dtype=torch.float64), "v": torch.ones(1)},
        {"one": {"w": torch.full((1,), tiny, dtype=torch.float64), "v": torch.zeros(1)}},
    )
    assert experts.layer("w").deltas.item() == tiny - 1
    assert experts.layer("v").deltas.dtype == torch.float64


@given(case=cases())
def test_sum_in_task_order_equals_any_sum_on_a_grid(case):
    for layer in case.load():
        assert torch.equal(sum_tasks(layer.deltas), layer.deltas.sum(0))


def test_select_keeps_the_order_given_and_counts_anew():
    changed = trained(**{"b.bias": torch.zeros(3)})
    experts = Experts(
        state(), {"one": trained(), "two": changed}, entries="stored", backbone="mini-small"
    )
    assert experts.trained == ("a.weight", "b.bias")
    part = experts.select(["two", "one"])
    assert part.tasks == ("two", "one")
    only = experts.select(["one"])
    assert only.trained == ("a.weight",)
    assert (only.entries, only.backbone) == ("stored", "mini-small")
    with pytest.raises(CheckpointError, match=r"unknown task 'three'.*one, two"):
        experts.select(["three"])
    with pytest.raises(CheckpointError, match="at least one expert"):
        experts.select([])


def test_backbone_comes_from_the_metadata_of_the_base(tmp_path):
    path = save_checkpoint(state(), tmp_path / "base.safetensors", {"backbone": "mini-large"})
    assert Experts(path, {"one": trained()}).backbone == "mini-large"
    assert Experts(Checkpoint(path), {"one": trained()}).backbone == "mini-large"
    assert Experts(path, {"one": trained()}, backbone="other").backbone == "other"
    assert Experts(state(), {"one": trained()}).backbone is None


def test_parameters_that_require_gradients_are_fine():
    base = {"w": torch.nn.Parameter(torch.zeros(3))}
    experts = Experts(base, {"one": {"w": torch.nn.Parameter(torch.ones(3))}})
    for name in METHODS:
        assert not mb.merge(name, experts).state_dict("one")["w"].requires_grad


# ---------------------------------------------------------------------- bad input


def refused(base, experts, **options) -> str:
    with pytest.raises(CheckpointError) as caught:
        Experts(base, experts, **options)
    assert isinstance(caught.value, MergebookError)
    return str(caught.value)


def test_no_experts():
    assert "at least one expert" in refused(state(), {})


def test_missing_and_damaged_files_are_named(tmp_path):
    base = save_checkpoint(state(), tmp_path / "base.safetensors")
    assert "none.safetensors" in refused(base, {"one": tmp_path / "none.safetensors"})
    damaged = tmp_path / "damaged.safetensors"
    damaged.write_bytes(base.read_bytes()[:-5])
    assert "damaged.safetensors" in refused(base, {"one": str(damaged)})


def test_other_architecture_names_a_few_tensors(tmp_path):
    many = {f"new{i}": torch.zeros(1) for i in range(9)}
    other = save_checkpoint(state(**many, frozen=None), tmp_path / "other.safetensors")
    message = refused(state(), {"one": trained(), "cars": other})
    assert message.startswith(f"expert 'cars' ({other}) does not fit the base: ")
    assert "1 missing (frozen)" in message
    assert "9 unexpected (new0, new1, new2, new3, new4 and 4 more)" in message


def test_shape_and_type_mismatch_name_the_tensor():
    message = refused(state(), {"cars": trained(**{"a.weight": torch.zeros(3, 2)})})
    assert "expert 'cars'" in message
    assert "'a.weight' has shape (3, 2), expected (2, 3)" in message
    message = refused(state(), {"cars": trained(frozen=torch.zeros(4))})
    assert "'frozen' has type torch.float32, expected torch.float16" in message


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("name", METHODS)
def test_nan_and_infinity_are_found_when_read(name, bad, tmp_path):
    broken = state()["a.weight"].clone()
    broken[1, 1] = bad
    path = save_checkpoint(trained(**{"a.weight": broken}), tmp_path / "cars.safetensors")
    experts = Experts(state(), {"one": trained(), "cars": path})
    with pytest.raises(CheckpointError, match=r"'cars' \(.*cars.safetensors\): tensor 'a.weight'"):
        mb.merge(name, experts)
    experts = Experts(trained(**{"a.weight": broken}), {"one": trained(), "two": state()})
    with pytest.raises(CheckpointError, match=r"^base: tensor 'a.weight' holds"):
        mb.merge(name, experts)


def test_infinity_in_a_frozen_tensor_is_found():
    frozen = torch.full((4,), torch.inf, dtype=torch.float16)
    with pytest.raises(CheckpointError, match="base: tensor 'frozen' holds 4 values"):
        list(Experts(state(frozen=frozen), {"one": trained(frozen=frozen)}))


def test_large_values_are_fine_until_their_difference_overflows():
    large = torch.full((1000,), 3e38)
    experts = Experts({"w": torch.zeros(1000)}, {"one": {"w": large}, "two": {"w": large}})
    assert torch.equal(experts.layer("w").deltas[1], large)
    experts = Experts({"w": -large}, {"one": {"w": large}})
    with pytest.raises(CheckpointError, match="difference between expert 'one' and the base"):
        experts.layer("w")


def test_results_beyond_the_type_of_the_base_are_refused():
    large = torch.full((2,), 6e4, dtype=torch.float16)
    experts = Experts({"w": torch.zeros_like(large)}, {"one": {"w": large}, "two": {"w": large}})
    with pytest.raises(CheckpointError, match=r"'w' came out with .*beyond torch.float16"):
        mb.merge("task_arithmetic", experts, scale=1.0)


def test_result_of_another_shape_is_refused():
    experts = Experts(state(), {"one": trained()})
    with pytest.raises(CheckpointError, match=r"'a.weight' came out with shape \(3,\)"):
        experts.to_base("a.weight", torch.zeros(3))


def test_integers_cannot_be_merged():
    with pytest.raises(CheckpointError, match=r"'steps' is torch.int64.*expert 'one' changed it"):
        list(Experts(state(), {"one": trained(steps=torch.tensor(8))}))


def test_odd_inputs():
    assert "holds no tensors" in refused({}, {"one": {}})
    assert "base must be a Checkpoint" in refused(torch.nn.Linear(2, 2), {"one": state()})
    assert "entry 'a.weight' is a ndarray" in refused(
        state(), {"one": trained(**{"a.weight": torch.zeros(2, 3).numpy()})}
    )
    assert "did you mean 'trained'" in refused(state(), {"one": state()}, entries="traind")
    assert "must not be negative" in refused(state(), {"one": state()}, frozen_extra=-1)


@pytest.mark.parametrize(
    ("experts", "message"),
    [
        ([trained()], r"must be a mapping from the task's name to its weights.*got list"),
        (None, "got NoneType"),
        ({3: trained()}, "a task's name must be a text that is not empty, got 3"),
        ({"": trained()}, "a task's name must be a text that is not empty, got ''"),
        ({"cars": {**trained(), 3: torch.ones(1)}}, "expert 'cars': the name 3 is a int"),
        ({"cars": trained(**{"b.bias": torch.ones(3, device="meta")})}, "'b.bias' has no values"),
        ({"cars": trained(**{"b.bias": torch.ones(3).to_sparse()})}, "'b.bias' is not dense"),
        (
            {"cars": trained(**{"b.bias": torch.ones(3).to(torch.float8_e5m2)})},
            "expert 'cars': tensor 'b.bias' has the unsupported element type torch.float8_e5m2",
        ),
    ],
)
def test_experts_that_are_none(experts, message):
    assert re.search(message, refused(state(), experts))


@pytest.mark.parametrize(
    "options",
    [{"frozen_extra": odd} for odd in (10**30, 1.5, True)] + [{"progress": 3}, {"entries": []}],
)
def test_odd_options(options):
    assert next(iter(options)).split("_")[0] in refused(state(), {"one": trained()}, **options)
