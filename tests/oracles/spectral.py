"""CART, TSV, isotropic merging, AWD, DOGE: plain singular value decompositions and gradients."""

from __future__ import annotations

import numpy as np
import torch

from oracles import named_oracle

# Singular values below this share of the largest count as zero: the documented rule.
NULL = 1e-6


def svd(matrix):
    """Singular triplets in float64; vectors that belong to a singular value of zero are zero."""
    left, values, right = np.linalg.svd(matrix.astype(np.float64), full_matrices=False)
    there = values > NULL * values.max(initial=0)
    return left * there, values * there, right.T * there


def polar(matrix):
    left, _, right = svd(matrix)
    return left @ right.T


def low_rank(matrix, k):
    left, values, right = np.linalg.svd(matrix.astype(np.float64), full_matrices=False)
    return sum(
        (values[i] * np.outer(left[:, i], right[i]) for i in range(k)), np.zeros(matrix.shape)
    )


def vectors(base, experts, key):
    return [expert[key] - base[key] for expert in experts]


def add_up(rows):
    total = rows[0].copy()
    for row in rows[1:]:
        total = total + row
    return total


def for_all(base, experts, merged):
    """One state dict for every task: base plus the merged vector of each tensor."""
    state = {key: base[key].astype(np.float64) + merged(key) for key in base}
    return [state for _ in experts]


def is_matrix(key, array):
    return array.ndim == 2 and "text_projection" not in key


def decomposed(base, tensors):
    """Names of the tensors that CART decomposes."""
    block = [
        key
        for key in base
        if ("attn" in key or "mlp" in key) and "ln" not in key and "bias" not in key
    ]
    chosen = block if tensors == "blocks" and block else list(base)
    return [key for key in chosen if is_matrix(key, base[key])]


def cart_k(r, rank):
    return 0 if rank == 0 else min(r, max(1, int(rank * r)))


def energy_k(matrix, rank):
    squares = np.linalg.svd(matrix.astype(np.float64), compute_uv=False) ** 2
    k = 0
    while k < len(squares) and squares[:k].sum() < rank * squares.sum():
        k += 1
    return k


def tsv_vector(taus, budget, orthogonal):
    tasks, r = len(taus), min(taus[0].shape)
    k = min(r, int(budget * r / tasks))
    parts = [svd(tau) for tau in taus]
    left = np.concatenate([part[0][:, :k] for part in parts], axis=1)
    values = np.concatenate([part[1][:k] for part in parts])
    right = np.concatenate([part[2][:, :k] for part in parts], axis=1)
    if orthogonal and k:
        left, right = polar(left), polar(right)
    return (left * values) @ right.T


@named_oracle(tolerance=2e-6, generic=True)
def tsv_m(base, experts, scale, budget, orthogonal, qkv):
    def merged(key):
        taus = vectors(base, experts, key)
        if not is_matrix(key, base[key]):
            return scale * add_up(taus) / len(taus)
        return scale * tsv_vector(taus, budget, orthogonal)

    return for_all(base, experts, merged)


@named_oracle(tolerance=2e-6, generic=True)
def cart(base, experts, rank, scale, origin, origin_scale, tensors, rule, qkv):
    chosen = decomposed(base, tensors)

    def merged(key):
        taus = vectors(base, experts, key)
        centre = {
            "average": add_up(taus) / taus[0].dtype.type(len(taus)),
            "base": 0 * taus[0],
            "task_arithmetic": taus[0].dtype.type(origin_scale) * add_up(taus),
            "tsv_m": add_up(taus) / taus[0].dtype.type(len(taus))
            if not is_matrix(key, base[key])
            else tsv_vector(taus, 1.0, True).astype(taus[0].dtype),
        }[origin]
        result = centre.astype(np.float64)
        for tau in taus:
            centred = tau - centre
            if key in chosen:
                r = min(centred.shape)
                k = cart_k(r, rank) if rule == "share" else energy_k(centred, rank)
                centred = low_rank(centred, r if rank == 1 else k)
            elif rank == 0:
                centred = 0 * centred
            result = result + scale * centred
        return result

    return for_all(base, experts, merged)


@named_oracle(tolerance=2e-6, generic=True)
def cart_uncentred(base, experts, rank, scale, tensors, rule, qkv):
    return cart(base, experts, rank, scale, "base", 0.0, tensors, rule, qkv)


@named_oracle(tolerance=2e-6, generic=True)
def iso_c(base, experts, scale, qkv):
    def merged(key):
        total = add_up(vectors(base, experts, key))
        if not is_matrix(key, base[key]) or total.size == 0:
            return scale * total / len(experts)
        return scale * svd(total)[1].mean() * polar(total)

    return for_all(base, experts, merged)


@named_oracle(tolerance=2e-6, generic=True)
def iso_cts(base, experts, scale, common, qkv):
    tasks = len(experts)

    def merged(key):
        taus = vectors(base, experts, key)
        total = add_up(taus)
        if not is_matrix(key, base[key]) or total.size == 0:
            return scale * total / tasks
        r = min(total.shape)
        s = round((r - int(common * r)) / tasks)
        while tasks * s > r:
            s -= 1
        c = r - tasks * s
        shared = [part[..., :c] for part in svd(total)]
        outside = np.eye(len(total)) - shared[0] @ shared[0].T
        parts = [[part[..., :s] for part in svd(outside @ tau)] for tau in taus]
        left, values, right = (np.concatenate(p, axis=-1) for p in zip(*parts, shared, strict=True))
        return scale * values.mean() * polar(left) @ polar(right).T

    return for_all(base, experts, merged)


