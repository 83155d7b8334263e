"""What a method minimises its loss with: Adam or gradient descent, as its parameters say."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from mergebook.learning.loop import descend
from mergebook.registry.types import Learning


def minimise(
    parameters: Sequence[Tensor],
    loss: Callable[[int], Tensor],
    learning: Learning,
    *,
    cosine: bool = False,
    weight_decay: float = 0.0,
    clip: float | None = None,
    what: str = "parameters",
) -> list[float]:
    """Minimise a loss, in place.

    Parameters
    ----------
    parameters, loss, clip
        As for :func:`mergebook.learning.descend`.
    learning : Learning
        Steps, learning rate and optimiser; Adam if it names none. With 0 steps, or without
        parameters, nothing happens.
    cosine : bool, default False
        Whether the rate falls to zero on a cosine.
    weight_decay : float, default 0
        Share of each parameter, times the rate, that a step takes away; 0 makes AdamW plain Adam.
    what : str
        What is learned, for the error message.

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
    after = None
    if cosine:
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, learning.steps)
        after = lambda step: schedule.step()  # noqa: E731
    return descend(
        parameters,
        loss,
        optimizer,
        steps=range(learning.steps),
        clip=clip,
        after=after,
        what=f"learning the {what}",
    )
