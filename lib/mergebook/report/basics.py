"""Figures of the introduction: what is merged, and what the scale does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from IPython.display import HTML
from matplotlib.figure import Figure

from mergebook.errors import ReportError
from mergebook.report.embed import show
from mergebook.report.style import BLUE, GREEN, GREY, PAGE_WIDTH, VERMILION, book_style, task_title
from mergebook.report.style import METHOD_COLOURS as COLOURS


@book_style()
def task_vector_sketch() -> Figure:
    """Draw what is merged: base, two experts, their task vectors, and two ways to add them."""
    base, ends = np.array([0.0, 0.0]), {"A": np.array([2.6, 0.25]), "B": np.array([0.5, 1.9])}
    fig, ax = plt.subplots(figsize=(PAGE_WIDTH, 3.9), layout="constrained")
    for (name, end), colour in zip(ends.items(), (BLUE, VERMILION), strict=True):
        ax.annotate("", end, base, arrowprops={"arrowstyle": "-|>", "lw": 2.2, "color": colour})
        side = np.array([0.05, -0.32]) if name == "A" else np.array([-0.42, 0.02])
        ax.text(*(end / 2 + side), rf"$\tau_{name}$", color=colour, fontsize=15)
        ax.plot(*end, "o", color=colour, ms=9)
        offset = (10, -4) if name == "A" else (-10, 8)
        ax.annotate(
            f"expert {name}",
            end,
            offset,
            textcoords="offset points",
            color=colour,
            ha="left" if name == "A" else "right",
        )
    total = ends["A"] + ends["B"]
    for end in ends.values():
        ax.plot(*zip(end, total, strict=True), ls=":", lw=1.2, color=GREY)
    ax.annotate("", total, base, arrowprops={"arrowstyle": "-", "lw": 1.2, "ls": "--", "ec": GREY})
    marks = {
        0.5: ("o", r"average: $\theta_0+\frac{1}{2}(\tau_A+\tau_B)$"),
        0.8: ("D", r"task arithmetic: $\theta_0+\alpha(\tau_A+\tau_B)$"),
    }
    for share, (marker, label) in marks.items():
        ax.plot(*(share * total), marker, color=GREEN, ms=9)
        ax.annotate(
            label,
            share * total,
            (10, -6),
            textcoords="offset points",
            va="top",
            color=GREEN,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 1.5},
        )
    ax.plot(*base, "s", color="black", ms=10)
    ax.annotate(
        r"base $\theta_0$", base, (-8, -8), textcoords="offset points", ha="right", va="top"
    )
    ax.set(xlim=(-0.7, 5.0), ylim=(-0.4, 2.3), aspect="equal")
    ax.set_axis_off()
    return fig


def show_task_vectors() -> HTML:
    """Show the sketch of base, experts, task vectors and two ways to add them."""
    return show(
        task_vector_sketch(),
        name="task-vectors",
        alt="Sketch of a plane. Two arrows, the task vectors of A and B, lead from the base to two "
        "experts. On the diagonal of the parallelogram that they span lie the average, half way, "
        "and task arithmetic, farther out.",
        caption="Two task vectors and two ways to add them. The real space has an axis per weight.",
        kind="hero",
    )


def show_scale_curve(curve: pd.DataFrame, experts: pd.Series, backbone: str) -> HTML:
    """Show what the scale does to each task.

    Parameters
    ----------
    curve, experts
        See :func:`scale_curve`.
    backbone : str
        For the caption.
    """
    low, high = curve["scale"].min(), curve["scale"].max()
    return show(
        scale_curve(curve, experts),
        name="scale",
        alt=f"Test accuracy of {len(experts)} tasks against the scale of the sum of their task "
        f"vectors, from {low:g} to {high:g}, with the accuracy of each expert as a dashed line.",
        caption=f"Measured at mini scale, {backbone}: {len(experts)} tasks served by one model.",
    )


@book_style()
def scale_curve(curve: pd.DataFrame, experts: pd.Series) -> Figure:
    """Accuracy of each task against the scale of the merged task vector.

    Parameters
    ----------
    curve : DataFrame
        Columns ``scale``, ``task``, ``accuracy`` (fraction).
    experts : Series
        Accuracy of each task's expert, indexed by task; drawn as a dashed line.

    Returns
    -------
    Figure
        One colour and marker per task.

    Raises
    ------
    ReportError
        If an expert is missing.
    """
    fig, ax = plt.subplots(figsize=(PAGE_WIDTH, 3.6), layout="constrained")
    looks = zip(cycle(COLOURS), cycle("osD^"), strict=False)
    for (task, part), (colour, marker) in zip(
        curve.groupby("task", sort=False), looks, strict=False
    ):
        if task not in experts:
            raise ReportError(f"no accuracy of the expert of task {task!r}")
        name = task_title(task)
        line = part.sort_values("scale")
        ax.plot(line["scale"], 100 * line["accuracy"], color=colour, marker=marker, label=name)
        label = f"{name}, its expert"
        ax.axhline(100 * experts[task], color=colour, ls="--", lw=1.2, label=label)
    ax.set(xlabel=r"Scale $\alpha$", ylabel="Test accuracy, %")
    ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return fig


@book_style()
def weights_figure(
    rows: Mapping[str, Sequence[float]], marks: Mapping[str, Sequence[bool]] | None = None
) -> Figure:
    """Draw vectors of a few weights as rows of coloured cells.

    Parameters
    ----------
    rows : mapping of str to sequence of float
        Title -> values, all of one length; drawn from the top.
    marks : mapping of str to sequence of bool, optional
        Title -> which cells of that row get a dot.

    Returns
    -------
    Figure
        Red for positive values, blue for negative ones, with one range for all rows.

    Raises
    ------
    ReportError
        If there is no row, or their lengths differ.
    """
    lengths = {len(values) for values in rows.values()}
    if len(lengths) != 1:
        raise ReportError(f"rows of weights need one length, got {sorted(lengths)}")
    cells = np.array(list(rows.values()), dtype=float)
    limit = max(float(np.abs(cells).max()), 1e-12)
    size = (min(9.5, 2.6 + 0.3 * cells.shape[1]), 0.4 + 0.36 * len(cells))
    fig, ax = plt.subplots(figsize=size, layout="constrained")
    ax.pcolormesh(cells, cmap="RdBu_r", vmin=-limit, vmax=limit, edgecolors="#DDDDDD", lw=0.6)
    for place, name in enumerate(rows):
        at = [n for n, mark in enumerate((marks or {}).get(name, ())) if mark]
        ax.plot(np.array(at) + 0.5, np.full(len(at), place + 0.5), ".", color="black", ms=5)
    ax.set_yticks(np.arange(len(cells)) + 0.5, list(rows))
    ax.set_xticks([])
    ax.invert_yaxis()
    ax.grid(False)
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    return fig
