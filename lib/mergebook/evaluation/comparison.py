"""Several methods on one benchmark: tuned on validation data, compared on test data."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pandas as pd

from mergebook.errors import ExperimentError
from mergebook.evaluation.benchmark import Benchmark, Correct, Search
from mergebook.storage import Storage
from mergebook.uncertainty import Scores


@dataclass(frozen=True)
class Entry:
    """What one method did on one benchmark.

    Attributes
    ----------
    method : str
        Its name.
    params : dict
        The parameters it was evaluated with.
    correct : mapping of task to array
        Which test images it classifies correctly, bool [N].
    storage : Storage
        What it stores.
    curve : DataFrame
        The search that chose the parameters, see :class:`Search`; empty if there was none.
    costs : mapping of str to float
        Further measurements, written into the results as columns.
    """

    method: str
    params: dict[str, object]
    correct: Correct
    storage: Storage
    curve: pd.DataFrame
    costs: Mapping[str, float] = field(default_factory=dict)


class Comparison:
    """Collects the test outcomes of methods on one benchmark.

    Parameters
    ----------
    bench : Benchmark
    scale : {"mini", "paper"}
        Written into the results, so that numbers of two scales never share a column.

    Attributes
    ----------
    entries : dict of str to Entry
        By method, in the order they were added.
    """

    def __init__(self, bench: Benchmark, scale: str = "mini"):
        self.bench, self.scale = bench, scale
        self.entries: dict[str, Entry] = {}

    def add(
        self,
        method: str,
        grid: Mapping[str, Sequence] | None = None,
        per_task: Mapping[str, Sequence] | None = None,
        **fixed: object,
    ) -> Search:
        """Tune a method on validation data and evaluate it once on test data.

        Parameters
        ----------
        method : str
            Name of a registered method; each may be added once.
        grid : mapping, optional
            Parameter -> values, searched jointly, one choice for all tasks.
        per_task : mapping, optional
            One parameter -> values, chosen for each task by itself. Not together with `grid`.
        **fixed
            Parameters that are not searched. Without `grid` and `per_task` nothing is.

        Returns
        -------
        Search

        Raises
        ------
        ExperimentError
            Method added twice, or `grid` and `per_task` together.
        """
        if (grid and per_task) or (per_task and len(per_task) != 1):
            raise ExperimentError(
                f"method {method!r}: give `grid`, or `per_task` with one parameter"
            )
        self._check_new(method)
        if per_task:
            [(parameter, values)] = per_task.items()
            search = self.bench.search_per_task(method, parameter, values, **fixed)
        elif grid:
            search = self.bench.search(method, grid, **fixed)
        else:
            model = self.bench.merge(method, **fixed)
            search = Search(dict(fixed), model, pd.DataFrame())
        correct = (
            self.bench.reference() if method == "fine_tuned" else self.bench.correct(search.model)
        )
        storage = search.model.storage()
        self.record(Entry(method, search.params, correct, storage, search.curve))
        return search

    def include(self, name: str, search: Search, **costs: float) -> None:
        """Evaluate a model that was made elsewhere on test data, under a name of its own.

        Raises
        ------
        ExperimentError
            If the name is in this comparison already.
        """
        self._check_new(name)
        model = search.model
        correct, storage = self.bench.correct(model), model.storage()
        self.record(Entry(name, search.params, correct, storage, search.curve, costs))

    def record(self, entry: Entry) -> None:
        """Include what was measured elsewhere.

        Raises
        ------
        ExperimentError
            If the method is in this comparison already.
        """
        self._check_new(entry.method)
        self.entries[entry.method] = entry

    def _check_new(self, method: str) -> None:
        if method in self.entries:
            raise ExperimentError(f"method {method!r} is in this comparison already")

    def scores(self, draws: int = 1000) -> Scores:
        """Return per-image outcomes with their paired bootstrap."""
        correct = {method: entry.correct for method, entry in self.entries.items()}
        if "fine_tuned" not in correct:
            correct["fine_tuned"] = self.bench.reference()
        return Scores(correct, draws=draws)

    def _where(self) -> dict[str, object]:
        return {"scale": self.scale, "suite": self.bench.suite.name,
                "backbone": self.bench.backbone.name, "num_tasks": len(self.bench.suite),
                "seed": self.bench.seed}  # fmt: skip

    def _tail(self, entry: Entry) -> dict[str, object]:
        params = json.dumps(entry.params, default=str)
        return {"storage_gigabit": entry.storage.gigabits, "storage": entry.storage.expression,
                **entry.costs, "params": params}  # fmt: skip

    def results(self) -> pd.DataFrame:
        """Return tidy results, one row per method and task.

        Returns
        -------
        DataFrame
            Columns ``scale, suite, backbone, num_tasks, seed, method, task, accuracy, normalised,
            storage_gigabit, storage, params`` (accuracies are fractions, storage is the closed
            formula, params are JSON), and the costs.
        """
        scores, rows = self.scores(draws=1), []
        for method, entry in self.entries.items():
            common, tail = {**self._where(), "method": method}, self._tail(entry)
            pairs = zip(
                scores.tasks, scores.per_task(method), scores.per_task(method, True), strict=True
            )
            rows += [{**common, "task": task, "accuracy": accuracy, "normalised": ratio, **tail}
                     for task, accuracy, ratio in pairs]  # fmt: skip
        return pd.DataFrame(rows)

    def summary(self, scores: Scores | None = None) -> pd.DataFrame:
        """Return one row per method: means over tasks with 95 % bootstrap intervals."""
        scores, rows = scores or self.scores(), []
        for method, entry in self.entries.items():
            row = {**self._where(), "method": method}
            for name, normalised in (("accuracy", False), ("normalised", True)):
                low, high = scores.interval(method, normalised)
                row |= {
                    name: scores.mean(method, normalised),
                    f"{name}_low": low,
                    f"{name}_high": high,
                }
            rows.append({**row, **self._tail(entry)})
        return pd.DataFrame(rows)

    def curves(self) -> pd.DataFrame:
        """Return every point of every search: method, parameter, value, task, accuracies."""
        frames = []
        for method, entry in self.entries.items():
            curve = entry.curve
            searched = [c for c in curve if c not in ("task", "accuracy", "normalised")]
            if not searched:
                continue
            points = curve[searched].to_dict("records")
            frame = curve[["task", "accuracy", "normalised"]].assign(
                method=method, point=[json.dumps(p, default=float) for p in points]
            )
            frames.append(frame.assign(**self._where()))
        return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()
