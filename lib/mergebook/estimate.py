"""A number that knows how far it may be off: its value, and what resampling makes of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike

from mergebook.errors import ExperimentError

LEVEL = 0.95


@dataclass(frozen=True)
class Estimate:
    """A statistic and its bootstrap draws.

    Sums, differences and multiples are taken draw by draw. Two estimates whose draws resample the
    same images therefore stay paired, and the interval of their difference is as narrow as it
    should be [efron1993bootstrap].

    Parameters
    ----------
    value : float
        The statistic on the data as they are.
    draws : array_like, float [B]
        The statistic on B resamples of the data. One draw is enough for an exact number.

    Raises
    ------
    ExperimentError
        If there are no draws, they are not one-dimensional, or a number is not finite.
    """

    value: float
    draws: np.ndarray = field(repr=False)

    def __post_init__(self) -> None:
        draws = np.asarray(self.draws, dtype=float)
        if draws.ndim != 1 or draws.size == 0:
            raise ExperimentError(f"an estimate needs draws of shape (B,), got {draws.shape}")
        if not (np.isfinite(draws).all() and np.isfinite(self.value)):
            raise ExperimentError(f"an estimate of {self.value} or a draw of it is not finite")
        object.__setattr__(self, "value", float(self.value))
        object.__setattr__(self, "draws", draws)

    @property
    def interval(self) -> tuple[float, float]:
        """Bounds of the central 95 % of the draws."""
        low, high = np.quantile(self.draws, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
        return float(low), float(high)

    def __add__(self, other: Estimate | float) -> Estimate:
        if isinstance(other, Estimate):
            if min(len(self.draws), len(other.draws)) > 1 and len(self.draws) != len(other.draws):
                raise ExperimentError(
                    f"{len(self.draws)} draws cannot be paired with {len(other.draws)}"
                )
            return Estimate(self.value + other.value, self.draws + other.draws)
        return Estimate(self.value + other, self.draws + other)

    def __mul__(self, factor: float) -> Estimate:
        return Estimate(self.value * factor, self.draws * factor)

    __radd__, __rmul__ = __add__, __mul__

    def __neg__(self) -> Estimate:
        return self * -1

    def __sub__(self, other: Estimate | float) -> Estimate:
        return self + -other

    def __rsub__(self, other: float) -> Estimate:
        return -self + other


def exact(value: float) -> Estimate:
    """Return a number without an error, such as a count of bits."""
    return Estimate(value, [value])


def mean_of(numbers: ArrayLike, draws: int = 1000, seed: int = 0) -> Estimate:
    """Estimate the mean of a few numbers, one for each task or each set of tasks.

    Parameters
    ----------
    numbers : array_like, float [N]
    draws, seed : int
        Of the bootstrap over the N numbers.
    """
    numbers = np.asarray(numbers, dtype=float)
    if numbers.ndim != 1 or not numbers.size:
        raise ExperimentError(f"a mean needs numbers of shape (N,), got {numbers.shape}")
    chosen = np.random.default_rng(seed).integers(len(numbers), size=(draws, len(numbers)))
    return Estimate(numbers.mean(), numbers[chosen].mean(1))


def over_subsets(parts: Sequence[Estimate], seed: int = 0) -> Estimate:
    """Estimate a mean over sets of tasks, resampling the sets on top of the images.

    Parameters
    ----------
    parts : sequence of S Estimate, with B draws each
        For each set of tasks, the statistic and its resamples of the images.
    seed : int, default 0
        Seed of the resampling of sets.

    Returns
    -------
    Estimate
        Its value is the mean over sets; in each draw, S sets are drawn with replacement.
    """
    table = np.stack([part.draws for part in parts])
    rng, draws = np.random.default_rng(seed), np.arange(table.shape[1])
    chosen = rng.integers(len(table), size=(len(table), table.shape[1]))
    value = float(np.mean([part.value for part in parts]))
    return Estimate(value, table[chosen, draws].mean(0))
