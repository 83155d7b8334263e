"""One look for all figures: width, font, background, and a colour and marker per method."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from itertools import product
from typing import NamedTuple

import matplotlib as mpl
import yaml
from cycler import cycler

from mergebook.errors import MethodError
from mergebook.paths import project_dir
from mergebook.registry import get_method, list_methods
from mergebook.suites import load_suite


class MethodStyle(NamedTuple):
    """How a method is drawn: a colour (hex) and a matplotlib marker."""

    colour: str
    marker: str


PAGE_WIDTH = 8.0  # inches: the width of a figure that fills a page, 800 CSS pixels
MAX_COLUMNS = 2  # panels side by side; a third would be too narrow for its labels

# With black and grey, eleven colours that readers with any common colour vision tell apart: four
# of Okabe and Ito (2008), five found by search for the largest smallest difference (CIEDE2000 of
# 13 or more for normal vision, protanopia and deuteranopia).
BLACK, GREY = "#000000", "#767676"
BLUE, SKY, INDIGO = "#0072B2", "#56B4E9", "#3109AA"
VERMILION, SALMON, MAROON = "#D55E00", "#DB8B70", "#790606"
YELLOW, GREEN, PLUM = "#C9B800", "#196640", "#661940"

# Blues descend from task arithmetic, reds from TIES; a marker says what was done to the sum.
METHOD_STYLES = {
    "zero_shot": MethodStyle(GREY, "X"),
    "fine_tuned": MethodStyle(BLACK, "*"),
    "averaging": MethodStyle(YELLOW, "o"),
    "task_arithmetic": MethodStyle(BLUE, "o"),
    "consensus_ta": MethodStyle(SKY, "s"),
    "tall_ta": MethodStyle(INDIGO, "D"),
    "ties": MethodStyle(VERMILION, "o"),
    "consensus_ties": MethodStyle(SALMON, "s"),
    "tall_ties": MethodStyle(MAROON, "D"),
    "magnitude_pruning": MethodStyle(GREEN, "v"),
    "magnitude_masking": MethodStyle(PLUM, "^"),
}
METHOD_COLOURS = (BLUE, VERMILION, GREEN, SKY, MAROON, YELLOW, INDIGO, SALMON, PLUM, GREY, BLACK)
# For what is no method, such as sorts of layers: colours that no method has.
OTHER_COLOURS = ("#44AA99", "#AA4499", "#999933", "#CC6677", "#B79762", "#7788AA")
FREE_MARKERS = "Pph<>8dH"

RC = {
    "figure.facecolor": "white",  # opaque, so that a figure stays readable on a dark page
    "savefig.facecolor": "white",
    "axes.facecolor": "white",
    "axes.edgecolor": "#444444",
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.prop_cycle": cycler(color=METHOD_COLOURS),
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlepad": 8.0,
    "figure.constrained_layout.h_pad": 0.08,  # inches: titles stay clear of the ticks above
    "axes.labelsize": 10,
    "grid.color": "#E4E4E4",
    "grid.linewidth": 0.8,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "font.family": "DejaVu Sans",  # ships with matplotlib: the same letters on every machine
    "font.size": 10,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "lines.linewidth": 1.8,
}


def method_styles(names: Iterable[str]) -> dict[str, MethodStyle]:
    """Colours and markers of the methods of one figure, no two alike.

    Parameters
    ----------
    names : iterable of str
        Everything that the figure draws, in order of appearance. A method of `METHOD_STYLES`
        looks the same in every figure of the book; another one (a reader's own, say) gets the
        next colour that no other of the figure has; what is no method gets one that no method
        has.

    Returns
    -------
    dict of str to MethodStyle
        In the order of `names`. Colours repeat only once all are taken, and then with other
        markers.
    """
    names = list(dict.fromkeys(names))
    taken = {METHOD_STYLES[name].colour for name in names if name in METHOD_STYLES}
    free = [colour for colour in METHOD_COLOURS if colour not in taken]
    known = set(list_methods())
    methods = product(FREE_MARKERS, (*free, *taken))
    others = product(FREE_MARKERS, OTHER_COLOURS)
    styles = {}
    for name in names:
        if name in METHOD_STYLES:
            styles[name] = METHOD_STYLES[name]
        else:
            marker, colour = next(methods if name in known else others)
            styles[name] = MethodStyle(colour, marker)
    return styles


def title_of(name: object) -> str:
    """Title of a method, or the name itself if it is none."""
    with suppress(MethodError):
        return get_method(str(name)).title
    return str(name)


@cache
def _task_titles() -> dict[str, str]:
    titles = {task.name: task.title for task in load_suite("mini")}
    for path in sorted((project_dir() / "data/suites").glob("*/suite.yaml")):  # without images
        tasks = yaml.safe_load(path.read_text(encoding="utf-8"))["tasks"]
        titles |= {task["name"]: task.get("title", task["name"]) for task in tasks}
    return titles


def task_title(name: object) -> str:
    """Title of a task of the mini suite or of `data/suites`; of another the name, with spaces."""
    return _task_titles().get(str(name), str(name).replace("_", " "))


@contextmanager
def book_style() -> Iterator[None]:
    """Use the book's figure style inside a ``with`` block or as a decorator."""
    with mpl.rc_context(RC):
        yield
