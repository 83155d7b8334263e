"""EMR, T-Switch, FlexSwitch, quantisation, ImPart: plain loops, sorts, and gradients by hand."""

from __future__ import annotations

import math
import zlib

import numpy as np
import torch

from oracles import image_oracle, named_oracle
from oracles.encoders import encoder


def add_up(rows):
    """Sum over tasks, one after the other."""
    total = rows[0].copy()
    for row in rows[1:]:
        total = total + row
    return total


def vectors(base, experts, key):
    return [np.asarray(expert[key] - base[key]) for expert in experts]


def moved(base, own):
    """State dicts of base plus each task's vectors, in the type of the base's arrays."""
    return [
        {key: base[key] + np.asarray(row[key]).astype(base[key].dtype) for key in base}
        for row in own
    ]


# ---------------------------------------------------------------------- EMR


@named_oracle(tolerance=1e-6)
def emr(base, experts, rescaler, cancelled):
    num_tasks = len(experts)
    own, chosen = [0.0] * num_tasks, [0.0] * num_tasks
    parts = [{} for _ in experts]
    for key in base:
        tau = vectors(base, experts, key)
        elected = np.zeros(base[key].shape)
        for i in np.ndindex(base[key].shape):
            sign = np.sign(add_up(tau)[i])
            if sign == 0 and cancelled == "negative":
                sign = -1
            elected[i] = sign * max([abs(row[i]) for row in tau if np.sign(row[i]) == sign] or [0])
        weight = 1 if rescaler == "paper" else 1 / elected.size
        for t, row in enumerate(tau):
            parts[t][key] = np.where(row * elected > 0, elected, 0)
            own[t] += weight * np.abs(row.astype(np.float64)).sum()
            chosen[t] += weight * np.abs(parts[t][key]).sum()
    factors = [a / b if b else 0.0 for a, b in zip(own, chosen, strict=True)]
    if rescaler == "none":
        factors = [1.0] * num_tasks
    return moved(
        base,
        [{k: f * v for k, v in part.items()} for f, part in zip(factors, parts, strict=True)],
    )


# ---------------------------------------------------------------------- T-Switch


def survivors(values, drop, rule):
    """Places that stay on, for the entries of one sign given as (place, magnitude)."""
    count = int(len(values) * (1 - drop))
    if rule == "released" and count == 0:
        return [place for place, _ in values]
    ranked = sorted(values, key=lambda item: (-item[1], item[0]))
    chosen = ranked[:count]
    if rule == "released":
        chosen += [item for item in ranked[count:] if item[1] >= ranked[count - 1][1]]
    return [place for place, _ in chosen]


@named_oracle(tolerance=1e-6)
def t_switch(base, experts, drop, knob, rule, group_size):
    results = []
    for expert in experts:
        signs, squares, kept = {}, {}, {}
        for key in base:
            tau = np.ravel(expert[key] - base[key]).astype(np.float64)
            on = []
            for side in (1, -1):
                values = [(i, abs(x)) for i, x in enumerate(tau) if np.sign(x) == side]
                on += survivors(values, drop, rule)
            signs[key] = np.zeros(len(tau))
            signs[key][on] = np.sign(tau[on])
            squares[key], kept[key] = sum(tau[on] ** 2), len(on)
        if knob == "task":
            squares = dict.fromkeys(base, sum(squares.values()))
            kept = dict.fromkeys(base, sum(kept.values()))
        own = {}
        for key in base:
            knob_value = math.sqrt(squares[key] / kept[key]) if kept[key] else 0.0
            own[key] = (knob_value * signs[key]).reshape(base[key].shape)
        results.append(own)
    return moved(base, results)


# ---------------------------------------------------------------------- TVQ, RTVQ


def rounded(values, bits):
    """Values on the uniform grid over their range, in their own type."""
    dtype = values.dtype.type
    numbers = [float(x) for x in np.ravel(values)]
    low, high = min(numbers), max(numbers)
    wanted = (high - low) / (2**bits - 1) if high > low else abs(low)
    step = dtype(wanted)
    unit = float(step) or 1.0
    first = math.floor(low / unit + 0.5)
    codes = [min(max(math.floor(x / unit + 0.5) - first, 0), 2**bits - 1) for x in numbers]
    points = [(dtype(code) + dtype(first)) * step for code in codes]
    return np.array(points, dtype=values.dtype).reshape(values.shape)


@named_oracle
def tvq(base, experts, bits, target):
    if target == "expert":
        return [{key: rounded(expert[key], bits) for key in base} for expert in experts]
    tau = [{key: np.asarray(expert[key] - base[key]) for key in base} for expert in experts]
    return moved(base, [{key: rounded(row[key], bits) for key in base} for row in tau])


@named_oracle
def rtvq(base, experts, bits, base_bits, error_correction):
    results = [{} for _ in experts]
    for key in base:
        tau = vectors(base, experts, key)
        mean = np.asarray(add_up(tau) / base[key].dtype.type(len(experts)))
        shared = rounded(mean, base_bits)
        origin = shared if error_correction else mean
        for result, row in zip(results, tau, strict=True):
            result[key] = rounded(np.asarray(row - origin), bits) + shared
    return moved(base, results)


# ---------------------------------------------------------------------- ImPart


def rates_of(singular, sparsity, prune, exponent):
    size = len(singular)
    left = size - int(prune * size)
    share = (size - left) / size
    gamma = max(0.0, (sparsity - share) / (1 - share))
    rates = [gamma * (1 - (s / singular[0]) ** exponent) for s in singular[:left]]
    last = left - 1
    while sum(rates) / left < gamma and last > 0:
        rates[last] = 1.0
        last -= 1
    return rates + [1.0] * (size - left)


