"""The picture on a method's page: where it stands among its rivals."""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes

from mergebook.registry import get_method
from mergebook.report.board import BLOCKS, at, boards, in_block
from mergebook.report.numbers import shown
from mergebook.report.style import BLACK, BLUE, PAGE_WIDTH, book_style

FIELD = "#B9B9B9"  # the rivals
HEIGHT, DOTS = 3.2, 180  # inches, and dots an inch


class Pictures:
    """Draws a picture for each method: accuracy over suite sizes, and accuracy against storage.

    The rivals, methods that are told as much about an image's task, are drawn once.
    """

    def __init__(self) -> None:
        self.board = next(iter(boards().values()), None)
        self._fields: dict[str, tuple[plt.Figure, Axes, Axes]] = {}

    def draw(self, name: str, path: Path) -> str:
        """Draw a method's picture.

        Parameters
        ----------
        name : str
        path : Path
            Of the image; nothing is written if the method is not on the leaderboard.

        Returns
        -------
        str
            The directive that shows it on a page beside it; empty if there is none.
        """
        if self.board is None or name not in set(self.board["method"]):
            return ""
        method, board = get_method(name), self.board
        with book_style():
            fig, left, right = self._field(method.told)
            mine = board[(board["method"] == name) & (board["seed"] == board["seed"].min())]
            mine = mine.sort_values("num_tasks")
            x, y = mine["num_tasks"], 100 * mine["normalised"]
            low, high = 100 * mine["normalised_low"], 100 * mine["normalised_high"]
            here = at(board, board["num_tasks"].min()).loc[name]
            drawn = [
                left.fill_between(x, low, high, color=BLUE, alpha=0.25, lw=0, zorder=4),
                *left.plot(x, y, c=BLUE, marker="o", lw=2.4, zorder=5),
                right.scatter(
                    100 * here["share"], 100 * here["normalised"], s=110, c=BLUE, zorder=5,
                    edgecolors="white",
                ),
                right.annotate(
                    method.title, (100 * here["share"], 100 * here["normalised"]),
                    (12, -1) if here["share"] < 0.4 else (-12, -1), textcoords="offset points",
                    ha="left" if here["share"] < 0.4 else "right", va="center", color=BLUE,
                    fontweight="bold", zorder=6,
                    bbox={"facecolor": "white", "alpha": 0.75, "lw": 0, "pad": 1},
                ),
            ]  # fmt: skip
            fig.savefig(path, dpi=DOTS, metadata={"Software": None})
            for each in drawn:
                each.remove()
        values = ", ".join(
            f"{shown(value / 100)} at {size} tasks" for size, value in zip(x, y, strict=True)
        )
        block = BLOCKS[method.told].title
        return "\n".join(
            [
                "::::{container} method-picture",
                "",
                f"```{{image}} {path.name}",
                f":alt: {method.title} reaches {values} of the experts' accuracy, and stores "
                f"{shown(here['share'])} of what they store at {board['num_tasks'].min()} tasks.",
                "```",
                "",
                f"Drawn tasks, {here['backbone']}. Blue: {method.title}; grey: the others of the "
                f"block *{block}* on [the leaderboard](/executed/atlas/leaderboard), and on the "
                "right, open, those of the other blocks.",
                "::::",
            ]
        )

    def _field(self, told: str) -> tuple[plt.Figure, Axes, Axes]:
        if told not in self._fields:
            self._fields[told] = self._draw_field(told)
        return self._fields[told]

    def _draw_field(self, told: str) -> tuple[plt.Figure, Axes, Axes]:
        board = self.board
        first = board[board["seed"] == board["seed"].min()]
        names = list(first["method"].unique())
        rivals = in_block(told, names)
        fig, (left, right) = plt.subplots(
            1, 2, figsize=(PAGE_WIDTH, HEIGHT), layout="constrained", sharey=True
        )
        lines = first.pivot(index="num_tasks", columns="method", values="normalised")
        left.plot(lines.index, 100 * lines[rivals], c=FIELD, lw=1, zorder=2)
        left.axhline(100, c=BLACK, ls="--", lw=1, zorder=1)
        left.set_xticks(lines.index)
        left.set_xlabel("Tasks")
        left.set_ylabel("Accuracy, % of the experts'")
        left.set_title("Over suite sizes")
        size = board["num_tasks"].min()
        part = at(board, size)
        for group, look in ((rivals, {"c": FIELD}), (_others(rivals, part), {"ec": FIELD})):
            shares, values = 100 * part["share"][group], 100 * part["normalised"][group]
            face = {} if "c" in look else {"facecolors": "none"}
            right.scatter(shares, values, s=28, zorder=2, **look, **face)
        right.axhline(100, c=BLACK, ls="--", lw=1, zorder=1)
        right.set_xscale("log")
        low, high = 100 * part["share"].min(), 100 * part["share"].max()
        ticks = [t for t in (2, 5, 10, 20, 50, 100, 200) if 0.8 * low < t < 1.3 * high]
        right.set_xticks(ticks, [f"{t} %" for t in ticks])
        right.minorticks_off()
        right.set_xlabel("Storage, share of the experts'")
        right.set_title(f"Against storage, {size} tasks")
        low = 100 * first["normalised"].min()
        left.set_ylim(5 * (low // 5) - 2, 106)
        fig.canvas.draw()
        fig.set_layout_engine("none")  # what is added moves nothing
        return fig, left, right


def _others(rivals: list[str], part: pd.DataFrame) -> list[str]:
    return [name for name in part.index if name not in rivals]
