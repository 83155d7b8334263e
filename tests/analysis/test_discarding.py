"""What is left of a task vector: by plain sorts, and by T-Switch itself."""

import numpy as np
import pytest
import torch

import mergebook as mb
from blocks import SHAPES, block_experts
from comparison import assert_near
from mergebook.analysis import binarise, discard
from mergebook.errors import ParameterError

NAME = "transformer.resblocks.1.mlp.c_fc.weight"


def vectors(experts, key):
    return {t: (experts.expert(t)[key] - experts.base[key]).numpy() for t in experts.tasks}


@pytest.mark.parametrize("which", ["lowest", "highest", "random"])
@pytest.mark.parametrize("drop", [0.0, 0.1, 0.45, 0.6, 0.99, 1.0])
@pytest.mark.parametrize("rescale", [False, True])
def test_the_right_entries_go(which, drop, rescale):
    if rescale and drop == 1:
        pytest.skip("nothing is left to rescale")
    experts = block_experts()
    found = discard(experts, drop, which, rescale=rescale)
    for key in SHAPES:
        for before, after in zip(
            vectors(experts, key).values(), vectors(found, key).values(), strict=True
        ):
            for side in (1, -1):
                own = np.sort(np.abs(before[np.sign(before) == side]))
                kept = np.sign(after) == side
                assert kept.sum() == int(len(own) * (1 - drop))
                assert_near(
                    torch.from_numpy(after[kept]),
                    torch.from_numpy(before[kept] / (1 - drop if rescale else 1)),
                    1e-9,
                )
                if which != "random":
                    rest = own[len(own) - kept.sum() :] if which == "lowest" else own[: kept.sum()]
                    assert np.array_equal(np.sort(np.abs(before[kept])), rest)


def test_chance_is_of_each_task_and_tensor():
    experts = block_experts()
    one, two = (discard(experts, 0.5, "random", seed=seed) for seed in (0, 1))
    again = discard(experts.select(experts.tasks[1:]), 0.5, "random")
    task, other = experts.tasks[1:3]
    masks = [vectors(e, NAME)[task] != 0 for e in (one, two, again)]
    assert not np.array_equal(masks[0], masks[1]) and np.array_equal(masks[0], masks[2])
    assert not np.array_equal(masks[0], vectors(one, NAME)[other] != 0)


def test_only_chosen_tensors_lose_entries():
    experts = block_experts()
    found = discard(experts, 0.9, tensors=lambda name: "mlp" in name)
    for key in SHAPES:
        same = all(torch.equal(found.expert(t)[key], experts.expert(t)[key]) for t in found.tasks)
        assert same == ("mlp" not in key), key


@pytest.mark.parametrize(("per", "knob"), [("tensor", "tensor"), ("model", "task")])
def test_lowest_discarded_and_binarised_is_t_switch(per, knob):
    experts = block_experts()
    found = binarise(discard(experts, 0.6), per=per)
    expected = mb.merge("t_switch", experts, drop=0.6, knob=knob)
    for task in experts.tasks:
        for key, value in expected.state_dict(task).items():
            assert_near(found.expert(task)[key], value, 1e-6)


def test_rows_keep_their_norms():
    experts = discard(block_experts(), 0.6)
    found = binarise(experts, per="row")
    for key in SHAPES:
        for before, after in zip(
            vectors(experts, key).values(), vectors(found, key).values(), strict=True
        ):
            rows = (before.reshape(len(before), -1), after.reshape(len(after), -1))
            if before.ndim == 1:
                rows = tuple(each.reshape(1, -1) for each in rows)
            for row, flat in zip(*rows, strict=True):
                assert np.linalg.norm(row) == pytest.approx(np.linalg.norm(flat), rel=1e-6)
                sizes = np.abs(flat[flat != 0])
                assert len(sizes) == 0 or np.ptp(sizes) <= 1e-6 * sizes.max()
                assert np.array_equal(np.sign(row), np.sign(flat))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda e: discard(e, 0.5, "low"), "lowest"),
        (lambda e: discard(e, 1.5), "from 0 to 1"),
        (lambda e: discard(e, 1.0, rescale=True), "below 1 with rescale"),
        (lambda e: binarise(e, per="head"), "tensor"),
    ],
)
def test_bad_choices_are_refused(call, message):
    with pytest.raises(ParameterError, match=message):
        call(block_experts())
