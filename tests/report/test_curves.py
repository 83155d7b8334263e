"""Lines, bars and dots: what is drawn where."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex

from mergebook.errors import ReportError
from mergebook.report import (
    bar_figure,
    curve_figure,
    dot_figure,
    rank_figure,
    scatter_figure,
    weights_figure,
)
from mergebook.report.embed import DOTS
from mergebook.report.panels import by_facet, grid
from mergebook.report.style import METHOD_STYLES, PAGE_WIDTH

LINE = pd.DataFrame(
    {
        "k": [2, 1, 1, 2],
        "method": ["tall_ta", "tall_ta", "control", "control"],
        "accuracy": [0.5, 0.4, 0.2, 0.1],
        "accuracy_low": [0.45, 0.35, 0.15, 0.05],
        "accuracy_high": [0.55, 0.45, 0.25, 0.15],
    }
)
LABELS = {"xlabel": "votes", "ylabel": "%", "facet": "panel"}


def flat(panels):
    """Source -> table, from source -> panel -> table."""
    return {
        source: pd.concat([frame.assign(panel=panel) for panel, frame in row.items()])
        for source, row in panels.items()
    }


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def test_lines_are_sorted_in_per_cent_with_their_bands():
    fig = curve_figure(flat({"Measured": {"8 tasks": LINE}}), x="k", **LABELS)
    [ax] = fig.axes
    tall, control = ax.lines
    assert (tall.get_xdata().tolist(), tall.get_ydata().tolist()) == ([1, 2], [40, 50])
    assert to_hex(tall.get_color()) == METHOD_STYLES["tall_ta"].colour.lower()
    assert to_hex(control.get_color()) != to_hex(tall.get_color())
    heights = ax.collections[0].get_paths()[0].vertices[:, 1]
    assert (heights.min(), heights.max()) == pytest.approx((35, 55))
    assert (ax.get_title(), ax.get_ylabel()) == ("Measured", "%")
    assert [text.get_text() for text in fig.legends[0].texts] == ["TALL Mask + TA", "control"]


def test_a_row_per_source_and_a_column_per_key():
    few = {"20 tasks": LINE}
    rows = {"Reported": few, "Measured": {"8 tasks": LINE, "20 tasks": LINE}}
    fig = curve_figure(flat(rows), x="k", **LABELS)
    titles = [ax.get_title() if ax.axison else None for ax in fig.axes]
    assert titles == [None, "20 tasks", "8 tasks", "20 tasks"]
    # The source stands at the first panel of its row, the horizontal label below the last row.
    labels = [(ax.get_ylabel(), ax.get_xlabel()) for ax in fig.axes if ax.axison]
    assert labels == [("Reported\n%", ""), ("Measured\n%", "votes"), ("", "votes")]
    gap = {"Measured": {"8 tasks": LINE, "20 tasks": LINE}, "Reported": {"8 tasks": LINE}}
    fig = curve_figure(flat(gap), x="k", **LABELS)
    below = [ax.get_xlabel() for ax in fig.axes if ax.axison]
    assert below == ["", "votes", "votes"]  # each column has its label
    with pytest.raises(ReportError, match="no panel"):
        curve_figure({}, x="k", **LABELS)


def test_a_long_row_is_broken():
    fig = curve_figure(flat({"": {f"run {n}": LINE for n in range(5)}}), x="k", **LABELS)
    assert fig.axes[0].get_subplotspec().get_gridspec().get_geometry() == (3, 2)
    shown = [(ax.get_title(), ax.get_ylabel(), ax.get_xlabel()) for ax in fig.axes if ax.axison]
    assert shown == [
        ("run 0", "%", ""),
        ("run 1", "", ""),
        ("run 2", "%", ""),
        ("run 3", "", "votes"),
        ("run 4", "%", "votes"),
    ]


def test_more_keys_than_columns_turn_the_grid():
    rows = {kind: {f"{n} tasks": LINE for n in (8, 14, 20)} for kind in ("Measured", "Reported")}
    fig = curve_figure(flat(rows), x="k", **LABELS)
    assert fig.axes[0].get_subplotspec().get_gridspec().get_geometry() == (3, 2)
    titles = [ax.get_title() for ax in fig.axes[:3]]
    assert titles == ["Measured, 8 tasks", "Reported, 8 tasks", "Measured, 14 tasks"]
    assert [ax.get_ylabel() for ax in fig.axes] == ["%", ""] * 3
    assert [ax.get_xlabel() for ax in fig.axes] == [""] * 4 + ["votes"] * 2


def test_sources_without_a_common_key_fill_their_columns_from_the_top():
    rows = {"Measured": {"8 tasks": LINE, "20 tasks": LINE}, "Reported": {"14 tasks": LINE}}
    fig = curve_figure(flat(rows), x="k", **LABELS)
    assert fig.axes[0].get_subplotspec().get_gridspec().get_geometry() == (2, 2)
    titles = [ax.get_title() for ax in fig.axes if ax.axison]
    assert titles == ["Measured, 8 tasks", "Reported, 14 tasks", "Measured, 20 tasks"]
    assert [ax.get_xlabel() for ax in fig.axes if ax.axison] == ["", "votes", "votes"]


def test_labels_of_a_logarithmic_axis_stand_apart_and_reach_its_end():
    values = [2, 4, 8, 12, 16, 24, 32, 48, 50, 64, 70, 80, 90, 95, 98, 100]
    frame = pd.DataFrame({"k": values, "accuracy": 0.5, "method": "cart"})
    fig = curve_figure({"Measured": frame}, x="k", log=True, **LABELS | {"facet": None})
    ticks = list(map(float, fig.axes[0].get_xticks()))
    assert {2, 100} <= set(ticks) <= set(values) and len(ticks) <= 10
    steps = np.diff(np.log(ticks))
    assert (steps >= 0.99 * np.log(50) / 9).all()


def test_panels_are_wide_enough_to_read():
    rows = {kind: {f"{n} tasks": LINE for n in (8, 14, 20)} for kind in "ABC"}
    fig = curve_figure(flat(rows), x="k", **LABELS)
    assert fig.get_figwidth() == PAGE_WIDTH
    per_row = {ax.get_subplotspec().colspan.start for ax in fig.axes}
    assert DOTS * fig.get_figwidth() / len(per_row) >= 900


def test_bars_stand_side_by_side_and_gaps_stay_gaps():
    frame = LINE[["k", "method", "accuracy"]].iloc[:3].rename(columns={"accuracy": "share"})
    fig = bar_figure(flat({"": {"": frame}}), x="k", **LABELS)
    [tall, control] = fig.axes[0].containers
    assert [bar.get_height() for bar in tall] == [50, 40]
    assert np.isnan(control[0].get_height())
    assert control[1].get_height() == 20
    assert tall[0].get_x() + tall[0].get_width() == pytest.approx(control[0].get_x())
    assert [text.get_text() for text in fig.axes[0].get_xticklabels()] == ["2", "1"]


def test_dots_stand_on_a_line_per_task_sorted_and_leave_gaps():
    frame = pd.DataFrame(
        {
            "task": ["a", "b", "house_numbers", "a", "house_numbers"],
            "method": ["ties"] * 3 + ["zero_shot"] * 2,
            "accuracy": [0.1, 0.9, 0.3, 0.4, 0.5],
        }
    )
    [ax] = dot_figure({"Measured": frame}).axes
    assert [t.get_text() for t in ax.get_yticklabels()] == ["a", "House numbers", "b"]
    _, ties, zero_shot = ax.collections
    assert ties.get_offsets()[:, 0].tolist() == [10, 30, 90]
    assert zero_shot.get_offsets().filled(np.nan)[:, 0] == pytest.approx(
        [40, 50, np.nan], nan_ok=True
    )
    assert (ax.get_title(), ax.get_xlabel()) == ("Measured", "Accuracy, %")


def test_weights_as_cells():
    fig = weights_figure({"one": [1, 0], "two": [-2, 0.5]}, {"two": [True, False]})
    [ax] = fig.axes
    assert ax.collections[0].get_array().ravel().tolist() == [1, 0, -2, 0.5]
    assert ax.collections[0].get_clim() == (-2, 2)
    dots = [line.get_xydata().tolist() for line in ax.lines]
    assert dots == [[], [[0.5, 1.5]]]
    with pytest.raises(ReportError, match="one length"):
        weights_figure({"one": [1, 0], "two": [1]})


def test_differences_have_a_line_at_zero():
    below = LINE.assign(accuracy=LINE["accuracy"] - 0.3)
    [ax] = curve_figure(flat({"Measured": {"8 tasks": below}}), x="k", **LABELS).axes
    assert [line.get_ydata() for line in ax.lines if set(line.get_ydata()) == {0}] == [[0, 0]]
    [ax] = curve_figure(flat({"Measured": {"8 tasks": LINE}}), x="k", **LABELS).axes
    assert len(ax.lines) == 2


def test_what_is_no_method_is_told_from_methods():
    [ax] = curve_figure(flat({"Measured": {"8 tasks": LINE}}), x="k", **LABELS).axes
    tall, control = ax.lines
    assert (tall.get_linestyle(), control.get_linestyle()) == ("-", ":")
    layers = LINE.replace({"method": {"tall_ta": "attention", "control": "MLP"}})
    [ax] = curve_figure(flat({"": {"": layers}}), x="k", **LABELS).axes
    assert {line.get_linestyle() for line in ax.lines} == {"-"}
    colours = {to_hex(line.get_color()) for line in ax.lines}
    methods = {style.colour.lower() for style in METHOD_STYLES.values()}
    assert len(colours) == 2 and not colours & methods


def test_panels_of_a_column_share_what_they_are_drawn_against():
    rows = {"Measured": {"8 tasks": LINE}, "Reported": {"8 tasks": LINE.assign(k=LINE["k"] + 5)}}
    above, below = curve_figure(flat(rows | {"More": {"14 tasks": LINE}}), x="k", **LABELS).axes[
        ::2
    ][:2]
    assert above.get_xlim() == below.get_xlim()


def test_units_are_arguments():
    [ax] = curve_figure({"": LINE}, x="k", xunit=100, unit=1, xlabel="", ylabel="").axes
    assert ax.lines[0].get_xdata().tolist() == [100, 200]
    assert ax.lines[0].get_ydata().tolist() == [0.4, 0.5]


def test_number_of_tasks_is_said_in_words():
    frame = pd.concat([LINE.assign(num_tasks=8), LINE.assign(num_tasks=14)])
    fig = curve_figure({"": frame}, x="k", facet="num_tasks", xlabel="", ylabel="")
    assert [ax.get_title() for ax in fig.axes] == ["8 tasks", "14 tasks"]


def test_ranks_are_sorted_with_their_intervals():
    frame = LINE.rename(
        columns={"accuracy": "a", "accuracy_low": "a_low", "accuracy_high": "a_high"}
    )
    frame = frame.assign(name=["one", "two", "two", "one"])
    [ax] = rank_figure({"": frame}, y="name", x="a", xlabel="%").axes
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["one", "two"]
    points = [container[0].get_xdata().tolist() for container in ax.containers]
    assert points == [pytest.approx([50, 40]), pytest.approx([10, 20])]


def test_points_keep_their_colour_from_panel_to_panel():
    frame = pd.DataFrame(
        {
            "x": [0.0, 1.0, 2.0, 3.0, 4.0],
            "y": [5.0, 6.0, 7.0, 8.0, 9.0],
            "label": [1, 0, 1, 1, 0],
            "model": ["expert", "expert", "merged", "merged", "mended"],
        }
    )
    fig = scatter_figure(frame, x="x", y="y", by="label", facet="model")
    drawn = [ax for ax in fig.axes if ax.axison]
    assert [ax.get_title() for ax in drawn] == ["expert", "merged", "mended"]
    colours = {}
    for ax in drawn:
        [points] = ax.collections
        part = frame[frame["model"] == ax.get_title()]
        assert points.get_offsets().tolist() == part[["x", "y"]].to_numpy().tolist()
        for label, colour in zip(part["label"], map(to_hex, points.get_facecolors()), strict=True):
            assert colours.setdefault(label, colour) == colour
    assert len(set(colours.values())) == 2


def test_sources_of_different_sizes_fill_the_rows():
    """Three runs with one number of tasks each leave no hole in the figure."""
    sizes = {"Drawings": 14, "Photographs": 14, "Texts": 8}
    frames = {name: pd.DataFrame({"num_tasks": [size]}) for name, size in sizes.items()}
    fig, cells = grid(by_facet(frames, "num_tasks"), 2.0)
    for _ in cells:
        pass
    shown = [ax for ax in fig.axes if ax.axison]
    places = [
        (ax.get_subplotspec().rowspan.start, ax.get_subplotspec().colspan.start) for ax in shown
    ]
    assert places == [(0, 0), (0, 1), (1, 0)]
    titles = [ax.get_title().replace("\n", ", ") for ax in shown]
    assert titles == [f"{name}, {size} tasks" for name, size in sizes.items()]
    plt.close(fig)
