"""What a process of the command line owes its surroundings: streams, signals, exit."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from typing import TextIO

from mergebook.errors import MergebookError


class Stopped(KeyboardInterrupt):
    """The process was asked to stop; raised where it is, so that what it has begun is undone.

    A KeyboardInterrupt, because a loop of asyncio keeps all but that and SystemExit to itself when
    they are raised in one of its callbacks.
    """

    def __init__(self, number: int):
        super().__init__(number)
        self.number = number

    def __str__(self) -> str:
        return f"stopped by {signal.Signals(self.number).name}"


def prepare() -> None:
    """Make a process of the command line ready: for closed streams, any locale, and signals.

    A closed standard output takes nothing and says so, a closed standard error takes all; the
    numbers of closed streams are not given to files. What a stream's encoding lacks is shown by
    its code. Signals that end a process raise :class:`Stopped` (SIGINT: KeyboardInterrupt), except
    those that the caller has it ignore, as `nohup` does.
    """
    if sys.stdin is None:
        sys.stdin = _reopened(0, os.O_RDONLY)
    if sys.stdout is None:
        sys.stdout = _reopened(1, os.O_RDONLY)
    if sys.stderr is None:
        sys.stderr = _reopened(2, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")
    usual = (signal.SIG_DFL, signal.default_int_handler)
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        if signal.getsignal(number) in usual:
            signal.signal(number, _stop)


def show(text: str) -> None:
    """Print what a command has to say, and make sure that it has arrived.

    Raises
    ------
    MergebookError
        If standard output is closed or full. Nobody tries again when the process ends.
    """
    try:
        print(text, end="\n" if text else "", flush=True)
    except OSError as error:
        _let_go(sys.stdout)
        if not isinstance(error, BrokenPipeError):  # a reader, such as `head`, has seen enough
            raise MergebookError(f"cannot write to standard output: {error.strerror}") from error


def complain(message: object) -> None:
    """Print an error, if there is anybody to read it."""
    try:
        print(f"mergebook: {message}", file=sys.stderr, flush=True)
    except OSError:
        _let_go(sys.stderr)


def _reopened(number: int, mode: int) -> TextIO:
    null = os.open(os.devnull, mode)
    if null != number:
        os.dup2(null, number)
        os.close(null)
    return open(number, "w" if number else "r", encoding="utf-8", closefd=False)


def _let_go(stream: TextIO) -> None:
    """Send what is left of a stream nowhere, so that it is not written when the process ends."""
    with contextlib.suppress(OSError, ValueError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())
        os.close(null)


def _stop(number: int, frame: object) -> None:
    for each in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(each, signal.SIG_IGN)  # once is enough: what follows is cleaning up
    threading.excepthook = lambda problem: None  # of a pool that loses its workers
    if pools := sys.modules.get("multiprocessing"):
        for child in pools.active_children():
            child.terminate()  # a pool would wait until they are through with their work
    raise KeyboardInterrupt if number == signal.SIGINT else Stopped(number)
