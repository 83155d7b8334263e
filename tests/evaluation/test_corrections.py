"""Corrections at the rate that validation images choose, and how far representations are off."""

import numpy as np
import pandas as pd
import pytest
import torch

import mergebook as mb
from mergebook import analysis, evaluation
from mergebook.errors import ExperimentError, ParameterError
from mergebook.interventions.imitation import Imitation
from mergebook.towers import clip


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MERGEBOOK_CHECKPOINTS", str(tmp_path_factory.mktemp("checkpoints")))
        suite = mb.load_suite().select(["shapes", "cells"])
        options = {"steps": 4, "test_size": 70, "validation_size": 40, "calibration_size": 20}
        yield mb.Benchmark(suite, jobs=1, **options)


@pytest.fixture(scope="module")
def start(bench):
    return Imitation(bench.experts, bench.calibration(), bench.merge("averaging"))


def test_the_first_best_rate_on_validation_images_wins(bench, start, monkeypatch):
    asked = []
    values = {0.005: 0.4, 0.01: 0.7, 0.02: 0.7}

    def accuracies(model, split):
        asked.append((split, model))
        rate = (0.005, 0.01, 0.02)[len(asked) - 1]
        return pd.DataFrame({"task": ["a"], "accuracy": [0.1], "normalised": [values[rate]]})

    monkeypatch.setattr(bench, "accuracies", accuracies)
    found = evaluation.tuned_correction(
        bench, start, "surgery", factors=[0.5, 1.0, 2.0], steps=3, rank=2
    )
    assert [split for split, _ in asked] == ["validation"] * 3
    assert found.params == {"steps": 3, "rank": 2, "lr": 0.01}
    assert found.model is asked[1][1]
    assert found.curve["lr"].tolist() == [0.005, 0.01, 0.02]
    assert (found.size, found.method) == (2 * 2 * 64, "surgery")
    wanted = bench.merge("surgery", merge="averaging", steps=3, rank=2, lr=0.01)
    for ours, theirs in zip(found.model.numbers, wanted.numbers, strict=True):
        assert all(torch.equal(ours[key], value) for key, value in theirs.items())


def test_the_budget_is_a_share_of_the_default_steps(bench, start):
    found = evaluation.tuned_correction(bench, start, "intervmerge_mini", budget=0.05)
    assert found.params["steps"] == 3
    assert found.seconds > 0


def test_a_rate_is_needed(bench, start):
    with pytest.raises(ParameterError, match="surgery: no factors"):
        evaluation.tuned_correction(bench, start, "surgery", factors=[])


def test_a_model_made_elsewhere_is_compared_under_its_own_name(bench, start):
    run = mb.Comparison(bench)
    found = evaluation.tuned_correction(bench, start, "surgery", steps=2)
    run.include("mine", found, size=found.size)
    table = run.results()
    assert table["method"].tolist() == ["mine"] * 2
    assert set(table["size"]) == {2048}
    for _, row in table.iterrows():
        hits = bench.predict(found.model.encoder(row["task"]), row["task"])
        assert row["accuracy"] == hits.mean()
    with pytest.raises(ExperimentError, match="'mine' is in this comparison already"):
        run.include("mine", found)


def test_distances_are_those_of_open_clips_modules(bench, start):
    corrected = evaluation.tuned_correction(bench, start, "surgery", steps=3).model
    models = {"merged": start.merged, "corrected": corrected, "expert": bench.merge("fine_tuned")}
    found = analysis.representation_distances(bench, models)

    def computed(state, images):
        net, seen = clip.visual_encoder("mini-small", state), {}
        for number, block in enumerate(net.transformer.resblocks):
            block.register_forward_hook(
                lambda _, given, output, number=number: seen.update({number: output})
            )
        with torch.inference_mode():
            return seen | {"features": net(images)}

    for row, task in enumerate(bench.suite.names):
        images, _ = bench.inputs(task)
        expert = computed(dict(bench.experts.expert(task)), images)
        merged = computed(start.merged.state_dict(), images)
        own = {key: value[row] for key, value in corrected.numbers[0].items()}
        z = merged["features"]
        mended = z - torch.relu(z @ own["down"].T) @ own["up"].T
        for name, features in (("merged", z), ("corrected", mended)):
            wanted = (features - expert["features"]).abs().mean(1)
            np.testing.assert_allclose(found[name]["features"][task], wanted, atol=1e-5)
        for number in range(6):
            apart = (merged[number] - expert[number]).abs()
            for tokens, wanted in (("class", apart[:, 0].mean(1)), ("all", apart.mean((1, 2)))):
                got = found["merged"][f"blocks.{number} {tokens}"][task]
                np.testing.assert_allclose(got, wanted, atol=1e-5)
        assert len(found["merged"]["features"][task]) == 70
        assert all(not of[task].any() for of in found["expert"].values())
