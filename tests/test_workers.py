"""Calls in parallel processes: results, errors, the bar, and that no worker outlives its parent."""

import os
import signal
import subprocess
import sys
import time

import pytest
import torch

import calls
from calls import describe
from mergebook.errors import ExperimentError
from mergebook.workers import GRACE, advance, run_all


@pytest.mark.parametrize("jobs", [1, 2])
def test_results_come_in_the_order_of_the_calls_from_one_thread_each(jobs, capsys):
    threads = torch.get_num_threads()
    results = run_all(describe, {"b": (1,), "a": (0,)}, jobs=jobs, title="work", ticks=3)
    assert list(results) == ["b", "a"]
    assert [(number, threads) for number, _, threads in results.values()] == [(1, 1), (0, 1)]
    assert (os.getpid() in {pid for _, pid, _ in results.values()}) == (jobs == 1)
    assert torch.get_num_threads() == threads
    bar = capsys.readouterr().err
    assert "work" in bar and "6/6" in bar


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_failing_call_is_named(jobs):
    with pytest.raises(ExperimentError, match="call 1 failed: no luck") as caught:
        run_all(describe, {n: (n, 1) for n in range(3)}, jobs=jobs, name=lambda n: f"call {n}")
    assert isinstance(caught.value.__cause__, ValueError)


def test_no_calls_are_no_work_and_no_bar_is_silent(capsys):
    assert run_all(describe, {}, hidden=True) == {}
    advance()  # outside of a call
    assert capsys.readouterr().err == ""


def alive(pid: int) -> bool:
    """Whether a process runs; one that nobody has waited for yet does not."""
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True)
    return state.stdout.strip()[:1] not in ("", "Z")


def wait(condition, seconds: float) -> bool:
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.05)
    return condition()


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL, signal.SIGHUP, signal.SIGINT])
def test_workers_end_with_their_parent_and_tidy_up(how, tmp_path):
    command = [sys.executable, calls.__file__, str(tmp_path)]
    parent = subprocess.Popen(command, stderr=subprocess.DEVNULL, start_new_session=True)
    pids = [tmp_path / f"pid{number}" for number in (0, 1)]
    assert wait(lambda: all(path.is_file() and path.read_text() for path in pids), 120)
    workers = [int(path.read_text()) for path in pids]
    assert all(alive(pid) for pid in workers)
    parent.send_signal(how)
    assert parent.wait(60) == -how
    assert wait(lambda: not any(alive(pid) for pid in workers), GRACE + 20)
    assert not list(tmp_path.glob("partial*"))


@pytest.mark.parametrize(("hidden", "shown"), [("", True), ("1", False)])
def test_a_workflow_hides_the_bar(hidden, shown):
    code = "from mergebook.workers import run_all; run_all(str, {1: (2,)}, jobs=1, title='Bar')"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, "TQDM_DISABLE": hidden},
    )
    assert done.returncode == 0, done.stderr
    assert ("Bar" in done.stderr) is shown
