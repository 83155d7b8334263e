"""What a method's page says in numbers: measured, reported, stored, spent."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pandas as pd

from mergebook import paths
from mergebook.report.arranged import PAPER_NAMES
from mergebook.report.board import (
    BOARD,
    FIRST,
    RUN_TITLES,
    at,
    boards,
    letters,
    over_seeds,
    shortened,
)
from mergebook.report.measured import list_measured, measured
from mergebook.report.numbers import EMPTY, between, shown
from mergebook.report.reported import reported
from mergebook.report.tables import COUNTERPARTS

NOT_RUN = "Not yet run."
# The papers' tables that give one number a method, backbone and size.
REPORTED = ("tall_masks_main", "tsv_rerun", "tsv_main", "iso_main", "cart_main")
BACKBONE = "mini-small"  # of the leaderboard
METRICS = {  # the first that a table has, and how its column is headed
    "normalised_accuracy_percent": "reported",
    "accuracy_percent": "reported, plain accuracy",
}
PLAIN = METRICS["accuracy_percent"]


def _rows(name: str) -> Iterator[tuple[str, int, pd.Series, pd.Series]]:
    """Run, suite size, the method's row of the first seed, and its mean over the seeds."""
    for run, board in boards().items():
        mine = board[board["method"].isin((name, "fine_tuned"))]
        for size in sorted(mine.loc[mine["method"] == name, "num_tasks"].unique()):
            means = over_seeds(mine[mine["num_tasks"] == size])
            yield run, int(size), at(mine, size).loc[name], means.loc[name]


def _tasks(run: str, size: int) -> str:
    """How a row of a table is headed: the number of tasks, and which, unless they are drawn."""
    return f"{size}" if run == FIRST else f"{size} {RUN_TITLES.get(run, run)}"


def _reported(name: str) -> tuple[dict[str, dict[int, str]], list[str]]:
    """Heading -> suite size -> accuracy as the papers print it, and the sources.

    Of the backbone that the measured one stands for, normalised if the table has that.
    """
    found: dict[str, dict[int, str]] = {}
    sources: dict[str, None] = {}
    for table in REPORTED:
        frame = reported(table)
        frame = frame[(frame["method"] == name) & (frame["backbone"] == COUNTERPARTS[BACKBONE])]
        metric = next((each for each in METRICS if each in set(frame["metric"])), None)
        frame = frame[frame["metric"] == metric]
        for row in frame.itertuples():
            backbone = PAPER_NAMES.get(row.backbone, row.backbone)
            column = f"{METRICS[metric]}, {backbone}, {{cite}}`{row.paper}`"
            found.setdefault(column, {})[row.num_tasks] = shown(row.value / 100, "cell")
            sources[f"the {row.table} of {{cite:t}}`{row.paper}`"] = None
    return found, list(sources)


def numbers_table(name: str) -> list[str]:
    """Accuracy relative to the experts': measured with intervals, and the papers' beside it.

    Parameters
    ----------
    name : str
        A registered method.

    Returns
    -------
    list of str
        Lines of MyST Markdown: a row for each run and suite size. What a paper reports stands in
        the rows of drawn tasks, in a column of its own.
    """
    cells: dict[str, dict[str, str]] = {}
    seeds = 0
    for run, size, row, mean in _rows(name):
        here = cells.setdefault(_tasks(run, size), {})
        interval = between(row["normalised_low"], row["normalised_high"])
        here["measured"] = f"{shown(row['normalised'], 'cell')} ({interval})"
        if mean["seeds"] > 1:
            seeds = int(mean["seeds"])
            spread = f"{shown(mean['mean'], 'cell')} ± {shown(mean['half'], 'cell')}"
            here[f"mean of {seeds} sets"] = spread
    papers, sources = _reported(name)
    for column, values in papers.items():
        for size, text in sorted(values.items()):
            cells.setdefault(_tasks(FIRST, size), {})[column] = text
    if not cells:
        return [NOT_RUN]
    columns = list(dict.fromkeys(column for row in cells.values() for column in row))
    lines = ["Accuracy in per cent of the experts'.", ""]
    lines += [f"| tasks | {' | '.join(columns)} |", "| --- " * (len(columns) + 1) + "|"]
    for tasks, texts in cells.items():
        lines.append(f"| {tasks} | {' | '.join(texts.get(each, EMPTY) for each in columns)} |")
    note = "Measured: the experts of seed 0, with 95 % bootstrap intervals over test examples"
    note += f"; means of {seeds} sets of experts with 95 % t intervals." if seeds else "."
    if papers:
        note += (
            f" Reported: {' and '.join(sources)}; other networks, other tasks, so that orders may "
            "be compared, not numbers."
        )
        if any(column.startswith(PLAIN) for column in papers):
            note += " Plain accuracy is not relative to the experts'."
    else:
        note += " None of [the papers' tables](/book/how_to_read) that this book holds has it."
    return [*lines, "", note]


def costs_table(name: str) -> list[str]:
    """Storage, time and memory of the committed runs, as lines of MyST Markdown."""
    lines = [
        "| tasks | storage, % of the experts' | accuracy, % | merging, s | peak, MiB "
        "| inference, × |",
        "| --- " * 6 + "|",
    ]
    cut = ""
    for run, size, row, _ in _rows(name):
        tasks = _tasks(run, size)
        cells = [tasks, shown(row["share"], "cell"), shown(row["accuracy"], "cell")]
        cells.append(shown(row["seconds"], ".2f"))
        cells += [shown(row["peak_mib"], ".0f"), shown(row["inference_ratio"], ".1f")]
        lines.append(f"| {' | '.join(cells)} |")
        if length := shortened(name, row["params"]):
            cut += f" On {tasks} tasks it trained for {length}."
    if len(lines) == 2:
        return [NOT_RUN]
    return [
        _legend(name),
        "",
        *lines,
        "",
        "Seconds of one merge on one core, training included; the peak is of tensors made while "
        f"merging; inference is relative to one plain encoder.{cut}",
    ]


def formula(name: str) -> str:
    """Storage of a method as a formula in MyST Markdown."""
    expression = next((row["storage"] for *_, row, _ in _rows(name)), "")
    return f"${expression}$ bits" if expression else "see `merged.storage()`"


def _legend(name: str) -> str:
    expression = next((row["storage"] for *_, row, _ in _rows(name)), "")
    named = [f"${letter}$ {meaning}" for letter, meaning in letters(expression)]
    return f"To serve all tasks: ${expression}$ bits, with {', '.join(named)}."


def places(name: str) -> list[str]:
    """Links to the chapters that a method comes up in, and to their notebooks that measured it."""
    return _places(paths.data_dir()).get(name, [])


@cache
def _places(data: Path) -> dict[str, list[str]]:
    """Links by method, from the committed run of this folder."""
    notebooks: dict[str, dict[str, None]] = {}
    for table in list_measured():
        run, chapter, notebook, *_ = table.split("/")
        if run == FIRST and not table.endswith(BOARD):
            frame = measured(table)
            for name in frame["method"].unique() if "method" in frame else ():
                notebooks.setdefault(name, {})[f"{chapter}/{notebook}"] = None
    links = {}
    for name, places in notebooks.items():
        chapters = dict.fromkeys(place.split("/")[0] for place in places)
        pages = [f"{chapter}/index" for chapter in chapters]
        there = [page for page in pages if (data.parent / "book" / f"{page}.md").is_file()]
        links[name] = [f"[the chapter](/book/{page})" for page in there]
        links[name] += [
            f"[{place.split('/')[1].replace('_', ' ')}](/executed/{place})" for place in places
        ]
    return links
