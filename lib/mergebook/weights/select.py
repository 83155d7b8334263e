"""The largest entries of a whole task vector, found exactly without laying it out flat.

The bit pattern of a non-negative float grows with its value, so the k-th largest magnitude is
found digit by digit (radix selection): a histogram of the upper 16 bits names the bucket that
holds it, a second pass over the entries of that bucket settles the lower 16. Memory is one
histogram per task (and rank, where several are asked for at once), whatever the size of the model
and however many magnitudes are equal.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
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
        1 for the largest; beyond the number of merged entries the smallest; 0 for none, where the
        magnitude is infinite. A function is called after the first pass, when that number is known.

    Returns
    -------
    magnitude : Tensor, shape [T]
        The values, in the type of the arithmetic.
    ties : Tensor, shape [T], int64
        How many entries of exactly this magnitude are among the `rank` largest.
    """

    def ranks() -> tuple[int]:
        return ((rank() if callable(rank) else rank),)

    found, ties = _select(experts, lambda layer: _pattern(layer.deltas.abs()), ranks)
    return found[0].view(experts.dtype), ties[0]


def ranked(
    experts: Experts, values: Callable[[Layer], Tensor], ranks: Callable[[], Sequence[int]]
) -> Tensor:
    """The values at some ranks of each task, over all entries that count, all in the same passes.

    Parameters
    ----------
    experts : Experts
        Streamed as by :func:`kth_largest`, however many ranks are asked for.
    values : callable
        Maps a layer to values ``[T, *s]`` of either sign. Frozen entries that count have zeros.
    ranks : callable
        Called after the first pass; returns R of them: 1 for the largest,
        :attr:`Experts.num_entries` for the smallest.

    Returns
    -------
    Tensor, shape [R, T]
        In the type of the arithmetic.
    """

    def keys(layer: Layer) -> Tensor:
        return _ordered(_pattern(values(layer) + 0.0))  # + 0.0: zeros of either sign are equal

    found, _ = _select(experts, keys, ranks, frozen=True)
    return _ordered(found).view(experts.dtype)


def _pattern(values: Tensor) -> Tensor:
    """The bits of floats as signed integers of their width."""
    return values.view(torch.int32 if values.dtype == torch.float32 else torch.int64)


def _ordered(patterns: Tensor) -> Tensor:
    """Map the bits of floats to integers in the order of the floats, and back.

    Without the flip of all bits but the sign, the bits of negative floats fall as they grow.
    """
    bits = torch.iinfo(patterns.dtype)
    return patterns ^ ((patterns >> (bits.bits - 1)) & bits.max)


def _select(
    experts: Experts,
    keys: Callable[[Layer], Tensor],
    ranks: Callable[[], Sequence[int]],
    *,
    frozen: bool = False,
) -> tuple[Tensor, Tensor]:
    """Integers at R ranks, and how many equal ones are among the largest; both ``[R, T]``.

    `keys` maps a layer to integers ``[T, *s]`` as wide as the arithmetic; with `frozen`, entries
    that count but are not streamed are zeros.
    """
    infinity = _pattern(torch.tensor(torch.inf, dtype=experts.dtype))
    num_tasks, top = len(experts.tasks), 8 * experts.dtype.itemsize - DIGIT
    first_bucket = torch.arange(num_tasks, dtype=infinity.dtype)[:, None] * BUCKETS + BUCKETS // 2
    # Digits found so far, of each rank; one for all before the first, which is the signed one.
    prefix = torch.zeros(1, num_tasks, 1, dtype=infinity.dtype)
    for shift in range(top, -1, -DIGIT):
        histogram = torch.zeros(len(prefix), num_tasks, BUCKETS, dtype=torch.int64)
        for layer in experts:
            digits = keys(layer).reshape(num_tasks, layer.numel).cpu() >> shift
            if shift == top:
                _count(digits.add_(first_bucket).flatten(), histogram.view(-1))
                continue
            for known, counts in zip(prefix, histogram, strict=True):
                rows, columns = ((digits >> DIGIT) == known).nonzero(as_tuple=True)
                lower = digits[rows, columns] & (BUCKETS - 1)
                _count(lower + rows * BUCKETS, counts.view(-1))
        zero = BUCKETS // 2 if shift == top else 0
        if frozen:
            others = experts.num_entries - experts.num_trained
            histogram[..., zero] += others * (prefix == 0).squeeze(2)
        if shift == top:
            wanted = torch.tensor(ranks()).clamp(max=int(histogram[0, 0].sum()))[:, None]
            if not wanted.any():
                nothing = torch.zeros(len(wanted), num_tasks, dtype=torch.int64)
                return infinity.expand(nothing.shape).clone(), nothing
            left = wanted[..., None].expand(-1, num_tasks, 1)
            histogram = histogram.expand(len(wanted), -1, -1)
        # Entries with this digit or a larger one.
        at_least = histogram.sum(2, keepdim=True) - histogram.cumsum(2) + histogram
        digit = (at_least >= left).sum(2, keepdim=True) - 1
        left = left - (at_least.gather(2, digit) - histogram.gather(2, digit))
        prefix = (prefix << DIGIT) + (digit - zero).to(prefix)
    return prefix.squeeze(2), left.squeeze(2)


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
        return int(experts.num_entries * density) + (keep == "k+1")

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
