"""Learning a few numbers on a few images: the loop that all trained methods share."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from mergebook.errors import MethodError


def minimise(
    parameters: Sequence[Tensor],
    loss: Callable[[int], Tensor],
    *,
    steps: int,
    lr: float,
    betas: tuple[float, float] = (0.9, 0.999),
    cosine: bool = False,
    what: str = "parameters",
) -> list[float]:
    """Minimise a loss with Adam, in place.

    Parameters
    ----------
    parameters : sequence of Tensor
        Leaf tensors that require gradients.
    loss : callable
        ``loss(step) -> scalar``; draws its own images, so that a method fixes its seed.
    steps : int
        Number of steps; 0 leaves the parameters as they are.
    lr : float
        Learning rate.
    betas : tuple of float, default (0.9, 0.999)
        Of Adam.
    cosine : bool, default False
        Whether the rate falls to zero on a cosine.
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
    optimizer = torch.optim.Adam(parameters, lr, betas)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(1, steps))
    curve = []
    for step in range(steps):
        value = loss(step)
        if not torch.isfinite(value):
            raise MethodError(f"learning the {what}: loss is {value.item()} at step {step}")
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        if cosine:
            schedule.step()
        curve.append(value.item())
    return curve


def entropy(logits: Tensor) -> Tensor:
    """Mean Shannon entropy, in nats, of the predictions ``[N, C]``."""
    log = torch.log_softmax(logits, -1)
    return -(log.exp() * log).sum(-1).mean()
