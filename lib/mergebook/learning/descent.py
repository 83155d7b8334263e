"""What a method minimises its loss with: Adam or gradient descent, as its parameters say."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from tqdm import tqdm

from mergebook.learning.loop import descend, warm_cosine
from mergebook.learning.resuming import next_state
from mergebook.registry.types import Learning


def minimise(
    parameters: Sequence[Tensor],
    loss: Callable[[int], Tensor],
    learning: Learning,
    *,
    cosine: bool = False,
    weight_decay: float = 0.0,
    clip: float | None = None,
    after: Callable[[int], object] | None = None,
    by_step: bool = False,
    what: str = "parameters",
) -> list[float]:
    """Minimise a loss, in place; a bar shows how far it is, on a terminal.

    Parameters
    ----------
    parameters, loss, clip, after
        As for :func:`mergebook.learning.descend`.
    learning : Learning
        Steps, learning rate, optimiser (Adam if it names none), and how often that uses each
        gradient. With 0 steps, or without parameters, nothing happens.
    cosine : bool, default False
        Whether the rate falls to zero on a cosine.
    weight_decay : float, default 0
        Share of each parameter, times the rate, that a step takes away; 0 makes AdamW plain Adam.
    by_step : bool, default False
        Whether the loss is a function of the step and the parameters alone, so that the loop can
        go on where it was stopped, see :func:`mergebook.learning.resumable`.
    what : str
        What is learned, for the bar and the error message.

    Returns
    -------
    list of float
        The loss before each step.

    Raises
    ------
    MethodError
        If the loss stops being finite (names the step).
    """
    if not learning.steps or not parameters:
        return []
    kind = torch.optim.SGD if learning.optimizer == "sgd" else torch.optim.AdamW
    optimizer = kind(parameters, learning.lr, weight_decay=weight_decay)
    rate = None
    if cosine:
        rate = lambda step: learning.lr * warm_cosine(step, learning.steps, 0)  # noqa: E731
    what = f"learning the {what}"
    settings = repr((learning, cosine, weight_decay, clip))
    return descend(
        parameters,
        loss,
        optimizer,
        steps=tqdm(range(learning.steps), what, leave=False, delay=1, disable=None),
        rate=rate,
        clip=clip,
        updates=learning.updates or 1,
        after=after,
        state=next_state(what, settings) if by_step else None,
        what=what,
    )
