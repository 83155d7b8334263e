"""Results of the data-free methods are those of the release that made the golden numbers."""

import numpy as np
import pytest
import torch

import mergebook as mb
from golden.golden import data_free, digest, draw, load, make
from mergebook.weights import Experts

# Relative to the root mean square of what a tensor gained. Another processor moves the numbers
# by less than a tenth of this; one entry in two hundred that moves by 0.2 % is seen.
TOLERANCE = 5e-5
GOLDEN = load()


@pytest.mark.parametrize("name", data_free())
def test_results_have_not_moved(name):
    assert name in GOLDEN, (
        f"{name} has no golden numbers. Where its oracle agrees, make them: "
        f"python tests/golden/golden.py {name}"
    )
    for record in GOLDEN[name]:
        base, experts, keys = draw(record["case"])
        merged = mb.merge(name, Experts(base, experts), **record["parameters"])
        what = f"{name}, {record['case']}, {record['parameters']}"
        assert merged.storage().bits == record["bits"], what
        sums = digest(merged, base, keys)
        assert sums.keys() == record["sums"].keys(), f"{what}: other tasks share their weights"
        for task, wanted in record["sums"].items():
            state = merged.state_dict(merged.tasks[0] if task == "all" else task)
            assert torch.equal(state["frozen"], base["frozen"]), what
            assert torch.equal(state["steps"], base["steps"]), what
            for key, got, number in zip(keys, sums[task], wanted, strict=True):
                size = float((state[key] - base[key]).square().mean().sqrt().nan_to_num())
                np.testing.assert_allclose(
                    got, number, rtol=0, atol=TOLERANCE * size + 1e-12, err_msg=f"{what}: {key}"
                )


def test_no_golden_numbers_are_left_over():
    assert set(GOLDEN) <= set(data_free())


@pytest.mark.parametrize("name", ["task_arithmetic", "tall_ta"])
def test_the_maker_makes_what_is_committed(name):
    made = make(name)
    assert [record | {"sums": None} for record in made] == [
        record | {"sums": None} for record in GOLDEN[name]
    ]


@pytest.mark.parametrize("name", ["task_arithmetic", "tsv_m", "fine_tuned"])
@pytest.mark.parametrize("position", [0, -1])
def test_a_change_of_one_entry_shows(name, position):
    """The digest of a result in which one entry of its largest tensor moved a little."""
    base, experts, keys = draw("tower")
    merged = mb.merge(name, Experts(base, experts))
    largest = max(keys, key=lambda key: base[key].numel())
    size = float((merged.state_dict(merged.tasks[-1])[largest] - base[largest]).square().mean())
    before = digest(merged, base, keys)
    base[largest].view(-1)[position] += 2e-3 * size**0.5
    for task, row in digest(merged, base, keys).items():
        moved = abs(row[keys.index(largest)] - before[task][keys.index(largest)])
        assert moved > TOLERANCE * size**0.5
