"""The leaderboard's table and figures."""

from __future__ import annotations

import json
from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from scipy import stats

from mergebook.errors import ReportError
from mergebook.registry import get_method
from mergebook.report.numbers import EMPTY
from mergebook.report.style import (
    BLACK,
    BLUE,
    GREEN,
    GREY,
    INDIGO,
    SALMON,
    SKY,
    VERMILION,
    book_style,
)  # fmt: skip

FAMILY_STYLES = {
    "reference": (BLACK, "*"),
    "data-free": (BLUE, "o"),
    "statistics": (SKY, "s"),
    "adapted": (GREEN, "^"),
    "training": (GREY, "X"),
    "compression": (VERMILION, "D"),
    "routing": (INDIGO, "v"),
    "intervention": (SALMON, "P"),
}


def over_seeds(summary: pd.DataFrame) -> pd.DataFrame:
    """Mean over the seeds of the experts, with a 95 % t interval where there are two or more.

    Parameters
    ----------
    summary : DataFrame
        Rows of :meth:`mergebook.Comparison.summary` of one suite size, for one or more seeds.

    Returns
    -------
    DataFrame
        Indexed by method in order of appearance: ``seeds``, ``mean`` and ``half`` (half the width
        of the interval, NaN for one seed) of the normalised accuracy.
    """
    groups = summary.groupby("method", sort=False)["normalised"]
    count, spread = groups.size(), groups.std(ddof=1)
    quantile = stats.t.ppf(0.975, (count - 1).clip(lower=1))
    half = pd.Series(quantile, count.index) * spread / np.sqrt(count)
    return pd.DataFrame({"seeds": count, "mean": groups.mean(), "half": half})


def leaderboard_table(summary: pd.DataFrame, *, num_tasks: int) -> pd.DataFrame:
    """Texts of the leaderboard of one suite size, best first.

    Parameters
    ----------
    summary : DataFrame
        Rows of :meth:`mergebook.Comparison.summary`, for one or more seeds.
    num_tasks : int
        Which suite size.

    Returns
    -------
    DataFrame
        One row per method, indexed by its title; accuracies are those of the first seed with their
        bootstrap intervals, and beside them the mean over seeds.

    Raises
    ------
    ReportError
        If there is nothing of this size.
    """
    part = summary[summary["num_tasks"] == num_tasks]
    if part.empty:
        raise ReportError(f"no results of {num_tasks} tasks")
    seeds = over_seeds(part)
    first = part[part["seed"] == part["seed"].min()].set_index("method")
    first = first.sort_values("normalised", ascending=False)
    whole = first["storage_gigabit"].get("fine_tuned", np.nan)
    rows = {}
    for name, row in first.iterrows():
        method, over = get_method(str(name)), seeds.loc[name]
        low, high = 100 * row["normalised_low"], 100 * row["normalised_high"]
        spread = EMPTY
        if over["seeds"] > 1:
            spread = f"{100 * over['mean']:.1f} ± {100 * over['half']:.1f}"
        rows[method.title] = {
            "Family": method.family,
            "Needs": ", ".join(method.needs) or EMPTY,
            "Accuracy, %": f"{100 * row['accuracy']:.1f}",
            "Normalised, %": f"{100 * row['normalised']:.1f}",
            "95 % (images)": f"{low:.1f} to {high:.1f}",
            f"Over {seeds['seeds'].max():.0f} seeds": spread,
            "Storage, % of experts": f"{100 * row['storage_gigabit'] / whole:.1f}",
            "Merging, s": f"{row['seconds']:.2f}",
            "Peak, MiB": f"{row['peak_mib']:.1f}",
            "Inference, ×": f"{row['inference_ratio']:.1f}",
        }
    table = pd.DataFrame(rows).T.rename_axis("Method")
    return table if seeds["seeds"].max() > 1 else table.drop(columns="Over 1 seeds")


def frontier(first: pd.DataFrame) -> list[str]:
    """Methods that no other beats in both accuracy and storage, cheapest first.

    Parameters
    ----------
    first : DataFrame
        Indexed by method, with ``normalised`` and ``storage_gigabit``.
    """
    best, kept = -np.inf, []
    order = first.sort_values(["storage_gigabit", "normalised"], ascending=[True, False])
    for name, row in order.iterrows():
        if row["normalised"] > best:
            best = row["normalised"]
            kept.append(str(name))
    return kept


