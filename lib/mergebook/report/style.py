"""One look for all figures: font, background, and a fixed colour and marker per method."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import NamedTuple

import matplotlib as mpl
from cycler import cycler

from mergebook.errors import MethodError
from mergebook.registry import get_method


class MethodStyle(NamedTuple):
    """How a method is drawn: a colour (hex) and a matplotlib marker."""

    colour: str
    marker: str


# The eight colours of Okabe and Ito (2008), told apart by readers with any common colour vision.
BLACK, ORANGE, SKY, GREEN = "#000000", "#E69F00", "#56B4E9", "#009E73"
YELLOW, BLUE, VERMILION, PURPLE = "#C9B800", "#0072B2", "#D55E00", "#CC79A7"
GREY = "#6B6B6B"

METHOD_STYLES = {
    "zero_shot": MethodStyle(GREY, "X"),
    "fine_tuned": MethodStyle(BLACK, "*"),
    "averaging": MethodStyle(YELLOW, "o"),
    "task_arithmetic": MethodStyle(BLUE, "o"),
    "ties": MethodStyle(ORANGE, "o"),
    "consensus_ta": MethodStyle(BLUE, "s"),
    "consensus_ties": MethodStyle(ORANGE, "s"),
    "magnitude_pruning": MethodStyle(PURPLE, "v"),
    "magnitude_masking": MethodStyle(PURPLE, "^"),
    "tall_ta": MethodStyle(VERMILION, "D"),
    "tall_ties": MethodStyle(GREEN, "D"),
}
# For lines that are no methods, such as sorts of layers: the muted colours of Tol (2021).
OTHER_COLOURS = ("#882255", "#999933", "#332288", "#44AA99", "#CC6677", "#DDCC77")
FALLBACK_COLOURS = (SKY, BLUE, GREEN, PURPLE, VERMILION, ORANGE)
FALLBACK_MARKERS = "PphH<>8d"

RC = {
    "figure.facecolor": "white",  # opaque, so that a figure stays readable on a dark page
    "savefig.facecolor": "white",
    "axes.facecolor": "white",
    "axes.edgecolor": "#444444",
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.prop_cycle": cycler(color=FALLBACK_COLOURS),
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
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


def method_style(name: str) -> MethodStyle:
    """Colour and marker of a method, the same in every figure of the book.

    Parameters
    ----------
    name : str
        Name of a method. One without an entry in `METHOD_STYLES` (a reader's own, say) gets a
        colour and a marker computed from its name.

    Returns
    -------
    MethodStyle
        Colour (hex) and matplotlib marker.
    """
    if name in METHOD_STYLES:
        return METHOD_STYLES[name]
    code = zlib.crc32(name.encode())
    return MethodStyle(
        FALLBACK_COLOURS[code % len(FALLBACK_COLOURS)],
        FALLBACK_MARKERS[code // 7 % len(FALLBACK_MARKERS)],
    )


def title_of(name: object) -> str:
    """Title of a method, or the name itself if it is none."""
    with suppress(MethodError):
        return get_method(str(name)).title
    return str(name)


@contextmanager
def book_style() -> Iterator[None]:
    """Use the book's figure style inside a ``with`` block or as a decorator."""
    with mpl.rc_context(RC):
        yield
