"""Averaging, task arithmetic, TIES, consensus, masks: plain loops over entries."""

from __future__ import annotations

import numpy as np

from oracles import oracle


def task_vectors(base, experts):
    return np.array([expert - base for expert in experts])


def add_up(rows):
    """Sum over tasks, one after the other."""
    total = rows[0].copy()
    for row in rows[1:]:
        total = total + row
    return total


def same_for_all(weights, experts):
    return np.array([weights for _ in experts])


def number(value, base):
    """A parameter in the type of the arithmetic."""
    return base.dtype.type(value)


def thresholds(value, experts, base):
    values = value if isinstance(value, list) else [value] * len(experts)
    return [number(v, base) for v in values]


def largest(vector, d, density, keep):
    """Marks of the largest magnitudes of a vector that has d - P further entries, all zero."""
    magnitude = [abs(x) for x in vector]
    k = int(d * density)
    if keep == "k":
        order = sorted(range(len(vector)), key=lambda i: (-magnitude[i], i))
        chosen = set(order[:k])
        return [i in chosen for i in range(len(vector))]
    everything = sorted([*magnitude, *[0.0] * (d - len(vector))])
    threshold = everything[d - k - 1] if k < d else 0.0
    return [m >= threshold for m in magnitude]


def ties_merge(tau, d, density, keep, combine):
    marks = np.array([largest(row, d, density, keep) for row in tau], dtype=bool)
    trimmed = np.where(marks.reshape(tau.shape), tau, tau.dtype.type(0))
    elected = [int(np.sign(value)) for value in add_up(trimmed)]
    majority = int(np.sign(sum(elected)))
    elected = [sign if sign != 0 else majority for sign in elected]
    merged = np.zeros(tau.shape[1], dtype=tau.dtype)
    for i, sign in enumerate(elected):
        agreeing = [x for x in trimmed[:, i] if x != 0 and np.sign(x) == sign]
        for value in agreeing:
            merged[i] = merged[i] + value
        if combine == "mean" and agreeing:
            merged[i] = merged[i] / tau.dtype.type(len(agreeing))
    return merged


def tall_marks(tau, vector, limits, strict=True):
    marks = np.zeros(tau.shape, dtype=bool)
    for t, limit in enumerate(limits):
        for i in range(tau.shape[1]):
            own, rest = abs(tau[t, i]), limit * abs(vector[i] - tau[t, i])
            marks[t, i] = own > rest if strict else own >= rest
    return marks


def agreed(marks, k):
    return np.array([sum(map(int, marks[:, i])) >= k for i in range(marks.shape[1])], dtype=bool)


@oracle
def zero_shot(base, experts, d):
    return same_for_all(base, experts)


@oracle
def fine_tuned(base, experts, d):
    return np.array(experts)


@oracle
def averaging(base, experts, d):
    total = add_up(task_vectors(base, experts))
    return same_for_all(base + total / number(len(experts), base), experts)


@oracle
def task_arithmetic(base, experts, d, scale):
    total = add_up(task_vectors(base, experts))
    return same_for_all(base + number(scale, base) * total, experts)


@oracle
def ties(base, experts, d, scale, density, combine, keep):
    merged = ties_merge(task_vectors(base, experts), d, density, keep, combine)
    return same_for_all(base + number(scale, base) * merged, experts)


@oracle
def tall_ta(base, experts, d, threshold, strict):
    tau = task_vectors(base, experts)
    total = add_up(tau)
    marks = tall_marks(tau, total, thresholds(threshold, experts, base), strict)
    return np.array([base + total * mark for mark in marks])


@oracle
def tall_ties(base, experts, d, threshold, density, keep, strict):
    tau = task_vectors(base, experts)
    merged = ties_merge(tau, d, density, keep, "sum")
    marks = tall_marks(tau, merged, thresholds(threshold, experts, base), strict)
    return np.array([base + merged * mark for mark in marks])


@oracle
def magnitude_masking(base, experts, d, density, keep):
    tau = task_vectors(base, experts)
    total = add_up(tau)
    return np.array([base + total * np.array(largest(row, d, density, keep), bool) for row in tau])


@oracle
def magnitude_pruning(base, experts, d, density, keep):
    tau = task_vectors(base, experts)
    return np.array([base + row * np.array(largest(row, d, density, keep), bool) for row in tau])
