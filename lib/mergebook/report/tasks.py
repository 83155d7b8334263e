"""What the tasks of a suite look like, and how well base, average and experts solve them."""

from __future__ import annotations

import math

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from IPython.display import HTML
from matplotlib.figure import Figure

from mergebook.report.embed import show
from mergebook.report.figures import sample_sheet
from mergebook.report.numbers import shown
from mergebook.report.style import PAGE_WIDTH, book_style, task_title, title_of
from mergebook.report.tables import folded, html_table
from mergebook.suites import Suite, Task

COLUMNS, IMAGES = 4, 4  # tasks side by side, and images of each


def _strip(task: Task, number: int, gap: int = 2) -> np.ndarray:
    """Test images of evenly spaced classes, side by side with white gaps."""
    classes = len(task.class_names)
    images = task.samples(math.ceil(number / classes)).inputs
    chosen = np.linspace(0, len(images) - 1, number).round().astype(int)
    padded = np.pad(images[chosen], ((0, 0), (0, 0), (0, gap), (0, 0)), constant_values=255)
    return np.concatenate(padded, axis=1)[:, :-gap]


@book_style()
def gallery_figure(suite: Suite) -> Figure:
    """Draw four test images of each task, four tasks in a row.

    Parameters
    ----------
    suite : Suite

    Returns
    -------
    Figure
        The images of a task are of different classes where it has four.
    """
    rows = math.ceil(len(suite.names) / COLUMNS)
    fig, axes = plt.subplots(
        rows, COLUMNS, figsize=(PAGE_WIDTH, 0.8 * rows), squeeze=False, layout="constrained"
    )
    for ax in axes.flat:
        ax.set_axis_off()
    for ax, task in zip(axes.flat, suite, strict=False):
        ax.imshow(_strip(task, IMAGES), interpolation="nearest")
        ax.set_title(task.title, fontsize=10, pad=4)
    return fig


def show_gallery(suite: Suite) -> HTML:
    """Show a few images of each task, as the picture that opens a page.

    Parameters
    ----------
    suite : Suite
    """
    titles = ", ".join(task.title for task in suite)
    return show(
        gallery_figure(suite),
        name="tasks",
        alt=f"Four small test images of each task: {titles}.",
        caption="Four test images of each task.",
        kind="hero",
    )


def show_classes(suite: Suite) -> HTML:
    """Show three test images of every class of every task, folded away.

    Parameters
    ----------
    suite : Suite
        The text below each sheet is the task's description and its prompts.
    """
    sheets = []
    for task in suite:
        prompts = " / ".join(f"“{template}”" for template in task.templates)
        sheets.append(
            show(
                sample_sheet(task.samples(3).inputs, task.class_names),
                name=task.name,
                alt=f"Three test images of each class of the task {task.title}.",
                caption=f"{task.title}. {task.description} Prompts: {prompts}",
            )
        )
    return folded(f"All classes and prompts of the {len(sheets)} tasks", sheets)


def show_tasks(suite: Suite, results: pd.DataFrame) -> HTML:
    """Show a table with a row for each task.

    Parameters
    ----------
    suite : Suite
    results : DataFrame
        What :meth:`mergebook.Comparison.results` returns; a column of accuracies for each method.
    """
    accuracy = results.pivot(index="task", columns="method", values="accuracy")
    rows = {
        task.title: {
            **{
                f"{title_of(method)}, %": shown(accuracy[method][task.name], "cell")
                for method in results["method"].unique()
            },
            "Classes": len(task.class_names),
            "Stands in for": task.counterpart,
        }
        for task in suite
    }
    table = pd.DataFrame(rows).T.rename_axis("Task")
    where = results.iloc[0]
    caption = f"Test accuracy with {where['backbone']} and the experts of seed {where['seed']}"
    return html_table(table, caption=caption, sortable=True)


def task_facts(results: pd.DataFrame, dips: pd.Series) -> pd.DataFrame:
    """Find the task with the weakest expert, and the one with the largest dip on the way to it.

    Parameters
    ----------
    results : DataFrame
        What :meth:`mergebook.Comparison.results` returns, ``"fine_tuned"`` among the methods.
    dips : Series
        What :func:`mergebook.analysis.dips` returns.

    Returns
    -------
    DataFrame
        Columns ``fact`` (``"weakest expert"``, ``"largest dip"``), ``task`` (its title) and
        ``value`` (a fraction).
    """
    experts = results[results["method"] == "fine_tuned"].set_index("task")["accuracy"]
    rows = [
        ("weakest expert", task_title(experts.idxmin()), experts.min()),
        ("largest dip", task_title(dips.idxmax()), dips.max()),
    ]
    return pd.DataFrame(rows, columns=["fact", "task", "value"])
