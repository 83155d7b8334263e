"""Protocols of papers: what is tuned, and what is reused."""

import pytest

import mergebook as mb
from mergebook.errors import ExperimentError
from mergebook.evaluation import compare_masks


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MERGEBOOK_CHECKPOINTS", str(tmp_path_factory.mktemp("checkpoints")))
        suite = mb.load_suite().select(["shapes", "cells", "signs"])
        yield mb.Benchmark(suite, steps=4, test_size=30, validation_size=20)


def test_consensus_reuses_the_thresholds_of_the_masks(bench):
    run = compare_masks(bench, [0.3, 1.0], [0.3, 0.6])
    assert list(run.entries)[-1] == "fine_tuned"
    for mask, consensus in (("tall_ta", "consensus_ta"), ("tall_ties", "consensus_ties")):
        chosen = run.entries[mask].params["threshold"]
        assert set(chosen) == set(bench.suite.names)
        assert run.entries[consensus].params["threshold"] == chosen
        assert run.entries[consensus].params["scale"] in (0.3, 1.0)
        alone = compare_masks(bench, [0.3, 1.0], [0.3, 0.6], [consensus])
        assert alone.entries[consensus].params == run.entries[consensus].params
    assert set(run.entries["task_arithmetic"].params) == {"scale"}
    assert run.entries["averaging"].params == {}


def test_only_the_papers_methods(bench):
    with pytest.raises(ExperimentError, match="cart"):
        compare_masks(bench, [1.0], [0.4], ["cart"])


def test_subsets_of_tasks(bench):
    assert [part.suite.names for part in bench.subsets(3, 5)] == [bench.suite.names]
    parts = bench.subsets(2, 4)
    assert parts[0].suite.names == bench.suite.names[:2]
    assert len(parts) == 4
    for part in parts:
        assert part.experts.tasks == part.suite.names
        assert list(part.suite.names) == [n for n in bench.suite.names if n in part.suite.names]
    again = bench.subsets(2, 4)
    assert [p.suite.names for p in parts] == [p.suite.names for p in again]


def test_counting_other_entries(bench):
    stored = bench.counting("stored")
    assert stored.experts.num_entries > bench.experts.num_entries == bench.experts.num_trained
    assert stored.experts.sizes == bench.experts.sizes
