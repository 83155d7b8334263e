"""The largest entries of a whole task vector, found exactly without laying it out flat.

The bit pattern of a non-negative float grows with its value, so the k-th largest magnitude is
found digit by digit (radix selection): a histogram of the upper 16 bits names the bucket that
holds it, a second pass over the entries of that bucket settles the lower 16. Memory is one
histogram per task, whatever the size of the model and however many magnitudes are equal.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from mergebook.weights.experts import Experts
from mergebook.weights.layer import Layer

Keep = Literal["k+1", "k"]
DIGIT = 16
BUCKETS = 1 << DIGIT


def kth_largest(experts: Experts, rank: int | Callable[[], int]) -> tuple[Tensor, Tensor]:
    """The rank-th largest magnitude of each task vector, over all merged tensors together.

    Parameters
    ----------
    experts : Experts
        Streamed once per 16 bits of the arithmetic: twice for float32, four times for float64.
    rank : int or callable
        1 for the largest, up to the number of merged entries; 0 for none, where the magnitude is
        infinite. A function is called after the first pass, when that number is known.

    Returns
    -------
    magnitude : Tensor, shape [T]
        The values, in the type of the arithmetic.
    ties : Tensor, shape [T], int64
        How many entries of exactly this magnitude are among the `rank` largest.
    """
    pattern_type = torch.int32 if experts.dtype == torch.float32 else torch.int64
    width = 8 * experts.dtype.itemsize
    num_tasks = len(experts.tasks)
    prefix = torch.zeros(num_tasks, 1, dtype=pattern_type)
    left = None
    first_bucket = torch.arange(num_tasks, dtype=pattern_type)[:, None] * BUCKETS
    for shift in range(width - DIGIT, -1, -DIGIT):
        histogram = torch.zeros(num_tasks, BUCKETS, dtype=torch.int64)
        for layer in experts:
            pattern = layer.deltas.abs().reshape(num_tasks, layer.numel).view(pattern_type).cpu()
            digits = pattern >> shift
            if shift < width - DIGIT:
                rows, columns = ((digits >> DIGIT) == prefix).nonzero(as_tuple=True)
                digits = (digits[rows, columns] & (BUCKETS - 1)) + rows * BUCKETS
            else:
                digits += first_bucket
            _count(digits.flatten(), histogram.view(-1))
        if left is None:
            wanted = rank() if callable(rank) else rank
            if wanted == 0:
                nothing = torch.zeros(num_tasks, dtype=torch.int64)
                return torch.full((num_tasks,), torch.inf, dtype=experts.dtype), nothing
            left = torch.full((num_tasks, 1), wanted)
        # Entries with this digit or a larger one.
        at_least = histogram.sum(1, keepdim=True) - histogram.cumsum(1) + histogram
        digit = (at_least >= left).sum(1, keepdim=True) - 1
        above = at_least.gather(1, digit) - histogram.gather(1, digit)
        left = left - above
        prefix = (prefix << DIGIT) | digit.to(pattern_type)
    return prefix.view(experts.dtype).flatten(), left.flatten()


def _count(buckets: Tensor, histogram: Tensor) -> None:
    """Add to a histogram; each of the two ways is several times slower where the other is used."""
    if buckets.numel() > histogram.numel():
        histogram += torch.bincount(buckets, minlength=histogram.numel())
    else:
        buckets = buckets.long()
        one = torch.ones(1, dtype=histogram.dtype).expand(buckets.shape)
        histogram.scatter_add_(0, buckets, one)


@dataclass(frozen=True)
class TopEntries:
    """Which entries are among the largest of their task vector.

    Attributes
    ----------
    threshold : Tensor, shape [T]
        Magnitude from which entries are kept.
    ties : mapping of str to Tensor of shape [T], or None
        How many entries equal to the threshold each layer keeps; None keeps all.
    """

    threshold: Tensor
    ties: Mapping[str, Tensor] | None = None

    def mask(self, layer: Layer) -> Tensor:
        """Kept entries of a layer: bool ``[T, *s]``."""
        magnitude = layer.deltas.abs()
        threshold = layer.per_task(self.threshold)
        if self.ties is None:
            return magnitude >= threshold
        equal = magnitude == threshold
        order = equal.reshape(layer.num_tasks, layer.numel).cumsum(1).reshape(equal.shape)
        allowed = self.ties[layer.name].to(order.device).reshape(-1, *[1] * layer.ndim)
        return (magnitude > threshold) | (equal & (order <= allowed))

    def trim(self, layer: Layer) -> Tensor:
        """Task vectors ``[T, *s]`` with all other entries set to zero."""
        return layer.deltas * self.mask(layer).to(layer.deltas.dtype)  # faster than where()


def top_entries(experts: Experts, density: float, keep: Keep = "k+1") -> TopEntries:
    """Select the largest share of each task vector, over all merged tensors together.

    With d entries that count (:attr:`Experts.num_entries`) and k = int(d * density):

    - ``"k+1"`` keeps all magnitudes at or above the (d - k)-th smallest, as the released TIES code
      does [yadav2023ties]: k + 1 entries, and more where magnitudes are equal.
    - ``"k"`` keeps exactly k; among equal magnitudes the first in the order of the (sorted) names
      and, within a tensor, of its entries.

    Entries that count but are frozen are zero, hence the last to be kept.

    Parameters
    ----------
    experts : Experts
        The task vectors.
    density : float
        Kept share, 0 to 1.
    keep : {"k+1", "k"}, default "k+1"
        The rule above.

    Returns
    -------
    TopEntries
        The thresholds.
    """

    def rank() -> int:
        wanted = int(experts.num_entries * density) + (keep == "k+1")
        return min(wanted, experts.num_trained)

    threshold, ties = kth_largest(experts, rank)
    if keep == "k+1" or not ties.any():
        return TopEntries(threshold)
    allowed = {}
    for layer in experts:
        equal = layer.deltas.abs() == layer.per_task(threshold)
        found = equal.reshape(layer.num_tasks, layer.numel).sum(1).cpu()
        allowed[layer.name] = torch.minimum(found, ties)
        ties = ties - allowed[layer.name]
    return TopEntries(threshold, allowed)
