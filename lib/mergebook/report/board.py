"""The leaderboard's committed results, read in one place: blocks, rows, formulas."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.special import stdtrit

from mergebook import paths
from mergebook.errors import ReportError
from mergebook.merged import Told
from mergebook.registry import get_method
from mergebook.report.measured import RUNS, list_measured, measured

BOARD = "atlas/leaderboard/summary"  # of a run
FIRST = "full"  # the run that tables, figures and prose speak of
RUN_TITLES = {"full": "drawn tasks", "real14": "real images", "text8": "texts"}


@dataclass(frozen=True)
class Block:
    """Methods that are told as much about an image's task: only these are rivals.

    Attributes
    ----------
    title, told, text : str
        Heading; what stands in the column "task told"; what the block is, in a sentence.
    """

    title: str
    told: str
    text: str


BLOCKS: Mapping[Told, Block] = {
    "no": Block(
        "One model",
        "no",
        "One encoder for all tasks; nobody tells it an image's task.",
    ),
    "yes": Block(
        "Several models, task told",
        "yes",
        "An encoder for each task, built from what is shared and what is kept for the task. "
        "Somebody has to say which task an image belongs to.",
    ),
    "guessed": Block(
        "Several models, task guessed",
        "guessed",
        "Something is kept for each task, and the encoder decides by the image how to use it.",
    ),
}
# What the letters of a formula stand for where it contains a piece; the first that fits counts.
LETTERS = (
    ("TP'", "T", "tasks"),
    ("TM", "T", "tasks"),
    ("T(P'", "T", "tasks"),
    ("32T", "T", "tasks"),
    ("(2T", "T", "tasks"),
    ("P'", "P'", "entries that fine-tuning changed"),
    ("F", "F", "entries that it did not"),
    ("TM", "M", "numbers of a task's small modules"),
    ("32H", "H", "entries of the learned heads"),
    ("L+", "L", "entries of the matrices kept as factors"),
    ("(P'-L)+K", "K", "entries of all tasks' factors"),
    ("F+D)", "D", "entries kept whole"),
    ("+ M + 32K", "M", "bits of the factors' masks"),
    ("+ M + 32K", "K", "kept entries of the factors"),
    ("+ G", "G", "bits that say which groups of entries keep something"),
    ("+ G + M", "M", "bits that say which entries of these are kept"),
    ("M + K", "K", "signs of kept entries"),
    ("F+K)", "K", "kept entries"),
    ("32N", "N", "numbers that scale the coded vectors"),
    ("32O", "O", "numbers of an own origin"),
    ("32R", "R", "numbers of the router"),
)


def boards() -> dict[str, pd.DataFrame]:
    """Return the committed leaderboards by run, the one that the pages speak of first."""
    return dict(_boards(paths.data_dir()))


@lru_cache(maxsize=1)
def _boards(data: Path) -> dict[str, pd.DataFrame]:
    """Read them once for each folder of data."""
    known = {name.partition("/")[0] for name in list_measured() if name.endswith(BOARD)}
    order = [run for run in (*RUNS, *sorted(known - {*RUNS})) if run in known]
    return {run: measured(f"{run}/{BOARD}") for run in order}


def at(board: pd.DataFrame, num_tasks: int) -> pd.DataFrame:
    """Rows of one suite size and the first seed, by method.

    Returns
    -------
    DataFrame
        With a column ``share`` more: storage over that of the experts.

    Raises
    ------
    ReportError
        If there are none.
    """
    part = board[(board["num_tasks"] == num_tasks) & (board["seed"] == board["seed"].min())]
    if part.empty:
        raise ReportError(f"the leaderboard has no results on {num_tasks} tasks")
    part = part.set_index("method")
    return part.assign(share=part["storage_gigabit"] / part["storage_gigabit"]["fine_tuned"])


def over_seeds(summary: pd.DataFrame) -> pd.DataFrame:
    """Mean over the seeds of the experts, with a 95 % t interval where there are two or more.

    Parameters
    ----------
    summary : DataFrame
        Rows of :meth:`mergebook.evaluation.Comparison.summary` of one suite size, for one or more
        seeds.

    Returns
    -------
    DataFrame
        Indexed by method in order of appearance: ``seeds``, ``mean`` and ``half`` (half the width
        of the interval, NaN for one seed) of the normalised accuracy.
    """
    groups = summary.groupby("method", sort=False)["normalised"]
    count, spread = groups.size(), groups.std(ddof=1)
    quantile = stdtrit((count - 1).clip(lower=1), 0.975)
    half = quantile * spread / np.sqrt(count)
    return pd.DataFrame({"seeds": count, "mean": groups.mean(), "half": half})


def frontier(part: pd.DataFrame) -> list[str]:
    """Methods that no other beats in both accuracy and storage, cheapest first.

    Parameters
    ----------
    part : DataFrame
        Indexed by method, with ``normalised`` and ``storage_gigabit``.
    """
    best, kept = -np.inf, []
    order = part.sort_values(["storage_gigabit", "normalised"], ascending=[True, False])
    for name, row in order.iterrows():
        if row["normalised"] > best:
            best = row["normalised"]
            kept.append(str(name))
    return kept


def shortened(method: str, params: str) -> str:
    """Say how much of its training a row's method had, if it was not all.

    Parameters
    ----------
    method : str
    params : str
        JSON of the parameters it ran with, as in the results.

    Returns
    -------
    str
        Such as ``"6 of 60 steps"``; empty where nothing was cut.
    """
    from mergebook.evaluation.leaderboard import LENGTHS

    given = json.loads(params)
    return ", ".join(
        f"{given[each.name]} of {each.default} {each.name.replace('_', ' ')}"
        for each in get_method(method).parameters
        if each.name in LENGTHS and given.get(each.name, each.default) != each.default
    )


def row_title(method: str, params: str = "{}") -> str:
    """Title of a method with the length of its training, if that was cut."""
    cut = shortened(method, params)
    return get_method(method).title + (f" ({cut})" if cut else "")


def letters(expression: str) -> list[tuple[str, str]]:
    """What the letters of a storage formula stand for, in the order of their meaning above."""
    known: dict[str, str] = {}
    for piece, letter, meaning in LETTERS:
        if piece in expression:
            known.setdefault(letter, meaning)
    return list(known.items())


def in_block(told: Told, names: Iterable[str]) -> list[str]:
    """The methods among some that are told as much."""
    return [name for name in names if get_method(name).told == told]
