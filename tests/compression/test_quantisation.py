"""TVQ and RTVQ: grids by hand, the bound on the error, and what is written."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import mergebook as mb
from mergebook.compression.quantisation import quantise
from mergebook.errors import CheckpointError, MethodError
from mergebook.merged import QuantisedModel, rebuilt_experts
from mergebook.merged.packing import pack_codes, unpack_codes
from mergebook.merged.quantised import dequantise
from mergebook.weights import Experts
from strategies import cases, reals

FLOATS = st.floats(-1e6, 1e6, width=32)


def experts(*vectors, base=0.0) -> Experts:
    start = {"w": torch.full((len(vectors[0]),), base)}
    return Experts(
        start, {f"task{t}": {"w": base + torch.tensor(v)} for t, v in enumerate(vectors)}
    )


def test_grid_by_hand():
    # Two bits: step (4 - -2) / 3 = 2, grid -2, 0, 2, 4; halves go up.
    merged = mb.merge("tvq", experts([-2.0, -1.0, 0.0, 0.5, 1.0, 4.0]), bits=2)
    assert isinstance(merged, QuantisedModel)
    assert merged.grids["w"].tolist() == [[2, -1]]
    assert merged.vector("task0", "w").tolist() == [-2, 0, 0, 0, 2, 4]


def test_zero_stays_zero_although_the_range_is_lopsided():
    merged = mb.merge("tvq", experts([-0.7, 0.0, 2.0, 0.0, 1.1]), bits=3)
    assert merged.vector("task0", "w")[[1, 3]].tolist() == [0, 0]


@given(values=st.lists(FLOATS, min_size=1, max_size=20), bits=st.integers(1, 8))
def test_error_is_at_most_half_a_step(values, bits):
    values = torch.tensor([values])
    codes, grids = quantise(values, bits)
    assert int(codes.min()) >= 0
    assert int(codes.max()) < 2**bits
    error = (dequantise(codes[0], grids[0]).double() - values[0].double()).abs().max()
    span = float(values.double().max() - values.double().min())
    rounding = 2 * torch.finfo(torch.float32).eps * float(values.abs().max())
    assert float(error) <= span / (2 * (2**bits - 1)) * (1 + 1e-5) + rounding


@pytest.mark.parametrize("value", [0.0, 3.7, -0.001, 1e-30])
def test_a_constant_tensor_is_exact(value):
    values = torch.full((2, 5), value)
    codes, grids = quantise(values, 2)
    assert torch.equal(dequantise(codes[1], grids[1]), values[1])


def test_what_lies_on_the_grid_is_exact():
    vector = [-1.5, -1.0, 0.0, 0.5, 2.0]  # multiples of the step 3.5 / 7
    merged = mb.merge("tvq", experts(vector, base=4.0), bits=3)
    assert merged.state_dict("task0")["w"].tolist() == [4 + x for x in vector]


@given(case=cases(elements=reals), bits=st.integers(1, 8))
def test_more_bits_have_a_smaller_bound_and_eight_come_close(case, bits):
    loaded = case.load()
    merged = mb.merge("tvq", loaded, bits=bits)
    for task in loaded.tasks:
        for key in merged.table:
            delta = (case.experts[task][key] - case.base[key]).double()
            error = (merged.vector(task, key).double() - delta).abs().max()
            step = float(delta.max() - delta.min()) / (2**bits - 1)
            assert float(error) <= step / 2 * (1 + 1e-5) + 1e-6 * float(delta.abs().max())


def test_rtvq_by_hand():
    # Mean (0, 3, 6): exact with 2 bits (step 2: 0, 4, 6). Offsets are taken from the rounded mean.
    loaded = experts([-1.0, 3.0, 6.0], [1.0, 3.0, 6.0])
    merged = mb.merge("rtvq", loaded, bits=1, base_bits=2)
    # Mean on the grid is (0, 4, 6); offsets (-1, -1, 0) and (1, -1, 0).
    assert merged.vector("task0", "w").tolist() == [-1, 3, 6]
    # Step 2 from -1: first = floor(-1/2 + 1/2) = 0; 1 -> 2, -1 -> 0, 0 -> 0.
    assert merged.vector("task1", "w").tolist() == [2, 4, 6]
    plain = mb.merge("rtvq", loaded, bits=1, base_bits=2, error_correction=False)
    # Offsets (-1, 0, 0) from the mean itself, added to the rounded one.
    assert plain.vector("task0", "w").tolist() == [-1, 4, 6]


@given(case=cases(min_tasks=2, elements=reals), bits=st.integers(1, 8))
def test_error_correction_leaves_only_the_error_of_the_offsets(case, bits):
    loaded = case.load()
    merged = mb.merge("rtvq", loaded, bits=bits, base_bits=1)
    for row, task in enumerate(loaded.tasks):
        for key in merged.table:
            delta = (case.experts[task][key] - case.base[key]).double()
            error = float((merged.vector(task, key).double() - delta).abs().max())
            step = float(merged.grids[key][row, 0])
            largest = max(float(loaded.layer(key).deltas.abs().max()), 1e-30)
            # A single value or a range of zero has the step of its magnitude and no error.
            assert error <= step / 2 * (1 + 1e-5) + 1e-5 * largest


@given(case=cases(elements=reals))
def test_whole_weights_can_be_quantised_and_need_no_base(case):
    loaded = case.load()
    merged = mb.merge("tvq", loaded, bits=8, target="expert")
    assert not set(merged.base) & set(loaded.trained)
    for task in loaded.tasks:
        state = merged.state_dict(task)
        for key in merged.table:
            expert = case.experts[task][key].double()
            step = float(expert.max() - expert.min()) / 255
            error = float((state[key].double() - expert).abs().max())
            assert error <= step / 2 * (1 + 1e-5) + 1e-6 * float(expert.abs().max())


def test_storage_by_hand():
    base = {"w": torch.zeros(7), "v": torch.zeros(3), "frozen": torch.zeros(2)}
    states = {t: base | {"w": torch.rand(7), "v": torch.rand(3)} for t in ("one", "two", "three")}
    loaded = Experts(base, states)
    grids = 2 * 32  # per tensor and task
    assert mb.merge("tvq", loaded, bits=3).storage().bits == (
        32 * 12 + 3 * 3 * 10 + 2 * 3 * grids
    )  # fmt: skip
    assert mb.merge("tvq", loaded, bits=3, target="expert").storage().bits == (
        32 * 2 + 3 * 3 * 10 + 2 * 3 * grids
    )  # fmt: skip
    storage = mb.merge("rtvq", loaded).storage()
    assert storage.bits == 32 * 12 + (2 * 3 + 3) * 10 + 2 * 4 * grids
    assert storage.expression == "32(P'+F) + (2T+3)P' + 32N"
    # The published effective widths: b_task + b_base / T.
    codes = {part.name: part.count * part.bits for part in storage.parts}
    assert (codes["codes"] + codes["shared codes"]) / (3 * 10) == 2 + 3 / 3


def test_the_rebuilt_experts_can_be_merged():
    loaded = experts([-2.0, -1.0, 0.0, 4.0], [1.0, 0.0, 0.0, 2.0], base=1.0)
    merged = mb.merge("tvq", loaded, bits=2)
    again = rebuilt_experts(merged, loaded)
    assert again.tasks == loaded.tasks
    summed = mb.merge("task_arithmetic", again, scale=0.5).state_dict()["w"]
    parts = merged.vector("task0", "w") + merged.vector("task1", "w")
    torch.testing.assert_close(summed, 1 + 0.5 * parts)


# ---------------------------------------------------------------------- packing


@given(data=st.data())
def test_packed_groups_are_the_digits_one_after_the_other(data):
    groups = []
    for _ in range(data.draw(st.integers(1, 3))):
        bits = data.draw(st.integers(1, 8))
        groups.append((data.draw(st.lists(st.integers(0, 2**bits - 1), max_size=12)), bits))
    packed = pack_codes(*((torch.tensor(x, dtype=torch.uint8), bits) for x, bits in groups))
    text = "".join(format(x, f"0{bits}b") for numbers, bits in groups for x in numbers)
    padded = text.ljust(8 * math.ceil(len(text) / 8), "0")
    assert "".join(format(byte, "08b") for byte in packed.tolist()) == padded
    start = 0
    for numbers, bits in groups:
        assert unpack_codes(packed, bits, (len(numbers),), start).tolist() == numbers
        start += bits * len(numbers)


def test_bad_input_is_named():
    with pytest.raises(CheckpointError, match=r"2 bytes are too few.*\(3, 2\) at 3 bits"):
        unpack_codes(torch.zeros(2, dtype=torch.uint8), 3, (3, 2))
    with pytest.raises(MethodError, match="unknown task 'nobody'"):
        mb.merge("tvq", experts([1.0, 2.0])).state_dict("nobody")
