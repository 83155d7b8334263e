"""Tokens of texts of different lengths: padding is zero, and nothing else is."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F


def present(x: Tensor) -> Tensor:
    """Which tokens ``[N, L, d]`` of texts are there and are no padding, bool ``[N, L, 1]``.

    Towers keep padding at exactly zero wherever others look at tokens.
    """
    return (x != 0).any(-1, keepdim=True)


def token_mean(x: Tensor, there: Tensor | None = None) -> Tensor:
    """``[N, L, d] -> [N, d]``, the mean over the tokens that are there; ``[N, D]`` stays.

    Parameters
    ----------
    x : Tensor
        Tokens, or features.
    there : Tensor, bool [N, L, 1], optional
        Which tokens are there, see :meth:`mergebook.towers.tower.Tower.there`; all by default.
    """
    if x.ndim == 2:
        return x
    if there is None or there.all():
        return x.mean(1)
    return (x * there).sum(1) / there.sum(1).clamp(min=1)


def joined(parts: Sequence[Tensor]) -> Tensor:
    """One tensor of the tokens of several batches, the shorter ones padded; or of all else."""
    longest = max(part.shape[1] for part in parts)
    if parts[0].ndim != 3 or all(part.shape[1] == longest for part in parts):
        return torch.cat(list(parts))
    return torch.cat([F.pad(part, (0, 0, 0, longest - part.shape[1])) for part in parts])
