"""What claims are judged on: settings, and functions that answer with estimates."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from types import SimpleNamespace

ENCODERS = {
    "ViT-B-32": "ViT-B/32",
    "ViT-B-16": "ViT-B/16",
    "ViT-L-14": "ViT-L/14",
}


@dataclass(frozen=True)
class Setting:
    """One setting that numbers are of: an encoder and a number of tasks.

    Attributes
    ----------
    num_tasks : int
    encoder : str
        Name of the backbone; in words only where a source has several.
    smaller : bool
        Whether the encoder is the smaller one of its kind.
    tasks : str
        What tasks are called in words.
    """

    num_tasks: int
    encoder: str = ""
    smaller: bool = True
    tasks: str = "tasks"

    def __str__(self) -> str:
        name = ENCODERS.get(self.encoder, self.encoder)
        return (
            f"{name}, {self.num_tasks} {self.tasks}" if name else f"{self.num_tasks} {self.tasks}"
        )


class Numbers(SimpleNamespace):
    """What claims are judged on: a source's settings, and a function for each kind of number.

    Parameters
    ----------
    settings : iterable of Setting
        In order of size, one encoder after the other.
    **functions : callable
        Such as ``normalised(method, setting) -> Estimate``; each chapter says which its claims
        ask for. A claim can only be judged on numbers that have its functions.
    """

    def __init__(self, settings: Iterable[Setting], **functions: object):
        super().__init__(settings=tuple(settings), **functions)

    def __getattr__(self, name: str) -> object:
        raise AttributeError(
            f"these numbers have no {name!r}, for which a claim asks; they have "
            f"{', '.join(vars(self))}. Give Numbers(...) another function: {name}=..."
        )

    @property
    def ends(self) -> list[tuple[Setting, Setting]]:
        """For each encoder with several sizes, the settings of the smallest and the largest."""
        encoders: dict[str, list[Setting]] = {}
        for setting in self.settings:
            encoders.setdefault(setting.encoder, []).append(setting)
        return [(found[0], found[-1]) for found in encoders.values() if len(found) > 1]
