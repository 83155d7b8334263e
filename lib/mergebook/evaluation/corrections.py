"""Corrections of merged models: learned, with the rate chosen on validation images."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from mergebook.errors import ParameterError
from mergebook.evaluation.benchmark import Benchmark, Search
from mergebook.evaluation.leaderboard import budgeted
from mergebook.interventions.correct import correct
from mergebook.interventions.imitation import Imitation
from mergebook.merged import IntervenedModel
from mergebook.registry import get_method


@dataclass(frozen=True)
class Correction(Search):
    """A correction whose learning rate validation images have chosen.

    Attributes
    ----------
    method : str
        Its name.
    seconds : float
        What the learning took, at the chosen rate.
    """

    model: IntervenedModel
    method: str
    seconds: float

    @property
    def size(self) -> int:
        """Numbers that each task adds to the merged model."""
        return self.model.storage().symbols["M"]


def tuned_correction(
    bench: Benchmark,
    start: Imitation,
    method: str,
    *,
    factors: Sequence[float] = (1.0,),
    budget: float = 1.0,
    **params: object,
) -> Correction:
    """Correct a merged model, at the learning rate that validation images choose.

    Parameters
    ----------
    bench : Benchmark
        Whose validation images choose, by mean normalised accuracy; the first best rate wins.
    start : Imitation
        The merged model, its teachers and images.
    method : str
        One of the family "intervention".
    factors : sequence of float, default (1.0,)
        Of the learning rate, the method's default unless `params` has another.
    budget : float, default 1
        Share of the default steps, unless `params` has `steps`.
    **params
        Further parameters.

    Raises
    ------
    ParameterError
        If there are no factors, or the method refuses a parameter.
    """
    if not len(factors):
        raise ParameterError(f"{method}: no factors of the learning rate to choose from")
    options = budgeted(get_method(method), budget) | params
    rate = get_method(method).check(**options)["lr"]
    frames, best, found = [], -1.0, None
    for factor in factors:
        chosen = options | {"lr": factor * rate}
        began = time.perf_counter()
        model = correct(start, method, **chosen)
        seconds = time.perf_counter() - began
        frame = bench.accuracies(model, "validation")
        frames.append(frame.assign(lr=chosen["lr"]))
        if frame["normalised"].mean() > best:
            best, found = frame["normalised"].mean(), (chosen, model, seconds)
    chosen, model, seconds = found
    return Correction(chosen, model, pd.concat(frames, ignore_index=True), method, seconds)
