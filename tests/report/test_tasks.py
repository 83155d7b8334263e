"""The page of the tasks: pictures, table, facts."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from mergebook import analysis
from mergebook.report import gallery_figure, show_classes, show_gallery, show_tasks, task_facts
from mergebook.suites import load_suite


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def suite():
    return load_suite("mini", 3)


def accuracies(suite, experts):
    base = pd.DataFrame({"task": suite.names, "accuracy": 0.5, "method": "zero_shot"})
    tuned = pd.DataFrame({"task": suite.names, "accuracy": experts, "method": "fine_tuned"})
    return pd.concat([base, tuned]).assign(backbone="mini-small", seed=3)


def test_the_gallery_shows_four_images_of_each_task(suite):
    fig = gallery_figure(suite)
    drawn = [ax for ax in fig.axes if ax.images]
    assert [ax.get_title() for ax in drawn] == [task.title for task in suite]
    for ax, task in zip(drawn, suite, strict=True):
        strip, samples = ax.images[0].get_array(), task.samples(1).inputs
        side = samples.shape[1]
        assert strip.shape == (side, 4 * side + 6, 3)
        assert (strip[:, :side] == samples[0]).all() and (strip[:, -side:] == samples[-1]).all()
    html = show_gallery(suite).data
    assert 'class="mergebook hero"' in html
    assert all(task.title in html for task in suite)


def test_a_task_of_two_classes_fills_its_strip():
    cells = load_suite("mini").first(13).names[-1]
    [task] = [task for task in load_suite("mini") if task.name == cells]
    assert len(task.class_names) == 2
    suite = load_suite("mini", 13)
    assert len([ax for ax in gallery_figure(suite).axes if ax.images]) == 13


def test_the_classes_are_folded_with_their_prompts(suite):
    html = show_classes(suite).data
    assert html.startswith('<details class="mergebook"><summary>')
    for task in suite:
        assert f'id="fig-{task.name}"' in html
        assert all(template in html for template in task.templates)


def test_the_table_has_a_row_for_each_task_by_its_title(suite):
    html = show_tasks(suite, accuracies(suite, [0.9, 0.8, 0.987])).data
    assert "seed 3" in html and "Zero-shot, %" in html and "Fine-tuned, %" in html
    assert html.count("<tr>") == 1 + len(suite.names)
    assert ">98.7</td>" in html
    assert not any(f">{name}<" in html for name in suite.names)


def test_facts_name_the_weakest_expert_and_the_largest_dip(suite):
    facts = task_facts(
        accuracies(suite, [0.9, 0.8, 0.95]), pd.Series([0.01, 0.0, 0.02], suite.names)
    )
    found = facts.set_index("fact")
    titles = {task.name: task.title for task in suite}
    assert found.loc["weakest expert", "task"] == titles[suite.names[1]]
    assert found.loc["weakest expert", "value"] == 0.8
    assert tuple(found.loc["largest dip", ["task", "value"]]) == (titles[suite.names[2]], 0.02)


def test_dips_are_falls_below_what_was_reached():
    line = pd.DataFrame(
        {
            "task": ["a"] * 4 + ["b"] * 3,
            "alpha": [1.0, 0.0, 0.3, 0.6, 0.0, 0.5, 1.0],
            "accuracy": [0.9, 0.5, 0.8, 0.6, 0.1, 0.2, 0.3],
        }
    )
    dips = analysis.dips(line)
    assert list(dips.index) == ["a", "b"]
    assert dips["a"] == pytest.approx(0.2)
    assert dips["b"] == 0
    shuffled = analysis.dips(line.sample(frac=1, random_state=np.random.RandomState(0)))
    assert shuffled["a"] == pytest.approx(0.2) and shuffled["b"] == 0
