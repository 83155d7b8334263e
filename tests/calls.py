"""Calls for the tests of the workers, in a module that a new process can import.

As a script: a parent of two workers that work on and on.
"""

import os
import sys
import time
from pathlib import Path

import torch

from mergebook.workers import advance, run_all


def describe(number: int, fail: int = -1) -> tuple[int, int, int]:
    """Stands for work: some ticks, then what the process is like."""
    if number == fail:
        raise ValueError("no luck")
    advance()
    advance(2)
    return number, os.getpid(), torch.get_num_threads()


def linger(folder: str, number: int) -> None:
    """Work without end on a file, which is to be removed."""
    partial = Path(folder, f"partial{number}")
    try:
        partial.touch()
        Path(folder, f"pid{number}").write_text(str(os.getpid()))
        while True:
            time.sleep(0.01)
    finally:
        partial.unlink()


if __name__ == "__main__":
    run_all(linger, {number: (sys.argv[1], number) for number in range(3)}, jobs=2)
