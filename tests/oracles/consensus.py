"""Consensus merging: votes counted entry by entry, and the shuffled control."""

from __future__ import annotations

from zlib import crc32

import numpy as np

from oracles import named_oracle
from oracles.elementary import (
    add_up,
    agreed,
    number,
    tall_marks,
    task_vectors,
    thresholds,
    ties_merge,
)
from oracles.static import flat, unflat


def flattened(base, experts):
    """Base ``[P]`` and task vectors ``[T, P]``, in the type of the library's arithmetic."""
    dtype = np.result_type(np.float32, *base.values())
    start, ends = flat([base], base)[0].astype(dtype), flat(experts, base).astype(dtype)
    return start, ends, task_vectors(start, ends)


def chosen_part(base, tau, vector, limits, k, shuffled, seed):
    """State dict of the merged vector where at least k masks are set, or at random places."""
    parts = unflat(agreed(tall_marks(tau, vector, limits), k), base)
    if shuffled:
        for key, part in parts.items():
            order = np.random.default_rng([seed, crc32(key.encode())]).permutation(part.size)
            parts[key] = np.array([part.ravel()[i] for i in order], bool).reshape(part.shape)
    return {key: value * parts[key] for key, value in unflat(vector, base).items()}


@named_oracle
def consensus_ta(base, experts, scale, k, threshold, shuffled, seed):
    start, ends, tau = flattened(base, experts)
    limits = thresholds(threshold, ends, start)
    part = chosen_part(base, tau, add_up(tau), limits, k, shuffled, seed)
    merged = {key: value + number(scale, value) * part[key] for key, value in base.items()}
    return [merged for _ in experts]


@named_oracle
def consensus_ties(base, experts, d, scale, k, threshold, density, keep, shuffled, seed):
    start, ends, tau = flattened(base, experts)
    limits, vector = thresholds(threshold, ends, start), ties_merge(tau, d, density, keep, "sum")
    part = chosen_part(base, tau, vector, limits, k, shuffled, seed)
    merged = {key: value + number(scale, value) * part[key] for key, value in base.items()}
    return [merged for _ in experts]
