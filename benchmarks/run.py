"""Time and memory of every method on eight mini experts; writes results/benchmarks.csv.

Times are medians. The ratio is to plain averaging in the same run, so that numbers from different
machines can be compared. Peak memory is what a merge adds to a process that has the experts open.
"""

import argparse
import multiprocessing
import os
import resource
import statistics
import sys
import time
from functools import partial

import pandas as pd
import torch

import mergebook as mb
from mergebook.paths import results_dir

REFERENCE = "averaging"
MAXRSS_UNIT = 1 if sys.platform == "darwin" else 1024  # bytes


def median_seconds(calls, repeats):
    """Median time of each call by name; in rounds, so that all see the same machine."""
    times = {name: [] for name in calls}
    for round_ in range(repeats + 1):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            if round_:  # the first round is a warm-up: imports, page cache
                times[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in times.items()}


def _peak(call, queue):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    call()
    queue.put((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * MAXRSS_UNIT)


def peak_bytes(call):
    """Memory that a call adds, measured in a process of its own, which starts with ours."""
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    process = context.Process(target=_peak, args=(call, queue))
    process.start()
    added = queue.get(timeout=600)
    process.join()
    return added


def measure(bench, repeats):
    merges = {name: partial(mb.get_method(name), bench.experts) for name in mb.list_methods()}
    rows = [
        {"measured": "merge", "method": name, "ms": 1e3 * seconds}
        for name, seconds in median_seconds(merges, repeats).items()
    ]
    table = pd.DataFrame(rows)
    table["ratio"] = table["ms"] / table.loc[table["method"] == REFERENCE, "ms"].item()
    table["MiB"] = [peak_bytes(merge) / 2**20 for merge in merges.values()]

    name = "task_arithmetic"
    seconds = median_seconds({name: partial(bench.correct, merges[name]())}, 3)[name]
    evaluation = {"measured": "evaluate", "method": name, "ms": 1e3 * seconds}
    return pd.concat([table, pd.DataFrame([evaluation])], ignore_index=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backbone", default="mini-small")
    parser.add_argument(
        "--steps", type=int, help="of the experts' fine-tuning (default: the recipe)"
    )
    parser.add_argument("--repeats", type=int, default=7)
    options = parser.parse_args()
    torch.set_num_threads(1)
    bench = mb.Benchmark("mini", options.backbone, num_tasks=8, steps=options.steps)
    table = measure(bench, options.repeats).assign(backbone=options.backbone)
    images = len(bench.suite.names) * bench.sizes["test"]
    print(f"Eight experts of {options.backbone}, one thread; evaluation of {images} test images.")
    print(table.drop(columns="backbone").to_string(index=False, float_format="%.2f", na_rep=""))

    path = results_dir() / "benchmarks.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    table.to_csv(temporary, index=False, float_format="%.3f")
    os.replace(temporary, path)
    print(f"written: {path}")


if __name__ == "__main__":
    main()
