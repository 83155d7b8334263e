"""Several methods on one benchmark: tuned on validation data, compared on test data."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

import pandas as pd

from mergebook.errors import ExperimentError
from mergebook.evaluation.benchmark import Benchmark, Correct, Search
from mergebook.evaluation.bootstrap import Scores


class Comparison:
    """Collects the test outcomes of methods on one benchmark.

    Parameters
    ----------
    bench : Benchmark
    scale : {"mini", "paper"}
        Written into the results, so that numbers of two scales never share a column.
    """

    def __init__(self, bench: Benchmark, scale: str = "mini"):
        self.bench, self.scale = bench, scale
        self.searches: dict[str, Search] = {}
        self._correct: dict[str, Correct] = {}

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
        if method in self.searches:
            raise ExperimentError(f"method {method!r} is in this comparison already")
        if (grid and per_task) or (per_task and len(per_task) != 1):
            raise ExperimentError(
                f"method {method!r}: give `grid`, or `per_task` with one parameter"
            )
        if per_task:
            [(parameter, values)] = per_task.items()
            search = self.bench.search_per_task(method, parameter, values, **fixed)
        elif grid:
            search = self.bench.search(method, grid, **fixed)
        else:
            model = self.bench.merge(method, **fixed)
            search = Search(dict(fixed), model, pd.DataFrame())
        self._correct[method] = (
            self.bench.reference() if method == "fine_tuned" else self.bench.correct(search.model)
        )
        self.searches[method] = search
        return search

    def scores(self, draws: int = 1000) -> Scores:
        """Return per-image outcomes with their paired bootstrap."""
        correct = {**self._correct}
        correct.setdefault("fine_tuned", self.bench.reference())
        return Scores(correct, draws=draws)

    def _where(self) -> dict[str, object]:
        return {"scale": self.scale, "backbone": self.bench.backbone.name,
                "num_tasks": len(self.bench.suite), "seed": self.bench.seed}  # fmt: skip

    def results(self) -> pd.DataFrame:
        """Return tidy results, one row per method and task.

        Returns
        -------
        DataFrame
            Columns ``scale, backbone, num_tasks, seed, method, task, accuracy, normalised,
            storage_gigabit, params`` (accuracies are fractions, params JSON).
        """
        scores, rows = self.scores(draws=1), []
        for method, search in self.searches.items():
            common = {**self._where(), "method": method}
            tail = {"storage_gigabit": search.model.storage().gigabits,
                    "params": json.dumps(search.params, default=str)}  # fmt: skip
            pairs = zip(
                scores.tasks, scores.per_task(method), scores.per_task(method, True), strict=True
            )
            rows += [{**common, "task": task, "accuracy": accuracy, "normalised": ratio, **tail}
                     for task, accuracy, ratio in pairs]  # fmt: skip
        return pd.DataFrame(rows)

    def summary(self, scores: Scores | None = None) -> pd.DataFrame:
        """Return one row per method: means over tasks with 95 % bootstrap intervals."""
        scores, rows = scores or self.scores(), []
        for method, search in self.searches.items():
            row = {**self._where(), "method": method}
            for name, normalised in (("accuracy", False), ("normalised", True)):
                low, high = scores.interval(method, normalised)
                row |= {
                    name: scores.mean(method, normalised),
                    f"{name}_low": low,
                    f"{name}_high": high,
                }
            rows.append({**row, "storage_gigabit": search.model.storage().gigabits,
                         "params": json.dumps(search.params, default=str)})  # fmt: skip
        return pd.DataFrame(rows)

    def curves(self) -> pd.DataFrame:
        """Return every point of every search: method, parameter, value, task, accuracies."""
        frames = []
        for method, search in self.searches.items():
            searched = [c for c in search.curve if c not in ("task", "accuracy", "normalised")]
            if not searched:
                continue
            points = search.curve[searched].to_dict("records")
            frame = search.curve[["task", "accuracy", "normalised"]].assign(
                method=method, point=[json.dumps(p, default=float) for p in points]
            )
            frames.append(frame.assign(**self._where()))
        return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()