def redundant_vector(taus, penalty, lr, steps):
    """Gradient descent on the whole vector, by automatic differentiation: [P]."""
    taus = torch.from_numpy(np.array(taus, dtype=np.float64))
    delta = torch.zeros_like(taus[0], requires_grad=True)
    pairs = [(i, j) for i in range(len(taus)) for j in range(len(taus)) if i != j]
    for _ in range(steps):
        loss = penalty * delta.norm()
        for i, j in pairs:
            a, b = taus[i] - delta, taus[j] - delta
            cosine = a @ b / a.norm() / b.norm()
            if (
                abs(float(cosine.detach())) < 1 - 1e-10
            ):  # parallel ones are at the kink, as are zeros
                loss = loss + cosine.abs() / len(pairs)
        (gradient,) = torch.autograd.grad(loss, delta)
        delta = (delta - lr * gradient).detach().requires_grad_()
    return delta.detach().numpy()


@named_oracle(tolerance=2e-6, generic=True)
def awd(base, experts, scale, penalty, lr, steps, scope):
    flat = [
        np.concatenate([np.zeros(0), *(np.ravel(expert[key] - base[key]) for key in base)])
        for expert in experts
    ]
    whole, start = redundant_vector(flat, penalty, lr, steps), 0
    shared = {}
    for key in base:
        size = base[key].size
        shared[key] = whole[start : start + size]
        start += size
        if scope == "layer":
            own = [np.ravel(tau) for tau in vectors(base, experts, key)]
            shared[key] = redundant_vector(own, penalty, lr, steps)

    def merged(key):
        redundant = shared[key].reshape(base[key].shape)
        return scale * sum(tau - redundant for tau in vectors(base, experts, key))

    return for_all(base, experts, merged)


def adam(start, gradient, lr, steps):
    """Adam with its usual constants, from its definition."""
    x, mean, square = start, np.zeros_like(start), np.zeros_like(start)
    for step in range(1, steps + 1):
        g = gradient(x)
        mean = 0.9 * mean + 0.1 * g
        square = 0.999 * square + 0.001 * g**2
        x = x - lr * (mean / (1 - 0.9**step)) / (np.sqrt(square / (1 - 0.999**step)) + 1e-8)
    return x


# Adam divides by the gradient's size entry by entry, which magnifies rounding where it is small.
@named_oracle(tolerance=1e-4, generic=True)
def doge(base, experts, scale, density, divisor, lr, steps, qkv):
    chosen, tasks = decomposed(base, "blocks"), len(experts)
    thresholds = []
    for expert in experts:
        sizes = [np.zeros(0), *(np.abs(expert[key] - base[key]).ravel() for key in chosen)]
        sizes = np.sort(np.concatenate(sizes))
        thresholds.append(
            sizes[max(0, len(sizes) - int(len(sizes) * density) - 1)]
            if chosen and len(sizes)
            else 0
        )

    def merged(key):
        if key not in chosen or base[key].size == 0:
            return np.zeros(base[key].shape)
        taus = [tau.astype(np.float64) for tau in vectors(base, experts, key)]
        weights = [scale / np.linalg.norm(tau) if tau.any() else 0 for tau in taus]
        r = min(base[key].shape)
        columns = np.concatenate([svd(tau)[0][:, : r // tasks] for tau in taus], axis=1)
        shared = svd(columns)[0][:, : r // divisor] if columns.size else columns
        outside = np.eye(len(base[key])) - shared @ shared.T

        def gradient(change):
            total = sum(w * (tau + change) for w, tau in zip(weights, taus, strict=True))
            slope = np.zeros_like(change)
            for tau in taus:
                rows = (tau * (tau - total)).sum(1)
                slope += 2 * rows[:, None] * tau * -sum(weights)
            return outside @ slope

        change = adam(np.zeros(base[key].shape), gradient, lr, steps)
        marks = [np.abs(tau) >= limit for tau, limit in zip(taus, thresholds, strict=True)]
        return sum(
            w * mark * (tau + change) for w, mark, tau in zip(weights, marks, taus, strict=True)
        )

    return for_all(base, experts, merged)


@named_oracle(tolerance=2e-6, generic=True)
def tsv_c(base, experts, budget, qkv):
    def weights(key, expert):
        if base[key].ndim != 2:
            return expert[key]
        r = min(base[key].shape)
        k = min(r, int(budget * r / len(experts)))
        return base[key] + low_rank(expert[key] - base[key], k)

    return [{key: weights(key, expert) for key in base} for expert in experts]


@named_oracle(tolerance=2e-6, generic=True)
def cart_indexing(base, experts, rank, scale, tensors, qkv):
    chosen = decomposed(base, tensors)

    def weights(key, expert):
        average = sum(e[key].astype(np.float64) for e in experts) / len(experts)
        centred = expert[key] - average
        if key in chosen:
            centred = low_rank(centred, cart_k(min(centred.shape), rank))
        return average + scale * centred

    return [{key: weights(key, expert) for key in base} for expert in experts]
