"""Merges of weights alone: random, sparse, by blocks, by neurons, by angles, by depth."""

from __future__ import annotations

import math
from zlib import crc32

import numpy as np

from oracles import named_oracle, oracle
from oracles.elementary import add_up, largest, number, same_for_all, task_vectors, ties_merge


def per_tensor(base, experts, merge):
    """Apply merge(base tensor, task vectors [T, *s], name) to each tensor, for all tasks alike."""
    merged = {
        key: merge(value, np.array([expert[key] - value for expert in experts]), key)
        for key, value in base.items()
    }
    return [merged for _ in experts]


def flat(states, keys):
    """State dicts as the rows of a matrix."""
    return np.array([np.concatenate([np.zeros(0), *(s[k].ravel() for k in keys)]) for s in states])


def unflat(vector, base):
    parts, start = {}, 0
    for key, value in base.items():
        parts[key] = vector[start : start + value.size].reshape(value.shape)
        start += value.size
    return parts


# ------------------------------------------------------------------ DARE


def thinned(base, experts, drop, seed):
    """State dicts of the task vectors with random entries set to zero, by the documented rule."""
    results = []
    for t, expert in enumerate(experts):
        result = {}
        for key, value in base.items():
            rng = np.random.default_rng([seed, crc32(b"task%d" % t), crc32(key.encode())])
            chance = rng.random(value.size, dtype=np.float32).reshape(value.shape)
            result[key] = (expert[key] - value) * (chance >= drop)
        results.append(result)
    return results


def factor(scale, drop):
    return 0.0 if drop == 1 else scale / (1 - drop)


@named_oracle
def dare_ta(base, experts, scale, drop, seed):
    vectors = thinned(base, experts, drop, seed)
    merged = {
        key: value + number(factor(scale, drop), value) * add_up([v[key] for v in vectors])
        for key, value in base.items()
    }
    return [merged for _ in experts]


@named_oracle
def dare_ties(base, experts, d, scale, drop, density, combine, keep, seed):
    dtype = np.result_type(np.float32, *base.values())
    vectors = flat(thinned(base, experts, drop, seed), base).astype(dtype)
    merged = unflat(ties_merge(vectors, d, density, keep, combine), base)
    merged = {k: v + number(factor(scale, drop), v) * merged[k] for k, v in base.items()}
    return [merged for _ in experts]


# ------------------------------------------------------------------ sparse vectors


def by_size(values):
    """Places from the largest to the smallest magnitude; of equal ones the first comes first."""
    return sorted(range(len(values)), key=lambda i: (-abs(values[i]), i))


def without_ends(row, density, outliers):
    removed, kept = int(outliers * len(row)), int(density * len(row))
    chosen = by_size(row)[removed : removed + kept]
    return np.array([x if i in chosen else 0 for i, x in enumerate(row)], dtype=row.dtype)


@named_oracle
def breadcrumbs(base, experts, scale, density, outliers, over):
    def merge(value, tau, key):
        if value.ndim == 0:
            kept = list(tau)
        elif over == "tensor":
            kept = [without_ends(t.ravel(), density, outliers).reshape(t.shape) for t in tau]
        else:
            kept = [
                np.array(
                    [without_ends(row, density, outliers) for row in t.reshape(-1, t.shape[-1])]
                )
                for t in tau
            ]
            kept = [k.reshape(value.shape).astype(value.dtype) for k in kept]
        return value + number(scale, value) * add_up(kept)

    return per_tensor(base, experts, merge)


@oracle
def magmax(base, experts, d, scale):
    tau = task_vectors(base, experts)
    best = [max(range(len(tau)), key=lambda t: (abs(tau[t, i]), t)) for i in range(len(base))]
    chosen = np.array([tau[t, i] for i, t in enumerate(best)], dtype=base.dtype)
    return same_for_all(base + number(scale, base) * chosen, experts)


@named_oracle
def cabs(base, experts, scale, n, m, fair, rest, order):
    num = len(experts)
    scales = scale if isinstance(scale, list) else [scale] * num
    if fair:
        n = min(n, max(1, math.floor(m / num)))
    n = min(n, m)

    def merge(value, tau, key):
        merged = np.zeros(value.size, value.dtype)
        taken = set()
        for t in range(num) if order == "given" else range(num - 1, -1, -1):
            vector, own = tau[t].ravel(), set()
            for start in range(0, value.size, m):
                places = range(start, min(start + m, value.size))
                count = n
                if len(places) < m:
                    count = math.ceil(n * len(places) / m) if rest == "share" else 0
                free = [i for i in places if i not in taken and vector[i] != 0]
                own |= set(sorted(free, key=lambda i: (-abs(vector[i]), i))[:count])
            for i in own:
                merged[i] = number(scales[t], value) * vector[i]
            taken |= own
        return value + merged.reshape(value.shape)

    return per_tensor(base, experts, merge)