@book_style()
def frontier_figure(summary: pd.DataFrame) -> Figure:
    """Accuracy against storage, a panel for each suite size, with the frontier as a line.

    Parameters
    ----------
    summary : DataFrame
        Rows of :meth:`mergebook.Comparison.summary`; the first seed is drawn.

    Returns
    -------
    Figure
        Storage is the share of the experts', on a logarithmic axis. Methods on the frontier, which
        no other method beats in both, are named.
    """
    sizes = sorted(summary["num_tasks"].unique())
    fig, axes = plt.subplots(
        1, len(sizes), figsize=(max(7.5, 4.6 * len(sizes)), 5.2), squeeze=False, sharey=True,
        layout="constrained",
    )  # fmt: skip
    for ax, size in zip(axes[0], sizes, strict=True):
        part = summary[(summary["num_tasks"] == size) & (summary["seed"] == summary["seed"].min())]
        part = part.set_index("method")
        share = 100 * part["storage_gigabit"] / part["storage_gigabit"]["fine_tuned"]
        best = frontier(part)
        ax.plot(share[best], 100 * part["normalised"][best], c=GREY, lw=1, zorder=1)
        for name, x in share.items():
            colour, marker = FAMILY_STYLES[get_method(str(name)).family]
            ax.scatter(x, 100 * part["normalised"][name], s=90 if marker == "*" else 40, c=colour,
                       marker=marker, edgecolors="white", linewidths=0.6, zorder=3)  # fmt: skip
        _name_points(ax, {name: (share[name], 100 * part["normalised"][name]) for name in best})
        ax.set_xscale("log")
        ticks = [
            t for t in (2, 5, 10, 20, 50, 100, 200) if 0.8 * share.min() < t < 1.3 * share.max()
        ]
        ax.set_xticks(ticks, [f"{t} %" for t in ticks])
        ax.minorticks_off()
        ax.set_title(f"{size} tasks")
        ax.set_xlabel("Storage, share of the experts'")
    axes[0, 0].set_ylabel("Normalised accuracy, %")
    used = {get_method(name).family for name in summary["method"].unique()}
    handles = [
        Line2D([], [], ls="", marker=marker, c=colour, ms=8, label=family)
        for family, (colour, marker) in FAMILY_STYLES.items()
        if family in used
    ]
    fig.legend(handles=handles, loc="outside lower center", ncols=4)
    return fig


def _name_points(ax: Axes, points: Mapping[str, tuple[float, float]]) -> None:
    """Write methods' titles below and to the right of their points, one under the other."""
    low, high = ax.get_ylim()
    gap, last = 0.042 * (high - low), float("inf")
    for name, (x, y) in sorted(points.items(), key=lambda item: (-item[1][1], item[1][0])):
        last = min(y - 0.6 * gap, last - gap)
        ax.annotate(
            get_method(name).title,
            (x, y),
            (x * 1.12, last),
            fontsize=8,
            va="center",
            zorder=4,
            arrowprops={"arrowstyle": "-", "lw": 0.6, "color": GREY, "shrinkA": 0, "shrinkB": 4},
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.8, "alpha": 0.8},
        )


@book_style()
def search_figure(curves: pd.DataFrame, parameter: str = "scale") -> Figure:
    """Validation accuracy against one parameter, a line for each method that was searched over it.

    Parameters
    ----------
    curves : DataFrame
        What :meth:`mergebook.Comparison.curves` returns, of one suite size and seed.
    parameter : str, default "scale"
        Methods whose grid has other parameters as well show their best over those.

    Raises
    ------
    ReportError
        If no method was searched over this parameter.
    """
    points = curves["point"].map(json.loads).map(lambda point: point.get(parameter))
    frame = curves.assign(value=points).dropna(subset="value")
    if frame.empty:
        raise ReportError(f"no method was searched over {parameter!r}")
    means = frame.groupby(["method", "point", "value"], sort=False)["normalised"].mean()
    lines = means.groupby(["method", "value"]).max().unstack("value")
    columns = 4
    rows = -(-len(lines) // columns)
    fig, axes = plt.subplots(
        rows, columns, figsize=(9.5, 1.9 * rows + 0.6), squeeze=False, sharey=True,
        layout="constrained",
    )  # fmt: skip
    for ax, (name, line) in zip(axes.flat, lines.iterrows(), strict=False):
        line = 100 * line.dropna().sort_index()
        method = get_method(str(name))
        ax.plot(line.index, line, marker="o", ms=4, c=FAMILY_STYLES[method.family][0])
        ax.scatter(line.idxmax(), line.max(), s=90, facecolors="none", edgecolors=BLACK, zorder=4)
        ax.set_title(method.title, fontsize=9)
    for ax in axes.flat[len(lines) :]:
        ax.set_axis_off()
    fig.supxlabel(parameter)
    fig.supylabel("Normalised accuracy, % (validation)")
    return fig
