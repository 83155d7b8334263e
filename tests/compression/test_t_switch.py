"""T-Switch: what is discarded, the norm that knobs give back, and the code that is written."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import mergebook as mb
from mergebook.compression.t_switch import codings, switch
from mergebook.errors import CheckpointError, MethodError, ParameterError
from mergebook.merged import SwitchedModel, rebuilt_experts
from mergebook.merged.switched import count_bits, decode, encode, smallest_group
from mergebook.weights import Experts
from strategies import cases, reals

VECTOR = [5.0, 1.0, 0.0, 3.0, -1.0, -2.0, 2.0, 0.0, -6.0]


def experts(*vectors) -> Experts:
    base = {"w": torch.full((len(vectors[0]),), 10.0)}
    return Experts(base, {f"task{t}": {"w": 10.0 + torch.tensor(v)} for t, v in enumerate(vectors)})


def test_rule_by_hand():
    # Four positive entries, of which 2 stay, and three negative ones, of which 1 stays.
    merged = mb.merge("t_switch", experts(VECTOR), drop=0.5)
    knob = math.sqrt((25 + 9 + 36) / 3)
    assert isinstance(merged, SwitchedModel)
    assert merged.levels("task0", "w").tolist() == [1, 0, 0, 1, 0, 0, 0, 0, -1]
    assert merged.knobs.flatten().tolist() == pytest.approx([knob])
    assert merged.vector("task0", "w").tolist() == pytest.approx(
        [knob, 0, 0, knob, 0, 0, 0, 0, -knob]
    )
    assert merged.state_dict("task0")["w"][8].item() == pytest.approx(10 - knob)


def test_equal_entries_all_stay_in_the_released_code_only():
    vector = [2.0, 1.0, 1.0, 1.0]
    kept = {
        rule: mb.merge("t_switch", experts(vector), drop=0.5, rule=rule).levels("task0", "w")
        for rule in ("exact", "released")
    }
    assert kept["exact"].tolist() == [1, 1, 0, 0]
    assert kept["released"].tolist() == [1, 1, 1, 1]


def test_a_side_that_would_keep_nothing_stays_whole_in_the_released_code_only():
    vector = [4.0, 3.0, 2.0, -1.0]  # of one negative entry, floor(0.5) = 0 stay
    exact = mb.merge("t_switch", experts(vector), drop=0.5)
    released = mb.merge("t_switch", experts(vector), drop=0.5, rule="released")
    assert exact.levels("task0", "w").tolist() == [1, 0, 0, 0]
    assert released.levels("task0", "w").tolist() == [1, 0, 0, -1]


@given(case=cases(elements=reals), drop=st.floats(0, 1))
def test_counts_order_and_norm(case, drop):
    loaded = case.load()
    merged = mb.merge("t_switch", loaded, drop=drop)
    for task in loaded.tasks:
        for key in merged.layout:
            delta = (case.experts[task][key] - case.base[key]).double()
            vector, levels = merged.vector(task, key).double(), merged.levels(task, key)
            assert torch.equal(levels.sign().double(), vector.sign())
            for sign in (1, -1):
                side, on = delta.sign() == sign, levels == sign
                assert int(on.sum()) == int(int(side.sum()) * (1 - drop))
                if on.any() and (side & ~on).any():
                    assert delta[on].abs().min() >= delta[side & ~on].abs().max()
            norm = float((delta * levels.abs()).norm())
            assert float(vector.norm()) == pytest.approx(norm, rel=1e-5)
            assert len(vector[vector != 0].abs().unique()) <= 1


@given(case=cases(elements=reals))
def test_one_knob_per_task_gives_back_the_norm_of_the_whole(case):
    loaded = case.load()
    each, whole = (mb.merge("t_switch", loaded, knob=knob) for knob in ("tensor", "task"))
    for row, task in enumerate(loaded.tasks):
        norms = [
            math.sqrt(sum(float(m.vector(task, k).double().square().sum()) for k in m.layout))
            for m in (each, whole)
        ]
        assert norms[1] == pytest.approx(norms[0], rel=1e-5)
        for layer in loaded:
            levels, vector = whole.levels(task, layer.name), whole.vector(task, layer.name)
            assert torch.equal(each.levels(task, layer.name), levels)
            assert torch.equal(vector, levels * whole.knobs[0, row, 0])


def test_everything_dropped_is_the_base_and_nothing_dropped_keeps_all_signs():
    loaded = experts(VECTOR, VECTOR[::-1])
    nothing = mb.merge("t_switch", loaded, drop=1.0)
    assert torch.equal(nothing.state_dict("task1")["w"], loaded.base["w"])
    everything = mb.merge("t_switch", loaded, drop=0.0)
    assert everything.levels("task0", "w").tolist() == [math.copysign(1, x) if x else 0
                                                        for x in VECTOR]  # fmt: skip


def test_the_switch_of_a_layer_is_what_the_solution_holds():
    loaded = experts(VECTOR, VECTOR[::-1])
    merged = mb.merge("t_switch", loaded, drop=0.3)
    own = switch(loaded.layer("w"), 0.3)
    for row, task in enumerate(loaded.tasks):
        vector = own.knobs[row] * own.signs[row]
        assert torch.equal(merged.vector(task, "w"), vector.float())


def test_the_rebuilt_vectors_can_be_merged_in_turn():
    loaded = experts(VECTOR, VECTOR[::-1])
    merged = mb.merge("t_switch", loaded)
    summed = mb.merge("task_arithmetic", rebuilt_experts(merged, loaded), scale=0.5)
    wanted = 10 + 0.5 * (merged.vector("task0", "w") + merged.vector("task1", "w"))
    torch.testing.assert_close(summed.state_dict()["w"], wanted)


# ---------------------------------------------------------------------- the code


def by_hand(levels: list[int], bits: int, group_size: int) -> str:
    """The stream as text: flags, masks, entries."""
    groups = [levels[i : i + group_size] for i in range(0, len(levels), group_size)]
    flags = "".join("1" if any(group) else "0" for group in groups)
    masks = ""
    if group_size > 1:
        for group in groups:
            if any(group):
                masks += "".join("01"[x != 0] for x in group).ljust(group_size, "0")
    entries = "".join(
        "01"[x < 0] + (format(abs(x) - 1, f"0{bits - 1}b") if bits > 1 else "") for x in levels if x
    )
    return flags + masks + entries


@st.composite
def coded(draw):
    bits = draw(st.integers(1, 8))
    level = st.integers(1, 2 ** (bits - 1)).flatmap(lambda x: st.sampled_from((x, -x)))
    levels = draw(st.lists(st.one_of(st.just(0), st.just(0), level), max_size=40))
    return levels, bits, draw(st.integers(1, 9))


@given(case=coded())
def test_streams_are_read_back_and_written_by_the_rule(case):
    levels, bits, group_size = case
    tensor = torch.tensor(levels, dtype=torch.int16)
    stream = encode(tensor, bits, group_size)
    text = by_hand(levels, bits, group_size)
    assert "".join(format(byte, "08b") for byte in stream.tolist()) == text.ljust(
        8 * math.ceil(len(text) / 8), "0"
    )
    assert decode(stream, bits, group_size, (len(levels),)).tolist() == levels
    count = count_bits(stream, group_size, (len(levels),))
    assert count.kept == sum(x != 0 for x in levels)
    assert count.flags + count.masks + bits * count.kept == len(text)


@given(case=coded())
def test_the_smallest_group_is_the_best_of_all(case):
    levels, _, _ = case
    rows = torch.tensor([levels, levels[::-1]])
    lengths = {
        size: sum(len(by_hand(row.tolist(), 1, size)) for row in rows) for size in (1, 2, 4, 8, 16)
    }
    assert lengths[smallest_group(rows)] == min(lengths.values())


def test_a_stream_of_another_tensor_is_refused():
    stream = encode(torch.ones(5, 7, dtype=torch.int8), 1, 4)
    with pytest.raises(CheckpointError, match=r"coded vector of \d+ bytes.*\(5, 90\)"):
        decode(stream, 1, 4, (5, 90))
    with pytest.raises(CheckpointError, match=r"coded vector of \d+ bytes.*\(2,\)"):
        decode(stream, 1, 4, (2,))


@pytest.mark.parametrize("group_size", [1, 3, 4, 64])
def test_storage_by_hand_and_groups_that_do_not_divide(group_size):
    loaded = experts(VECTOR, [0.0] * 8 + [1.0])
    merged = mb.merge("t_switch", loaded, drop=0.5, group_size=group_size)
    wanted = [1, 0, 0, 1, 0, 0, 0, 0, -1]
    assert merged.levels("task0", "w").tolist() == wanted
    # Of the second task's one entry, floor(0.5) = 0 stay.
    streams = len(by_hand(wanted, 1, group_size)) + len(by_hand([0] * 9, 1, group_size))
    assert merged.storage().bits == 32 * 9 + streams + 2 * 32
    assert merged.storage().symbols["K"] == 3
    assert mb.merge("t_switch", loaded, knob="task").knobs.shape == (1, 2, 1)


@given(case=cases(), drop=st.floats(0, 1), group_size=st.sampled_from([1, 3, 4, 64]))
def test_the_file_has_the_bytes_of_the_formula(tmp_path_factory, case, drop, group_size):
    merged = mb.merge("t_switch", case.load(), drop=drop, group_size=group_size)
    data = merged.save(tmp_path_factory.mktemp("file") / "switches.safetensors").read_bytes()
    tensors = len(data) - 8 - int.from_bytes(data[:8], "little")
    # Each task's stream of bits is filled up to a whole byte, tensor by tensor.
    most = sum(len(merged.counts(task)) for task in merged.tasks)
    assert merged.storage().bits / 8 <= tensors <= merged.storage().bits / 8 + most


def test_codings_by_hand():
    merged = mb.merge("t_switch", experts(VECTOR), drop=0.5)
    bits = codings(merged)
    assert bits["bitmap"] == 9 + 3
    assert bits["groups"] == len(by_hand([1, 0, 0, 1, 0, 0, 0, 0, -1], 1, 4)) == 3 + 8 + 3
    shares = {6: 6 / 9, 2: 2 / 9, 1: 1 / 9}  # zero, positive, negative
    assert bits["entropy"] == pytest.approx(sum(-n * math.log2(p) for n, p in shares.items()))


@given(case=cases(), drop=st.floats(0, 1))
def test_no_code_beats_the_entropy(case, drop):
    bits = codings(mb.merge("t_switch", case.load(), drop=drop, group_size=4))
    assert bits["entropy"] <= min(bits["bitmap"], bits["groups"]) + 1e-9


def test_bad_input_is_named():
    merged = mb.merge("t_switch", experts(VECTOR))
    with pytest.raises(MethodError, match="unknown task 'task9'"):
        merged.vector("task9", "w")
    with pytest.raises(MethodError, match="differs by task"):
        merged.state_dict()
    with pytest.raises(ParameterError, match=r"t_switch: drop=1.5"):
        mb.merge("t_switch", experts(VECTOR), drop=1.5)
