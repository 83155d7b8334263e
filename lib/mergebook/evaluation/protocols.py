"""Protocols of papers: which parameters they tune, on what, and what they reuse."""

from __future__ import annotations

from collections.abc import Sequence

from mergebook.errors import ExperimentError
from mergebook.evaluation.benchmark import Benchmark
from mergebook.evaluation.comparison import Comparison

SCALED = ("task_arithmetic", "ties")
CONSENSUS = {"consensus_ta": "tall_ta", "consensus_ties": "tall_ties"}
MASKS = tuple(CONSENSUS.values())
# The rows of the main table of [wang2024localizing], in its order.
MASK_METHODS = (
    "zero_shot",
    "averaging",
    *SCALED,
    *MASKS,
    *CONSENSUS,
    "magnitude_pruning",
    "magnitude_masking",
    "fine_tuned",
)


def compare_masks(
    bench: Benchmark,
    scales: Sequence[float],
    thresholds: Sequence[float],
    methods: Sequence[str] = MASK_METHODS,
) -> Comparison:
    """Tune and evaluate methods as the paper of the TALL masks does [wang2024localizing, code].

    Merged vectors get one scale for all tasks, the best of `scales` by mean normalised validation
    accuracy. The masks' thresholds are the best of `thresholds` for each task by itself, and the
    consensus methods reuse them. All else has its defaults.

    Parameters
    ----------
    bench : Benchmark
    scales, thresholds : sequence of float
        Values to search.
    methods : sequence of str
        Which of :data:`MASK_METHODS`.

    Raises
    ------
    ExperimentError
        If a method is not one of them.
    """
    strange = [name for name in methods if name not in MASK_METHODS]
    if strange:
        raise ExperimentError(f"the protocol of TALL masks does not cover {', '.join(strange)}")
    run, masks = Comparison(bench), {}
    for name in sorted(methods, key=MASK_METHODS.index):  # masks before what reuses them
        if name in SCALED:
            run.add(name, grid={"scale": scales})
        elif name in MASKS:
            masks[name] = run.add(name, per_task={"threshold": thresholds}).params
        elif name in CONSENSUS:
            mask = CONSENSUS[name]
            if mask not in masks:
                masks[mask] = bench.search_per_task(mask, "threshold", thresholds).params
            run.add(name, grid={"scale": scales}, **masks[mask])
        else:
            run.add(name)
    return run