@named_oracle(tolerance=1e-4, generic=True)
def impart(base, experts, ratio, prune, exponent, seed):
    results = []
    for number, expert in enumerate(experts):
        result = {}
        for key in base:
            shape = base[key].shape
            rows = shape[0] if shape else 1
            tau = (expert[key] - base[key]).reshape(rows, -1).astype(np.float64)
            if min(tau.shape) == 1:
                result[key] = expert[key] - base[key]
                continue
            left, singular, right = np.linalg.svd(tau, full_matrices=False)
            own = np.zeros_like(tau)
            if singular[0] > 0:
                m, k = tau.shape
                sparsity = 1 - m * k / ((m + k) * min(m, k) * ratio)
                rates = rates_of(singular, sparsity, prune, exponent)
                names = [zlib.crc32(name.encode()) for name in (f"task{number}", key)]
                rng = np.random.default_rng([seed, *names])
                chance = rng.random((m + k, sum(rate < 1 for rate in rates)))
                for j, rate in enumerate(rate for rate in rates if rate < 1):
                    u = np.where(chance[:m, j] >= rate, left[:, j], 0) / (1 - rate)
                    v = np.where(chance[m:, j] >= rate, right[j], 0) / (1 - rate)
                    own += singular[j] * np.outer(u, v)
            result[key] = own.reshape(shape)
        results.append(result)
    return moved(base, results)


# ---------------------------------------------------------------------- FlexSwitch


def opened(delta, threshold, bits):
    """Values of all entries if they are kept, and which are; the norm of those is that of delta."""
    size = np.sqrt((delta**2).mean())
    low = max(threshold * size, 0)
    magnitude = np.abs(delta)
    kept = magnitude > low
    cells = 2 ** (bits - 1)
    width = (magnitude.max() - low) / cells
    cell = np.clip(np.floor((magnitude - low) / width), 0, cells - 1)
    value = low + (cell + 0.5) * width
    norm = np.sqrt((magnitude[kept] ** 2).sum() / (value[kept] ** 2).sum())
    return np.sign(delta) * value * norm, kept


def adam(value, gradient, state, step, lr):
    """One step of Adam; `state` holds the two moments."""
    state[0] = 0.9 * state[0] + 0.1 * gradient
    state[1] = 0.999 * state[1] + 0.001 * gradient**2
    mean = state[0] / (1 - 0.9**step)
    square = state[1] / (1 - 0.999**step)
    return value - lr * mean / (np.sqrt(square) + 1e-8)


@image_oracle(
    {}, {"bits": 1, "lr": 0.3}, {"sparsity": 20.0, "drop": 0.1, "bits": 3}, tolerance=2e-4
)
def flex_switch(base, experts, calibration, bits, drop, sparsity, steps, lr, batch_size, seed):
    features = {}
    for task, expert in experts.items():
        images, head = calibration.inputs[task], calibration.heads[task]

        def log_odds(module, rows, images=images, head=head):
            out = torch.nn.functional.normalize(module(images[rows]), dim=-1) @ head.T
            return torch.log_softmax(calibration.logit_scale * out, 1)

        everything = torch.arange(len(images))
        with torch.no_grad():
            target = log_odds(encoder(expert, calibration.backbone), everything)
        delta = {
            key: (expert[key] - value).double().numpy()
            for key, value in base.items()
            if not torch.equal(expert[key], value)
        }
        size = {key: np.sqrt((value**2).mean()) for key, value in delta.items()}
        total = sum(value.size for value in delta.values())
        thresholds, scales, memory = {}, {}, {}
        for key, value in delta.items():
            ranked = np.sort(np.abs(value[value != 0]))
            count = int(len(ranked) * drop)
            middle = ranked[count - 1 : count + 1].mean() if count else 0.0
            thresholds[key] = middle / size[key]
            scales[key] = 1.0
            memory[key] = [[0.0, 0.0], [0.0, 0.0]]
        batches = calibration.batches(task, batch_size, seed)

        def switched(delta=delta, thresholds=thresholds, scales=scales):
            weights = dict(base)
            for key in delta:
                value, kept = opened(delta[key], thresholds[key], bits)
                moved = torch.from_numpy(np.asarray(scales[key] * value * kept)).float()
                weights[key] = base[key] + moved
            return encoder(weights, calibration.backbone)

        for step in range(1, steps + 1):
            rows = next(batches)
            module = switched().requires_grad_()
            wanted = target[rows]
            loss = (wanted.exp() * (wanted - log_odds(module, rows))).sum() / len(rows)
            names = dict(module.named_parameters())
            slopes = torch.autograd.grad(loss, [names[key] for key in delta])
            for key, slope in zip(delta, slopes, strict=True):
                slope = slope.double().numpy()
                value, kept = opened(delta[key], thresholds[key], bits)
                gate = 1 / (1 + np.exp(-10 * (np.abs(delta[key]) / size[key] - thresholds[key])))
                slant = -10 * gate * (1 - gate)  # of the gate, in the threshold
                for_threshold = (slope * scales[key] * value * slant).sum()
                for_threshold += sparsity / total * slant.sum()
                for_scale = (slope * value * kept).sum()
                thresholds[key] = adam(thresholds[key], for_threshold, memory[key][0], step, lr)
                scales[key] = adam(scales[key], for_scale, memory[key][1], step, lr)
        with torch.no_grad():
            features[task] = switched()(images)
    return features
