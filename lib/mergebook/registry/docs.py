"""Docstrings of methods: what they say of parameters, and the same written out in full."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mergebook.registry.parameters import Parameter

SECTION = re.compile(r"^Parameters\n-+\n(.*?)(?=^\S[^\n]*\n-+$|\Z)", re.M | re.S)
NEXT = re.compile(r"^\S[^\n]*\n-+$|\Z", re.M)
WIDTH = 100


def documented(doc: str) -> dict[str, str]:
    """Descriptions in the Parameters section of a NumPy-style docstring, by parameter."""
    match = SECTION.search(doc)
    descriptions: dict[str, list[str]] = {}
    names: list[str] = []
    for line in (match.group(1) if match else "").splitlines():
        if line and not line.startswith(" "):
            names = [name.strip() for name in line.split(":")[0].split(",")]
            descriptions |= {name: [] for name in names}
        else:
            for name in names:
                descriptions[name].append(line.strip())
    return {name: " ".join(filter(None, lines)) for name, lines in descriptions.items()}


def in_full(doc: str, needs: Iterable[str], parameters: Iterable[Parameter]) -> str:
    """A docstring of a method with all that a call takes in its Parameters section.

    Parameters
    ----------
    doc : str
        Docstring of the function: its Parameters section may leave out what every method takes and
        what the shared types of parameters say.
    needs : iterable of {"images", "labels"}
        What the method needs beyond weights.
    parameters : iterable of Parameter
        The method's parameters.
    """
    entries = ["experts : Experts", "    Base and experts."]
    if needs := tuple(needs):
        kind = "Labelled" if "labels" in needs else "Unlabelled"
        entries += ["calibration : Calibration", f"    {kind} images and the heads."]
    for each in parameters:
        choices = "{" + ", ".join(f'"{x}"' if isinstance(x, str) else str(x) for x in each.choices)
        valid = f"{choices}}}" if each.choices else each.type
        shown = f'"{each.default}"' if isinstance(each.default, str) else each.default
        entries += [
            f"{each.name} : {valid}, default {shown}",
            textwrap.fill(
                each.doc,
                WIDTH,
                initial_indent="    ",
                subsequent_indent="    ",
                break_long_words=False,
                break_on_hyphens=False,
            ),
        ]
    section = "\n".join(["Parameters", "----------", *entries, "", ""])
    match = SECTION.search(doc) or NEXT.search(doc)
    start, end = match.span() if match[0].startswith("Parameters\n-") else (match.start(),) * 2
    return f"{doc[:start].rstrip()}\n\n{section}{doc[end:]}".strip()
