"""What interventions start from: random numbers, the same for every task."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from mergebook.merged.intervened import Site

Draw = Callable[..., dict[str, Tensor]]


def uniform(*shape: int, fan_in: int, generator: torch.Generator) -> Tensor:
    """Draw uniform numbers within one over the root of the fan-in, as torch's linear layers do."""
    bound = fan_in**-0.5
    return (2 * torch.rand(*shape, generator=generator) - 1) * bound


def orthonormal(a: Tensor) -> Tensor:
    """Orthonormal basis ``[..., m, r]`` of the columns of a matrix, by Gram-Schmidt.

    The Q of the QR decomposition whose R has a positive diagonal, so that a matrix with
    orthonormal columns comes back.
    """
    q, r = torch.linalg.qr(a)
    return q * r.diagonal(dim1=-2, dim2=-1).sgn().unsqueeze(-2)


def start(sites: Sequence[Site], rank: int, tasks: int, draw: Draw, seed: int) -> list[dict]:
    """The numbers of each site at the start, the same for each task, with a leading axis of T.

    ``draw(site, rank, generator) -> numbers of one task``; all sites share one generator with the
    given seed, in order, so that what a task starts with does not depend on the other tasks.
    """
    generator = torch.Generator().manual_seed(seed)
    single = [draw(site, rank, generator) for site in sites]
    return [
        {key: value.repeat(tasks, *[1] * value.ndim) for key, value in numbers.items()}
        for numbers in single
    ]
