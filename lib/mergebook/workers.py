"""Calls in parallel processes that end with the process that started them."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import closing
from multiprocessing.connection import Connection
from typing import Any, TypeVar

import torch
from tqdm import tqdm

from mergebook.errors import ExperimentError

Key = TypeVar("Key")
Result = TypeVar("Result")
GRACE = 3.0  # seconds that a worker has to leave no half-written file behind
TERMINATED = 128 + signal.SIGTERM


def run_all(
    function: Callable[..., Result],
    calls: Mapping[Key, tuple[Any, ...]],
    *,
    jobs: int | None = None,
    name: Callable[[Key], str] = str,
    title: str = "",
    ticks: int | None = None,
    hidden: bool | None = False,
) -> dict[Key, Result]:
    """Call a function with each set of arguments, in processes of one thread each.

    One thread a process: two threads in one process are slower on a busy machine. A single job
    runs in this process, which starts at once. Workers end with this process, however it ends,
    and on an interrupt; a call that fails lets those finish that have begun.

    Parameters
    ----------
    function : callable
        Of a module that a new process can import.
    calls : mapping of key to tuple
        Positional arguments of each call, started in this order.
    jobs : int, optional
        Processes; the number of cores if not given.
    name : callable, default str
        A key in words, for the bar and for errors.
    title : str
        What the bar says.
    ticks : int, optional
        How often each call says :func:`advance`, where the bar should move within a call; if not
        given it counts calls.
    hidden : bool or None, default False
        Whether there is no bar; None hides it where standard error is no terminal.

    Returns
    -------
    dict
        key -> result, in the order of `calls`.

    Raises
    ------
    ExperimentError
        If a call fails (names it).
    """
    jobs = min(jobs or os.cpu_count() or 1, len(calls))
    unit = "call" if ticks is None else "step"
    total = len(calls) * (ticks or 1)
    # What is said here would overrule the variable TQDM_DISABLE, with which a workflow hides bars.
    hide = {} if hidden is False else {"disable": hidden}
    bar = tqdm(total=total, desc=title, unit=unit, file=sys.stderr, **hide)
    results: dict[Key, Result] = {}

    def finish(key: Key, result: Callable[[], Result]) -> None:
        try:
            results[key] = result()
        except Exception as error:
            raise ExperimentError(f"{name(key)} failed: {error}") from error
        bar.set_postfix_str(name(key))
        if ticks is None:
            bar.update()

    with bar:
        if jobs > 1:
            _in_processes(function, calls, jobs, finish, bar.update)
        else:
            _in_this_process(function, calls, finish, bar.update)
    return {key: results[key] for key in calls}


_report: Callable[[int], Any] = lambda steps: None  # noqa: E731


def advance(steps: int = 1) -> None:
    """Move the bar of :func:`run_all`, from within a call; elsewhere nothing happens."""
    _report(steps)


def _in_this_process(function, calls, finish, report) -> None:
    global _report
    before, threads = _report, torch.get_num_threads()
    torch.set_num_threads(1)
    _report = report
    try:
        for key, arguments in calls.items():
            finish(key, lambda arguments=arguments: function(*arguments))
    finally:
        _report = before
        torch.set_num_threads(threads)


def _in_processes(function, calls, jobs, finish, report) -> None:
    context = multiprocessing.get_context("spawn")  # a fork of a process with threads may hang
    lifeline, held = context.Pipe(duplex=False)  # its other end closes with this process
    heard, ticks = context.Pipe(duplex=False)
    pool = ProcessPoolExecutor(jobs, context, _begin, (lifeline, ticks))
    listener = threading.Thread(target=_listen, args=(heard, report), daemon=True)
    listener.start()
    with closing(lifeline), closing(heard), closing(held):
        try:
            futures = {pool.submit(_call, function, calls[key]): key for key in calls}
            for future in as_completed(futures):
                finish(futures[future], future.result)
        except (KeyboardInterrupt, SystemExit, GeneratorExit):
            held.close()
            raise
        finally:
            pool.shutdown(cancel_futures=True)
            ticks.close()
            listener.join()


def _listen(heard: Connection, report: Callable[[int], Any]) -> None:
    """Pass on what workers report, until none is left."""
    while True:
        try:
            report(heard.recv())
        except EOFError:
            return


# ---------------------------------------------------------------- in a worker


def _begin(lifeline: Connection, ticks: Connection) -> None:
    global _report
    _report = ticks.send  # a few bytes, which a pipe takes at once: no lock
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to all: the parent decides
    signal.signal(signal.SIGTERM, _leave)
    threading.Thread(target=_follow, args=(lifeline,), daemon=True).start()


def _follow(lifeline: Connection) -> None:
    """Wait for the end of the parent, or for its word; then leave, at the latest after GRACE."""
    lifeline.poll(None)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE)
    os._exit(TERMINATED)


def _leave(*_: object) -> None:
    raise SystemExit(TERMINATED)  # through the frames that tidy up


def _call(function: Callable[..., Result], arguments: tuple[Any, ...]) -> Result:
    try:
        return function(*arguments)
    except SystemExit:  # the executor would take it for a result
        os._exit(TERMINATED)
