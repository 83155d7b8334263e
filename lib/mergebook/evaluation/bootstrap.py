"""Bootstrap intervals over test images, paired between methods."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from zlib import crc32

import numpy as np

from mergebook.errors import ExperimentError, unknown
from mergebook.estimate import Estimate


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