def to_unit(values, low, high):
    return (values - low) / (high - low) if high > low else np.zeros_like(values)


# Weights are differences of scores from their threshold, and one counts in full if it is alone.
@oracle(tolerance=1e-4, generic=True, jumps=True)
def pcb(base, experts, d, scale, density, variant, clip):
    tau = task_vectors(base, experts)
    num, size = tau.shape
    frozen = np.zeros(d - size, dtype=tau.dtype)
    if size == 0:
        return same_for_all(base, experts)
    bounds = []
    for row in tau:
        everything = sorted([*np.abs(row), *frozen])
        bounds.append((everything[int(d * clip)], everything[int(d * (1 - clip) - 1)]))
    magnitude = np.array([np.clip(np.abs(t), *b) for t, b in zip(tau, bounds, strict=True)])
    m = np.array([to_unit(x, *b) for x, b in zip(magnitude, bounds, strict=True)])
    n = np.sign(tau) * m
    weights = []
    for t in range(num):
        if variant == "vision":
            inter = np.tanh(tau[t] * add_up(n))
        elif variant == "summary":
            inter = np.tanh(tau[t] * add_up(tau))
        else:
            inter = add_up([np.tanh(n[t] * n[s]) for s in range(num)])
        score = np.exp(num * m[t] ** 2) * inter
        everything = sorted([*score, *frozen])
        low, high = everything[min(int(d * (1 - density)), d - 1)], everything[-1]
        weights.append(to_unit(np.maximum(score, low), low, high))
    scales = scale if isinstance(scale, list) else [scale] * num
    signed = np.sign(tau) * magnitude * np.array(scales, tau.dtype)[:, None]
    weights = np.array(weights)
    merged = add_up(weights * signed) / np.maximum(add_up(weights), 1e-12)
    return same_for_all((base + merged).astype(base.dtype), experts)


# ------------------------------------------------------------------ neurons


def elect(values, tie):
    """Mean of the values that have the sign of their sum, or the sign `tie` if they cancel."""
    sign = np.sign(add_up(values)) or tie
    same = [x for x in values if np.sign(x) == sign and x != 0]
    return sum(same) / len(same) if same else 0.0


def elect_all(columns):
    """The same for each column ``[T, n]``, ties by the majority of the columns."""
    tie = np.sign(sum(np.sign(add_up(column)) for column in columns.T))
    return np.array([elect(column, tie) for column in columns.T])


def neuron_merge(w, rows, a, share, direction, parallel):
    """One neuron: base w ``[n]``, trimmed changes ``[T, n]``, their shares a along w ``[T]``."""
    rest = rows - np.outer(a, w)
    _, values, right = np.linalg.svd(rest, full_matrices=False)
    merged = np.zeros_like(w)
    for value, v in zip(values, right, strict=True):
        if value > 1e-13 * max(1.0, values[0]):
            coordinates = rest @ v
            coordinates[abs(coordinates) < 1e-9 * value] = 0
            merged += elect(coordinates, 0) * v
    length = np.linalg.norm(w)
    if direction == "unit" and length > 0:
        share = share / length
    return parallel * share * w + merged


@named_oracle(tolerance=1e-5, generic=True)
def neuromerging(base, experts, d, scale, parallel, density, direction, keep):
    vectors = flat([{k: e[k] - base[k] for k in base} for e in experts], base)
    marks = np.array([largest(row, d, density, keep) for row in vectors], dtype=bool)
    trimmed = [unflat(np.where(m, v, 0), base) for m, v in zip(marks, vectors, strict=True)]
    merged = {}
    for key, value in base.items():
        tau = np.array([t[key] for t in trimmed], dtype=np.float64)
        if value.ndim < 2:
            change = elect_all(tau.reshape(len(tau), -1)).reshape(value.shape)
        elif value.size == 0:
            change = np.zeros(value.shape)
        else:
            neurons = value.reshape(len(value), -1).astype(np.float64)
            tau = tau.reshape(len(tau), *neurons.shape)
            squares = [w @ w for w in neurons]
            shares = np.array([
                [t[i] @ w / squares[i] if squares[i] else 0.0 for i, w in enumerate(neurons)]
                for t in tau
            ])  # fmt: skip
            agreed = elect_all(shares)
            change = np.array([
                neuron_merge(w, tau[:, i], shares[:, i], agreed[i], direction, parallel)
                for i, w in enumerate(neurons)
            ]).reshape(value.shape)  # fmt: skip
        merged[key] = value + scale * change
    return [merged for _ in experts]


