"""What pre-training and fine-tuning share: the schedule and the augmentation."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def cosine(step: int, steps: int, warmup: int) -> float:
    """Factor on the peak learning rate at a step: linear warm-up, then cosine to zero."""
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


def jitter(x: Tensor, generator: torch.Generator, shift: int = 3, noise: float = 0.1) -> Tensor:
    """Shift a batch by up to `shift` pixels (cyclically) and add Gaussian noise."""
    dy, dx = torch.randint(-shift, shift + 1, (2,), generator=generator).tolist()
    return torch.roll(x + noise * torch.randn(x.shape, generator=generator), (dy, dx), (2, 3))
