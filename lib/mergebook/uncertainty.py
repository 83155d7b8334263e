"""Numbers that know how far they may be off, and the bootstrap over test images behind them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from zlib import crc32

import numpy as np
from numpy.typing import ArrayLike

from mergebook.errors import ExperimentError, unknown

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

    def __truediv__(self, other: Estimate) -> Estimate:
        return Estimate(self.value / other.value, self.draws / other.draws)

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


class Scores:
    """Per-image outcomes of several methods on the same test images.

    Each bootstrap draw resamples the images of every task; all methods, and the experts that
    normalise them, see the same draw, so differences between methods are paired. A task is
    resampled in the same way whatever the other tasks are, so that suite sizes are paired too.

    Parameters
    ----------
    correct : mapping
        Method -> task -> bool [N]; all methods have the same tasks and image counts.
    reference : str, default "fine_tuned"
        The method that normalises.
    draws : int, default 1000
    seed : int, default 0

    Raises
    ------
    ExperimentError
        The reference is missing, or tasks or image counts differ between methods.
    """

    def __init__(
        self,
        correct: Mapping[str, Mapping[str, np.ndarray]],
        reference: str = "fine_tuned",
        draws: int = 1000,
        seed: int = 0,
    ):
        if reference not in correct:
            raise ExperimentError(unknown("reference method", reference, correct))
        self.methods, self.reference = tuple(correct), reference
        self.tasks = tuple(correct[reference])
        sizes = {task: len(correct[reference][task]) for task in self.tasks}
        self._accuracy = np.empty((len(self.methods), len(self.tasks)))
        self._samples = np.empty((draws, len(self.methods), len(self.tasks)))
        for t, task in enumerate(self.tasks):
            for method in self.methods:
                if len(correct[method].get(task, ())) != sizes[task]:
                    raise ExperimentError(
                        f"method {method!r}: outcomes on task {task!r} do not match {reference!r}'s"
                    )
            rng = np.random.default_rng([seed, crc32(task.encode())])
            hits = np.stack([correct[method][task] for method in self.methods]).astype(np.float64)
            weights = rng.multinomial(sizes[task], np.full(sizes[task], 1 / sizes[task]), draws)
            self._accuracy[:, t] = hits.mean(1)
            self._samples[:, :, t] = weights @ hits.T / sizes[task]

    def _row(self, method: str) -> int:
        if method not in self.methods:
            raise ExperimentError(unknown("method", method, self.methods))
        return self.methods.index(method)

    def per_task(self, method: str, normalised: bool = False) -> np.ndarray:
        """Return the accuracy on each task, float [T]."""
        accuracy = self._accuracy[self._row(method)]
        return accuracy / self._accuracy[self._row(self.reference)] if normalised else accuracy

    def mean(self, method: str, normalised: bool = False) -> float:
        """Return the mean accuracy over tasks."""
        return float(self.per_task(method, normalised).mean())

    def estimate(
        self, method: str, normalised: bool = False, tasks: Sequence[str] | None = None
    ) -> Estimate:
        """Return the mean over tasks with its bootstrap draws.

        Parameters
        ----------
        method : str
        normalised : bool, default False
            Divide each task's accuracy by that of the reference.
        tasks : sequence of str, optional
            Take the mean over these only; all if not given. So a suite and a larger one are
            compared on the tasks that they share.

        Raises
        ------
        ExperimentError
            If there is no such method or task, or `tasks` is empty.
        """
        tasks = self.tasks if tasks is None else tasks
        if not tasks:
            raise ExperimentError("a mean over tasks needs at least one task")
        for task in tasks:
            if task not in self.tasks:
                raise ExperimentError(unknown("task", task, self.tasks))
        columns = [self.tasks.index(task) for task in tasks]
        draws = self._samples[:, self._row(method)][:, columns]
        if normalised:
            draws = draws / self._samples[:, self._row(self.reference)][:, columns]
        return Estimate(self.per_task(method, normalised)[columns].mean(), draws.mean(1))

    def interval(self, method: str, normalised: bool = False) -> tuple[float, float]:
        """Return the 95 % percentile interval of the mean over tasks."""
        return self.estimate(method, normalised).interval
