"""Evaluation and search on a tiny benchmark with hardly trained experts."""

import json

import numpy as np
import pytest
import torch

import mergebook as mb
from mergebook.errors import ExperimentError, ParameterError, SuiteError
from mergebook.towers import clip


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MERGEBOOK_CHECKPOINTS", str(tmp_path_factory.mktemp("checkpoints")))
        suite = mb.load_suite().select(["shapes", "cells"])
        yield mb.Benchmark(suite, steps=4, test_size=60, validation_size=40, jobs=1)


def accuracy_by_hand(bench, state, task, split, size):
    images, labels = bench.suite[task].examples(split, size)
    with torch.inference_mode():
        features = clip.visual_encoder("mini-small", state)(bench.backbone.preprocess(images))
    best = [int(np.argmax([f @ w for w in bench.heads[task]])) for f in features]
    return np.mean(np.array(best) == labels)


def test_accuracy_by_hand(bench):
    model = mb.merge("task_arithmetic", bench.experts, scale=0.5)
    frame = bench.accuracies(model).set_index("task")
    for task in bench.suite.names:
        expected = accuracy_by_hand(bench, model.state_dict(task), task, "test", 60)
        assert frame.loc[task, "accuracy"] == expected
        expert = accuracy_by_hand(bench, dict(bench.experts.expert(task)), task, "test", 60)
        assert frame.loc[task, "normalised"] == pytest.approx(expected / expert)


def test_search_takes_the_first_best_on_validation(bench):
    grid = {"scale": [0.0, 0.3, 0.3000001, 1.0]}
    search = bench.search("task_arithmetic", grid)
    mean = search.curve.groupby("scale", sort=False)["normalised"].mean()
    assert mean.index.tolist() == grid["scale"]
    assert search.params == {"scale": mean.idxmax()}
    assert len(search.curve) == 4 * 2
    by_hand = bench.accuracies(
        mb.merge("task_arithmetic", bench.experts, **search.params), "validation"
    )
    assert by_hand["normalised"].mean() == pytest.approx(mean.max())


def test_search_per_task_is_independent(bench):
    values = [0.2, 0.4, 0.8, 2.0]
    search = bench.search_per_task("tall_ta", "threshold", values)
    table = search.curve.pivot(index="task", columns="threshold", values="accuracy")
    for task, chosen in search.params["threshold"].items():
        best = table.loc[task].max()
        assert chosen == next(v for v in values if table.loc[task, v] == best)


def test_parts_share_images_and_reference(bench):
    part = bench.first(1)
    assert part.suite.names == ("shapes",) and part.experts.tasks == ("shapes",)
    assert part.inputs("shapes")[0] is bench.inputs("shapes")[0]
    assert part.reference()["shapes"] is bench.reference()["shapes"]
    assert len(bench.suite) == 2


def test_line_starts_at_the_base_and_ends_at_the_expert(bench):
    line = mb.analysis.line_scan(bench, points=3)
    assert line["alpha"].tolist() == [0, 0.5, 1] * 2
    ends = line.pivot(index="task", columns="alpha", values="accuracy")
    base = bench.accuracies(mb.merge("zero_shot", bench.experts)).set_index("task")["accuracy"]
    for task, hits in bench.reference().items():
        assert ends.loc[task, 0.0] == base[task] and ends.loc[task, 1.0] == hits.mean()
    with pytest.raises(ExperimentError, match="at least two points, got 1"):
        mb.analysis.line_scan(bench, points=1)


def test_comparison_is_tidy(bench):
    run = mb.Comparison(bench)
    run.add("zero_shot")
    run.add("task_arithmetic", grid={"scale": [0.2, 0.4]})
    tall = run.add("tall_ta", per_task={"threshold": [0.2, 0.4]})
    run.add("fine_tuned")
    results = run.results()
    assert list(results.columns) == [
        "scale", "suite", "backbone", "num_tasks", "seed", "method", "task", "accuracy",
        "normalised", "storage_gigabit", "storage", "params",
    ]  # fmt: skip
    assert len(results) == 4 * 2 and set(results["scale"]) == {"mini"}
    tuned = results[results["method"] == "tall_ta"].iloc[0]
    assert json.loads(tuned["params"]) == tall.params
    assert (results[results["method"] == "fine_tuned"]["normalised"] == 1).all()
    summary = run.summary().set_index("method")
    assert (summary["accuracy_low"] <= summary["accuracy"]).all()
    assert (summary["accuracy"] <= summary["accuracy_high"]).all()
    mean = results.groupby("method")["accuracy"].mean()
    assert summary.loc["tall_ta", "accuracy"] == pytest.approx(mean["tall_ta"])
    curves = run.curves()
    assert set(curves["method"]) == {"task_arithmetic", "tall_ta"} and len(curves) == 8
    with pytest.raises(ExperimentError, match="'tall_ta' is in this comparison already"):
        run.add("tall_ta")
    with pytest.raises(ExperimentError, match="'ties': give `grid`, or `per_task`"):
        run.add("ties", grid={"scale": [1]}, per_task={"scale": [1]})


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda b: b.search("ties", {"scale": []}),
            ParameterError,
            "'ties': the grid of scale is empty",
        ),
        (lambda b: b.search("ties", {"scales": [1]}), ParameterError, "scales"),
        (
            lambda b: b.search_per_task("tall_ta", "threshold", []),
            ParameterError,
            "no values of 'threshold'",
        ),
        (lambda b: b.inputs("shapes", "dev"), ExperimentError, "'dev'"),
        (lambda b: b.first(3), SuiteError, "got 3"),
        (
            lambda b: mb.Benchmark("mini", "mini", num_tasks=1),
            mb.MergebookError,
            "unknown backbone 'mini'",
        ),
    ],
)
def test_bad_input(bench, call, error, message):
    with pytest.raises(error, match=message):
        call(bench)


def test_other_weights_are_judged_by_the_experts_that_were_there(bench):
    base = mb.analysis.discard(bench.experts, 1.0)
    other = bench.with_experts(base)
    found = other.accuracies(other.merge("fine_tuned")).set_index("task")
    expected = bench.accuracies(bench.merge("zero_shot")).set_index("task")
    assert found["normalised"].tolist() == expected["normalised"].tolist()
    assert (found["normalised"] != 1).any()
    with pytest.raises(ExperimentError, match="experts of shapes for a benchmark of shapes, cells"):
        bench.with_experts(base.select(["shapes"]))
