"""Long learning that goes on where it was stopped."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mergebook.errors import MethodError
from mergebook.writing import whole


class Kept:
    """Where the states of loops are kept, and how often.

    Parameters
    ----------
    folder : Path
        One file per loop, in the order of the loops.
    every : float
        Seconds between two savings.
    """

    def __init__(self, folder: Path, every: float):
        self.folder, self.every = folder, every
        self.loops = 0

    def next(self, what: str, settings: str) -> State:
        """The state of the next loop."""
        self.loops += 1
        name = re.sub(r"[^a-z0-9]+", "-", what.lower()).strip("-")[:80]
        return State(self.folder / f"{self.loops:03d}-{name}.pt", settings, self.every)


class State:
    """What one loop has reached.

    Parameters
    ----------
    path : Path
        Its file.
    settings : str
        How it learns: a state of other settings is not its own.
    every : float
        Seconds between two savings.
    """

    def __init__(self, path: Path, settings: str, every: float):
        self.path, self.settings, self.every = path, settings, every
        self.saved = time.monotonic()

    def restore(
        self, parameters: Sequence[Tensor], optimizer: torch.optim.Optimizer, first: float
    ) -> list[float]:
        """Bring parameters and optimiser to where the loop was, and return its losses so far.

        Nothing happens if there is no file, or if it is of another loop: one whose settings, first
        loss or parameters' shapes are others. So whoever changes images, weights or settings starts
        anew.

        Raises
        ------
        MethodError
            If the file cannot be read.
        """
        if not self.path.is_file():
            return []
        try:
            found: dict[str, Any] = torch.load(self.path, weights_only=True)
            shapes = [each.shape for each in found["parameters"]]
            same = (found["settings"], found["curve"][0]) == (self.settings, first) and shapes == [
                each.shape for each in parameters
            ]
        except Exception as error:  # torch.load raises many kinds
            raise MethodError(f"{self.path}: no state of a loop that could go on") from error
        if not same:
            return []
        with torch.no_grad():
            for own, kept in zip(parameters, found["parameters"], strict=True):
                own.copy_(kept)
        optimizer.load_state_dict(found["optimizer"])
        return found["curve"]

    def keep(
        self,
        parameters: Sequence[Tensor],
        optimizer: torch.optim.Optimizer,
        curve: list[float],
        last: bool,
    ) -> None:
        """Save, if it is time or the loop is through."""
        if not last and time.monotonic() - self.saved < self.every:
            return
        state = {
            "settings": self.settings,
            "parameters": [each.detach() for each in parameters],
            "optimizer": optimizer.state_dict(),
            "curve": curve,
        }
        with whole(self.path) as partial:
            torch.save(state, partial)
        self.saved = time.monotonic()


_kept: ContextVar[Kept | None] = ContextVar("kept", default=None)


@contextmanager
def resumable(folder: str | Path, every: float = 10.0) -> Iterator[None]:
    """Have the loops of methods that learn keep their state, and go on from it.

    Run the same merge again after it was stopped, within the same folder: loops that were through
    are not repeated, and the one that was not goes on.

    Parameters
    ----------
    folder : path
        Of the states; one folder for one merge.
    every : float, default 10
        Seconds between two savings.
    """
    token = _kept.set(Kept(Path(folder), every))
    try:
        yield
    finally:
        _kept.reset(token)


def next_state(what: str, settings: str) -> State | None:
    """The state of the next loop, if it is to be kept."""
    kept = _kept.get()
    return kept.next(what, settings) if kept else None
