"""Whether base and experts lie in one basin of the loss."""

from __future__ import annotations

import numpy as np
import pandas as pd

from mergebook.errors import ExperimentError
from mergebook.evaluation import Benchmark
from mergebook.towers.backbones import build_encoder


def line_scan(bench: Benchmark, points: int = 6, split: str = "test") -> pd.DataFrame:
    r"""Accuracy along the straight line from the base to each task's expert.

    Evaluates :math:`\theta_0 + \alpha \tau_t` on task t for evenly spaced :math:`\alpha` in [0, 1].

    Parameters
    ----------
    bench : Benchmark
    points : int, default 6
        Number of values of :math:`\alpha`, both ends included.
    split : {"test", "validation"}

    Returns
    -------
    DataFrame
        Columns ``task``, ``alpha``, ``accuracy`` (fraction).

    Raises
    ------
    ExperimentError
        Fewer than two points.
    """
    if points < 2:
        raise ExperimentError(f"a line needs at least two points, got {points}")
    base, rows = dict(bench.experts.base.items()), []
    for task in bench.suite.names:
        expert = bench.experts.expert(task)
        for alpha in np.linspace(0, 1, points).tolist():
            state = {key: value + alpha * (expert[key] - value) for key, value in base.items()}
            encoder = build_encoder(bench.backbone.name, state)
            accuracy = bench.predict(encoder, task, split).mean()
            rows.append({"task": task, "alpha": alpha, "accuracy": accuracy})
    return pd.DataFrame(rows)


def dips(line: pd.DataFrame) -> pd.Series:
    """Largest dip of each task's accuracy on its way from the base to the expert.

    Parameters
    ----------
    line : DataFrame
        What :func:`line_scan` returns.

    Returns
    -------
    Series
        Indexed by task, in the order of the table: by how much accuracy falls, at most, below
        what it had reached before (a fraction; 0 where it never falls).
    """
    climbed = line.sort_values("alpha", kind="stable").groupby("task", sort=False)["accuracy"]
    fallen = climbed.cummax() - line["accuracy"]
    return fallen.groupby(line["task"], sort=False).max().rename("dip")
