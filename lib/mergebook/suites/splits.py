"""Train, validation and test examples of a stored task: disjoint, the same at every call."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from mergebook.errors import SuiteError
from mergebook.suites.base import Split

LEAST_VALIDATION = 50  # examples, where no number is asked for


class Part(NamedTuple):
    """The examples of one split as they are stored.

    Attributes
    ----------
    labels : ndarray of int64, shape [N]
    read : callable
        ``read(index)``: images, uint8 [len(index), S, S, 3], or texts, objects [len(index)].
    """

    labels: np.ndarray
    read: Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Cuts:
    """How splits that are not stored apart are cut from the training examples.

    Parameters
    ----------
    validation, test : int, float or None
        A number of examples, or a fraction between 0 and 1. None stands for a fifth as test
        examples, and for a tenth of what is left, at least 50 but at most half, for validation.
    seed : int, default 0
        Decides which examples; no other seed does.
    """

    validation: int | float | None = None
    test: int | float | None = None
    seed: int = 0

    def apply(self, parts: Mapping[str, Part]) -> dict[str, tuple[Part, np.ndarray]]:
        """Return the part of each split and the examples of it, as indices without repetition.

        Raises
        ------
        SuiteError
            If a split would be left without examples.
        """
        rest = spread(parts["train"].labels, self.seed)
        found = {}
        for split in ("test", "validation"):
            if split in parts:
                found[split] = parts[split], np.arange(len(parts[split].labels))
            else:
                size = self._size(split, len(rest))
                found[split], rest = (parts["train"], rest[:size]), rest[size:]
        found["train"] = parts["train"], rest
        for split, (_, index) in found.items():
            if not len(index):
                raise SuiteError(f"no examples are left for {split}")
        return found

    def _size(self, split: str, total: int) -> int:
        asked = getattr(self, split)
        if asked is None and split == "test":
            return round(total / 5)
        if asked is None:
            return min(max(round(total / 10), LEAST_VALIDATION), total // 2)
        return round(asked * total) if isinstance(asked, float) else asked


def spread(labels: np.ndarray, seed: int) -> np.ndarray:
    """Return a random order in which each class is spread evenly.

    Any first part of it holds the classes in about their proportions.

    Parameters
    ----------
    labels : ndarray of int, shape [N]
    seed : int

    Returns
    -------
    ndarray of int64, shape [N]
        A permutation of the indices.
    """
    rng = np.random.default_rng(seed)
    position = np.empty(len(labels))
    for label in np.unique(labels):
        members = rng.permutation(np.flatnonzero(labels == label))
        position[members] = (np.arange(len(members)) + rng.random(len(members))) / len(members)
    return np.argsort(position, kind="stable")


def loader(
    task: str, splits: Mapping[str, tuple[Part, np.ndarray]]
) -> Callable[[str, int, int], Split]:
    """Return the function that gives a task its examples.

    Parameters
    ----------
    task : str
        Name of the task; with split and seed it decides the order of the examples.
    splits : mapping
        As :meth:`Cuts.apply` returns them.

    Returns
    -------
    callable
        ``load(split, size, seed) -> Split``, at most `size` of them.
    """

    def load(split: str, size: int, seed: int) -> Split:
        part, index = splits[split]
        order = spread(part.labels[index], zlib.crc32(f"{task}/{split}/{seed}".encode()))
        chosen = index[order[:size]]
        return Split(part.read(chosen), part.labels[chosen])

    return load
