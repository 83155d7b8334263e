"""The training loop: of backbones, of experts, and of every method that learns."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor

from mergebook.errors import MergebookError, MethodError
from mergebook.learning.resuming import State


def warm_cosine(step: int, steps: int, warmup: int) -> float:
    """Factor on the peak learning rate at a step: linear warm-up, then cosine to zero."""
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


@torch.inference_mode(False)  # which also turns gradients on: a caller may have switched them off
def descend(
    parameters: Sequence[Tensor],
    loss: Callable[[int], Tensor],
    optimizer: torch.optim.Optimizer,
    *,
    steps: Iterable[int],
    rate: Callable[[int], float] | None = None,
    clip: float | None = None,
    updates: int = 1,
    after: Callable[[int], object] | None = None,
    state: State | None = None,
    what: str,
    error: type[MergebookError] = MethodError,
) -> list[float]:
    """Take steps that lower a loss, in place.

    Parameters
    ----------
    parameters : sequence of Tensor
        Leaf tensors that require gradients. One that a step's loss does not depend on keeps its
        value in that step.
    loss : callable
        ``loss(step) -> scalar``; draws its own images, so that the caller fixes the seed.
    optimizer : torch.optim.Optimizer
        Of the parameters.
    steps : iterable of int
        Numbers of the steps.
    rate : callable, optional
        Learning rate at a step; the optimiser's own if not given.
    clip : float, optional
        Largest norm of the gradient of all parameters together.
    updates : int, default 1
        So many times the optimiser uses each gradient.
    after : callable, optional
        Called with the step's number when it is done.
    state : State, optional
        Where the loop is kept, and what it goes on from; the loss must then be a function of the
        step and the parameters alone.
    what : str
        What is going on, for the error message.
    error : type, default MethodError
        Of the error.

    Returns
    -------
    list of float
        The loss before each step.

    Raises
    ------
    error
        If the loss stops being finite (names the step).
    """
    curve: list[float] = []
    for number, step in enumerate(steps, 1):
        if number <= len(curve):  # taken before the loop was stopped
            continue
        if rate is not None:
            for group in optimizer.param_groups:
                group["lr"] = rate(step)
        value = loss(step)
        if not torch.isfinite(value):
            raise error(f"{what}: loss is {value.item()} at step {step}")
        if state is not None and not curve:
            curve = state.restore(parameters, optimizer, value.item())
            if curve:
                continue
        optimizer.zero_grad()
        value.backward()
        if clip is not None:
            torch.nn.utils.clip_grad_norm_(parameters, clip)
        for _ in range(updates):
            optimizer.step()
        curve.append(value.item())
        if after is not None:
            after(step)
        if state is not None:
            state.keep(parameters, optimizer, curve, last=False)
    if state is not None and curve:
        state.keep(parameters, optimizer, curve, last=True)
    return curve
