"""Where the task vectors of others disturb a task, and task vectors without that [sun2025cat]."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from mergebook.activations.equations import SEEN
from mergebook.activations.inputs import Seen

Remove = Callable[[int, Tensor], Tensor]


def _others(deltas: Tensor, protected: int) -> list[int]:
    """Numbers of all tasks but one."""
    return [t for t in range(len(deltas)) if t != protected]


def conflict_basis(
    deltas: Tensor, seen: Seen, protected: int, rank: float, trade_off: float
) -> Tensor:
    """Directions of a linear map's outputs in which others disturb a task the most.

    Parameters
    ----------
    deltas : Tensor, shape [T, out, in], float64
        Task vectors.
    seen : Seen
        The map, with the second moments of its inputs.
    protected : int
        Number of the task.
    rank : float
        The most directions there are, as a share of the number of outputs (rounded down).
    trade_off : float
        Weight of what the others lose.

    Returns
    -------
    Tensor, shape [out, c]
        Orthonormal columns; only directions with a positive conflict.
    """
    others = _others(deltas, protected)
    moments = seen.moments[protected] - trade_off * seen.moments[others]
    conflict = (deltas[others] @ moments @ deltas[others].mT).sum(0)
    values, vectors = torch.linalg.eigh(conflict)
    first = len(values) - int(rank * len(values))
    return vectors[:, first:][:, values[first:] > SEEN * values.abs().max()]


def conflict_scores(deltas: Tensor, seen: Seen, protected: int, trade_off: float) -> Tensor:
    """How much others disturb a task in each dimension of a norm's scale.

    Parameters
    ----------
    deltas : Tensor, shape [T, d], float64
        Task vectors.
    seen, protected, trade_off
        As for :func:`conflict_basis`.

    Returns
    -------
    Tensor, shape [d]
    """
    others = _others(deltas, protected)
    moments = seen.moments[protected] - trade_off * seen.moments[others]
    return (deltas[others].square() * moments).sum(0)


def projecting(bases: list[Tensor]) -> Remove:
    """Take from a task vector its part in the basis of the protected task."""
    return lambda protected, delta: delta - bases[protected] @ (bases[protected].mT @ delta)


def masking(scores: list[Tensor], share: float) -> Remove:
    """Set a share of the entries to zero, those with the highest scores of the protected task.

    Scores that are not positive are no conflict: their entries stay.
    """
    kept = []
    for score in scores:
        top = score.topk(int(share * len(score))).indices
        mask = torch.ones_like(score)
        mask[top[score[top] > 0]] = 0
        kept.append(mask)
    return lambda protected, delta: delta * kept[protected]


def trimmed_sum(deltas: Tensor, remove: Remove, rescale: bool) -> Tensor:
    """For one protected task after the other, trim all others; sum of what is left ``[*s]``.

    Parameters
    ----------
    deltas : Tensor, shape [T, *s]
        Task vectors.
    remove : callable
        Takes from a task vector what disturbs the task of a number.
    rescale : bool
        Whether a trimmed vector gets its norm back after each step.
    """
    trimmed = list(deltas)
    for protected in range(len(deltas)):
        for t in _others(deltas, protected):
            rest = remove(protected, trimmed[t])
            norm = rest.norm()
            if rescale and norm > 0:
                rest = rest * (trimmed[t].norm() / norm)
            trimmed[t] = rest
    return torch.stack(trimmed).sum(0)
