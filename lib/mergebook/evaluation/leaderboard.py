"""All methods on one benchmark, in parallel processes: accuracy, storage, data needs and cost."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import pandas as pd
import torch

from mergebook.errors import ExperimentError, unknown
from mergebook.evaluation.benchmark import Benchmark, Search
from mergebook.evaluation.comparison import Comparison, Entry
from mergebook.evaluation.memory import PeakMemory
from mergebook.merged import MergedModel
from mergebook.registry import FAMILIES, Method, get_method, list_methods
from mergebook.suites import load_suite
from mergebook.training.experts import load_experts
from mergebook.workers import run_all

SHORT = 2  # steps of the run that counts memory: the peak is reached in the first
PROBE, ROUNDS = 100, 3  # images, and repeats, of the run that compares the cost of inference
LENGTHS = ("steps", "rounds", "router_steps")  # parameters that say how long a method trains
REPEATS = (*LENGTHS, "iterations")  # and how long one solves equations


@dataclass(frozen=True)
class Setting:
    """What a leaderboard is measured on; see :class:`Benchmark` for most parameters.

    Parameters
    ----------
    budget : float, default 1.0
        Share of its default steps that a method which trains may take.
    fixed : mapping of method to mapping of parameter to value
        Parameters that are neither searched nor subject to the budget.
    """

    suite: str = "mini"
    backbone: str = "mini-small"
    num_tasks: int = 8
    test_size: int = 500
    validation_size: int = 200
    calibration_size: int = 256
    steps: int | None = None
    budget: float = 1.0
    fixed: Mapping[str, Mapping[str, object]] = field(default_factory=dict, hash=False)


@lru_cache(maxsize=1)
def _bench(setting: Setting, num_tasks: int) -> Benchmark:
    """Benchmark of the first tasks; one is kept by each process."""
    return Benchmark(
        setting.suite,
        setting.backbone,
        num_tasks=num_tasks,
        test_size=setting.test_size,
        validation_size=setting.validation_size,
        calibration_size=setting.calibration_size,
        steps=setting.steps,
        jobs=1,
    )


def measure(bench: Benchmark, name: str, params: dict[str, object], curve: pd.DataFrame) -> Entry:
    """Evaluate a method with given parameters on test data, and take its costs.

    Parameters
    ----------
    bench : Benchmark
    name : str
        Method.
    params : dict
        Its parameters.
    curve : DataFrame
        The search that chose them.

    Returns
    -------
    Entry
        With costs ``seconds`` (of a processor core while merging, training included; what else the
        machine does hardly matters), ``peak_mib`` (tensors alive together while merging, those of
        the inputs not counted) and ``inference_ratio`` (processor time for a batch of images over
        what one plain encoder takes).
    """
    start = time.process_time()
    model = bench.merge(name, **params)
    seconds = time.process_time() - start
    declared = {parameter.name for parameter in get_method(name).parameters}
    short = {length: SHORT for length in REPEATS if length in declared}
    with PeakMemory() as memory:
        bench.merge(name, **params | short)
    costs = {
        "seconds": seconds,
        "peak_mib": memory.peak / 2**20,
        "inference_ratio": _inference_ratio(bench, model),
    }
    correct = bench.reference() if name == "fine_tuned" else bench.correct(model)
    return Entry(name, params, correct, model.storage(), curve, costs)


@torch.inference_mode()
def _inference_ratio(bench: Benchmark, model: MergedModel) -> float:
    task = bench.suite.names[0]
    images = bench.inputs(task)[0][:PROBE]
    encoders = model.encoder(task), bench.merge("zero_shot").encoder(task)
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(ROUNDS):
        for encoder, taken in zip(encoders, times, strict=True):
            start = time.process_time()
            encoder(images)
            taken.append(time.process_time() - start)
    return statistics.median(times[0]) / statistics.median(times[1])


def tune(bench: Benchmark, name: str, **fixed: object) -> Search | None:
    """Search a method's own grid on validation data; None if nothing is left to search.

    A grid of one parameter that may differ by task is searched for each task by itself.
    """
    method = get_method(name)
    grid = {key: values for key, values in method.grid.items() if key not in fixed}
    if not grid:
        return None
    types = {parameter.name: parameter.type for parameter in method.parameters}
    if method.family == "compression" and [types[key] for key in grid] == ["float per task"]:
        [(parameter, values)] = grid.items()
        return bench.search_per_task(name, parameter, values, **fixed)
    return bench.search(name, grid, **fixed)


def _job(setting: Setting, num_tasks: int, name: str, seeds: Sequence[int]) -> list[Entry]:
    bench = _bench(setting, setting.num_tasks).first(num_tasks)
    fixed = budgeted(get_method(name), setting.budget) | dict(setting.fixed.get(name, {}))
    entries: list[Entry] = []
    for seed in seeds:
        here = bench.with_seed(seed)
        if not entries:  # the first seed chooses the parameters for all
            search = tune(here, name, **fixed)
            params, curve = (search.params, search.curve) if search else (fixed, pd.DataFrame())
        else:
            curve = pd.DataFrame()
        entries.append(measure(here, name, params, curve))
    return entries


def budgeted(method: Method, budget: float) -> dict[str, object]:
    """A method's training lengths, as a share of their defaults; nothing if it is the whole.

    Raises
    ------
    ExperimentError
        If the share is not positive.
    """
    if budget <= 0:
        raise ExperimentError(f"budget must be positive, got {budget}")
    if budget == 1 or not method.needs:  # AWD and DOGE descend on weights: part of the method
        return {}
    return {
        each.name: max(1, round(budget * each.default))
        for each in method.parameters
        if each.name in LENGTHS and each.type == "int"
    }


def seeds_of(method: Method, seeds: Sequence[int]) -> Sequence[int]:
    """Seeds of the experts to run a method on: all without images, else the first."""
    return seeds[:1] if method.needs else seeds


def leaderboard(
    setting: Setting,
    *,
    num_tasks: Iterable[int] = (8,),
    seeds: Sequence[int] = (0,),
    methods: Iterable[str] | None = None,
    jobs: int | None = None,
) -> dict[tuple[int, int], Comparison]:
    """Tune and evaluate methods, one process of one thread for each core.

    Parameters
    ----------
    setting : Setting
        Suite, backbone, sizes; ``setting.num_tasks`` is the largest suite size.
    num_tasks : iterable of int
        Suite sizes.
    seeds : sequence of int
        Seeds of the experts. Parameters are chosen with the first; methods that need images run on
        the first only.
    methods : iterable of str, optional
        Names; all registered methods if not given.
    jobs : int, optional
        Processes; the number of cores if not given. One job runs in this process.

    Returns
    -------
    dict
        (suite size, seed) -> comparison, methods in the order of their families.

    Raises
    ------
    ExperimentError
        If a method fails (names it and the suite size), or a size is larger than the suite.
    """
    sizes = sorted(set(num_tasks))
    if sizes[-1] > setting.num_tasks:
        raise ExperimentError(f"num_tasks {sizes[-1]} exceeds {setting.num_tasks}")
    names = _ordered(methods)
    suite = load_suite(setting.suite, setting.num_tasks)
    for seed in seeds:  # fine-tune what is missing, before the processes ask for it
        load_experts(suite, setting.backbone, seed, jobs, setting.steps)
    bench = _bench(setting, setting.num_tasks)
    todo = [(size, name) for size in reversed(sizes) for name in sorted(names, key=_expected_cost)]
    done = run_all(
        _job,
        {
            (size, name): (setting, size, name, seeds_of(get_method(name), seeds))
            for size, name in todo
        },
        jobs=jobs,
        name=lambda case: f"{case[1]!r} on {case[0]} tasks",
        title=setting.backbone,
        hidden=None,  # where nobody watches, as in a notebook that a workflow executes
    )
    boards = {}
    for size in sizes:
        for number, seed in enumerate(seeds):
            board = boards[size, seed] = Comparison(bench.first(size).with_seed(seed))
            for name in names:
                if number < len(done[size, name]):
                    board.record(done[size, name][number])
    return boards


def _ordered(methods: Iterable[str] | None) -> list[str]:
    """Names by family, then alphabetically; the experts, which normalise, are always there."""
    known = list_methods()
    names = set(known if methods is None else methods) | {"fine_tuned"}
    for name in names:
        if name not in known:
            raise ExperimentError(unknown("method", name, known))
    return sorted(names, key=lambda name: (FAMILIES.index(get_method(name).family), name))


def _expected_cost(name: str) -> tuple[bool, int]:
    """Sort key: methods with many steps first, so that no long one is left for the end."""
    method = get_method(name)
    long = any(parameter.name in REPEATS for parameter in method.parameters)
    return (not long, -len(method.grid))
