"""The leaderboard: tuned like the benchmark's own search, costs counted by hand."""

import pandas as pd
import pytest
import torch

import mergebook as mb
from mergebook.errors import ExperimentError
from mergebook.evaluation import PeakMemory, Setting, leaderboard
from mergebook.evaluation.leaderboard import LENGTHS, budgeted, measure, seeds_of, tune

SETTING = Setting(num_tasks=2, steps=4, test_size=30, validation_size=20, calibration_size=8)


@pytest.fixture(scope="module")
def boards(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MERGEBOOK_CHECKPOINTS", str(tmp_path_factory.mktemp("checkpoints")))
        names = ["task_arithmetic", "tall_ta"]
        yield leaderboard(SETTING, num_tasks=[2, 1], seeds=[0, 1], methods=names, jobs=1)


def test_every_size_and_seed_has_every_method_and_the_experts(boards):
    assert list(boards) == [(1, 0), (1, 1), (2, 0), (2, 1)]
    for (size, seed), board in boards.items():
        assert list(board.entries) == ["fine_tuned", "task_arithmetic", "tall_ta"]
        assert (len(board.bench.suite), board.bench.seed) == (size, seed)


def test_an_entry_is_what_the_benchmark_measures_by_itself(boards):
    board = boards[2, 0]
    entry = board.entries["task_arithmetic"]
    search = board.bench.search("task_arithmetic")
    assert entry.params == search.params
    assert entry.curve.equals(search.curve)
    alone = board.bench.correct(search.model)
    assert all((entry.correct[task] == alone[task]).all() for task in alone)
    assert entry.storage == search.model.storage()
    per_task = board.bench.search_per_task(
        "tall_ta", "threshold", mb.get_method("tall_ta").grid["threshold"]
    )
    assert board.entries["tall_ta"].params == per_task.params


def test_further_seeds_take_the_parameters_of_the_first(boards):
    first, second = boards[2, 0].entries, boards[2, 1].entries
    for name in first:
        assert first[name].params == second[name].params
        assert second[name].curve.empty
    frame = boards[2, 1].summary()
    assert {"seconds", "peak_mib", "inference_ratio", "storage", "suite"} <= set(frame)
    assert (frame["seconds"] > 0).all()
    assert frame.set_index("method")["storage"]["tall_ta"] == "32(2P'+F) + TP'"


def test_fixed_parameters_are_not_searched(boards):
    bench = boards[1, 0].bench
    assert tune(bench, "task_arithmetic", scale=0.5) is None
    assert tune(bench, "averaging") is None
    entry = measure(bench, "task_arithmetic", {"scale": 0.5}, pd.DataFrame())
    assert (entry.params, len(entry.curve)) == ({"scale": 0.5}, 0)


def test_images_are_taken_from_the_first_seed_only():
    assert seeds_of(mb.get_method("ties"), [3, 4]) == [3, 4]
    with_images = [name for name in mb.list_methods() if mb.get_method(name).needs]
    for name in with_images:
        assert seeds_of(mb.get_method(name), [3, 4]) == [3]


def test_a_budget_shortens_training_and_nothing_else():
    for name in mb.list_methods():
        method = mb.get_method(name)
        assert budgeted(method, 1.0) == {}
        lengths = {p.name: p.default for p in method.parameters if p.name in LENGTHS}
        expected = {key: max(1, round(0.5 * n)) for key, n in lengths.items()}
        assert budgeted(method, 0.5) == (expected if method.needs else {})
    with pytest.raises(ExperimentError, match="budget"):
        budgeted(mb.get_method("ties"), 0)


def test_bad_input_is_named():
    with pytest.raises(ExperimentError, match="num_tasks 3"):
        leaderboard(SETTING, num_tasks=[3])
    with pytest.raises(ExperimentError, match="'nonsense'"):
        leaderboard(SETTING, num_tasks=[2], methods=["nonsense"])


def test_peak_memory_by_hand():
    given = torch.ones(1000)
    with PeakMemory() as memory:
        one = given * 2  # 4,000 bytes
        view = one[:500].view(5, 100)
        view += 1  # in place
        assert (memory.live, memory.peak) == (4000, 4000)
        two = torch.zeros(500, dtype=torch.float64)  # 4,000 more
        del one, view
        assert memory.live == 4000
        three = two.clone()
        del two, three
    assert (memory.live, memory.peak) == (0, 8000)
    given += 1
    assert memory.peak == 8000
