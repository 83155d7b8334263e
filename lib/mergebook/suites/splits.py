"""Train, validation and test images of a stored task: disjoint, and the same at every call."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from mergebook.errors import SuiteError
from mergebook.suites.base import Images

LEAST_VALIDATION = 50  # images, where no number is asked for


class Part(NamedTuple):
    """The images of one split as they are stored.

    Attributes
    ----------
    labels : ndarray of int64, shape [N]
    read : callable
        ``read(index) -> uint8 [len(index), S, S, 3]``.
    """

    labels: np.ndarray
    read: Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Cuts:
    """How splits that are not stored apart are cut from the training images.

    Parameters
    ----------
    validation, test : int, float or None
        A number of images, or a fraction between 0 and 1. None stands for a fifth as test images,
        and for a tenth of what is left, at least 50 images but at most half, as validation images.
    seed : int, default 0
        Decides which images; no other seed does.
    """

    validation: int | float | None = None
    test: int | float | None = None
    seed: int = 0

    def apply(self, parts: Mapping[str, Part]) -> dict[str, tuple[Part, np.ndarray]]:
        """Return the part of each split and the images of it, as indices without repetition.

        Raises
        ------
        SuiteError
            If a split would be left without images.
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
                raise SuiteError(f"no images are left for {split}")
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
) -> Callable[[str, int, int], Images]:
    """Return the function that gives a task its images.

    Parameters
    ----------
    task : str
        Name of the task; with split and seed it decides the order of the images.
    splits : mapping
        As :meth:`Cuts.apply` returns them.

    Returns
    -------
    callable
        ``load(split, size, seed) -> Images``, at most `size` of them.
    """

    def load(split: str, size: int, seed: int) -> Images:
        part, index = splits[split]
        order = spread(part.labels[index], zlib.crc32(f"{task}/{split}/{seed}".encode()))
        chosen = index[order[:size]]
        return Images(part.read(chosen), part.labels[chosen])

    return load