# ------------------------------------------------------------------ angles and scopes


def cosine(a, b):
    size = np.linalg.norm(a) * np.linalg.norm(b)
    return float(a @ b) / size if size > 0 else 0.0


def wide(tau):
    return tau.reshape(len(tau), -1).astype(np.float64)


def stock_ratio(rows):
    pairs = [cosine(rows[s], rows[t]) for s in range(len(rows)) for t in range(s)]
    if not pairs:
        return 1.0
    mean = min(1.0, max(0.0, sum(pairs) / len(pairs)))
    return len(rows) * mean / (1 + (len(rows) - 1) * mean)


@named_oracle(tolerance=1e-6)
def model_stock(base, experts, over):
    whole = flat([{k: (e[k] - base[k]).astype(np.float64) for k in base} for e in experts], base)

    def merge(value, tau, key):
        t = stock_ratio(whole if over == "vector" else wide(tau))
        mean = sum(tau.astype(np.float64)) / len(tau)
        return (1 - t) * value + t * (value + mean)

    return per_tensor(base, experts, merge)


def arc(one, two, t):
    lengths = np.linalg.norm(one), np.linalg.norm(two)
    if min(lengths, default=0) == 0 or abs(cosine(one, two)) > 0.9995:
        return (1 - t) * one + t * two
    angle = np.arccos(cosine(one, two))
    return (np.sin((1 - t) * angle) * one + np.sin(t * angle) * two) / np.sin(angle)


def along_arcs(rows, t):
    merged = rows[0]
    for k in range(1, len(rows)):
        merged = arc(merged, rows[k], t / (t + (1 - t) * k))
    return merged


@named_oracle(tolerance=2e-6)
def slerp(base, experts, t, of, over):
    zero = {key: np.zeros_like(value) for key, value in base.items()}
    origin = base if of == "task_vectors" else zero
    # Methods know an expert as base + task vector, rounded.
    experts = [{k: base[k] + (e[k] - base[k]) for k in base} for e in experts]
    states = [{k: (e[k] - origin[k]).astype(np.float64) for k in base} for e in experts]
    if over == "vector":
        merged = unflat(along_arcs(flat(states, base), t), base)
    else:
        merged = {
            k: along_arcs([s[k].ravel() for s in states], t).reshape(base[k].shape) for k in base
        }
    return [{k: origin[k] + merged[k] for k in base} for _ in experts]


@named_oracle(tolerance=1e-6)
def wsa(base, experts, scale):
    def merge(value, tau, key):
        if value.size == 0:
            return value
        rows = wide(tau)
        even = [np.ptp(row) == 0 for row in rows]
        stds = [0.0 if e else row.std() for e, row in zip(even, rows, strict=True)]
        target = sum(stds) / max(1, len(stds) - sum(even))
        aligned = [
            row if e else row.mean() + target / std * (row - row.mean())
            for e, row, std in zip(even, rows, stds, strict=True)
        ]
        return value + scale * sum(aligned).reshape(value.shape)

    return per_tensor(base, experts, merge)


@named_oracle(tolerance=1e-6)
def lata(base, experts, scale, drop):
    likeness = {}
    for key, value in base.items():
        rows = wide(np.array([e[key] - value for e in experts]))
        likeness[key] = [round(cosine(row, add_up(rows)), 9) for row in rows]
    num_layers = len(base)

    def weight(key, t):
        rank = sum(other[t] >= likeness[key][t] for other in likeness.values())
        if drop == "linear":
            return rank / num_layers
        return math.log(1 + rank) / math.log(1 + num_layers)

    def merge(value, tau, key):
        return value + scale * sum(weight(key, t) * x for t, x in enumerate(tau.astype(np.float64)))

    return per_tensor(base, experts, merge)


@named_oracle
def lines(base, experts, floor, slope):
    # The cases' names ("layer0") hold no block; see tests/methods/test_static_scales.py.
    def merge(value, tau, key):
        return value + number(floor / len(tau), value) * add_up(tau)

    return per_tensor(base, experts, merge)
