"""Methods that learn on images, by autograd through open_clip's module, and Adam as its formula.

Images are drawn by the documented rule: of each task, passes in random order by a generator with
the method's seed, cut into batches.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch.func import functional_call

from oracles import image_oracle
from oracles.encoders import encoder, stacked, unstacked


def batches_of(calibration, task, batch_size, seed):
    generator = torch.Generator().manual_seed(seed)
    while True:
        order = torch.randperm(len(calibration.inputs[task]), generator=generator).tolist()
        for start in range(0, len(order), batch_size):
            yield order[start : start + batch_size]


def class_scores(module, weights, calibration, task, images, scaled_head=None):
    rows = functional_call(module, weights, (images,))
    rows = rows / rows.norm(dim=-1, keepdim=True)
    if scaled_head is None:
        scaled_head = calibration.logit_scale * calibration.heads[task]
    return rows @ scaled_head.T


def uncertainty(logits):
    p = logits.softmax(-1)
    return (-p * p.log()).sum() / len(logits)


class Adam:
    """Adam, with decoupled weight decay; a parameter without a gradient stays."""

    def __init__(self, parameters, lr, decay=0.0):
        self.parameters, self.lr, self.decay = parameters, lr, decay
        self.first = [torch.zeros_like(p) for p in parameters]
        self.second = [torch.zeros_like(p) for p in parameters]
        self.times = [0] * len(parameters)

    def step(self, loss, lr=None, largest_norm=None):
        lr = self.lr if lr is None else lr
        gradients = torch.autograd.grad(loss, self.parameters, allow_unused=True)
        if largest_norm is not None:
            norm = math.sqrt(sum(float(g.double().square().sum()) for g in gradients))
            gradients = [g * min(1.0, largest_norm / (norm + 1e-6)) for g in gradients]
        for i, (p, g) in enumerate(zip(self.parameters, gradients, strict=True)):
            if g is None:
                continue
            self.times[i] += 1
            self.first[i] = 0.9 * self.first[i] + 0.1 * g
            self.second[i] = 0.999 * self.second[i] + 0.001 * g * g
            m = self.first[i] / (1 - 0.9 ** self.times[i])
            v = self.second[i] / (1 - 0.999 ** self.times[i])
            p.data.mul_(1 - lr * self.decay).sub_(lr * m / (v.sqrt() + 1e-8))


def trained_names(base, states):
    return sorted(
        key for key in base if any(not torch.equal(s[key], base[key]) for s in states.values())
    )


def parts(name, tensor, qkv):
    """A tensor as the matrices that a method sees: whole, or query, key and value."""
    if qkv == "split" and name.endswith("in_proj_weight"):
        return {f"{name}[{x}]": part for x, part in zip("qkv", tensor.chunk(3), strict=True)}
    return {name: tensor}


def joined(pieces, name, qkv):
    if qkv == "split" and name.endswith("in_proj_weight"):
        return torch.cat([pieces[f"{name}[{x}]"] for x in "qkv"])
    return pieces[name]


def arranged(base, states, qkv=None):
    """Origin and vectors of all trained pieces, and a function that puts weights together."""
    if qkv == "fused":
        base = stacked(base, torch.cat)
        states = {task: stacked(state, torch.cat) for task, state in states.items()}
    names = trained_names(base, states)
    origin = {k: v for name in names for k, v in parts(name, base[name], qkv).items()}
    vectors = {k: [] for k in origin}
    for state in states.values():
        for name in names:
            for key, piece in parts(name, state[name], qkv).items():
                vectors[key].append(piece - origin[key])

    def whole(pieces):
        return unstacked({k: joined(pieces, k, qkv) if k in names else v for k, v in base.items()})

    return origin, vectors, whole


def certain(base, calibration, seed, batch_size, batches, steps, lr, learned, weights_now):
    """Minimise the summed entropies of all tasks, one pass through the module per batch."""
    module = encoder(base, calibration.backbone)
    streams = {t: batches_of(calibration, t, batch_size, seed) for t in calibration.inputs}
    adam = Adam(learned, lr)
    for _ in range(steps):
        weights, loss = weights_now(), 0.0
        for task, stream in streams.items():
            for _ in range(batches):
                images = calibration.inputs[task][next(stream)]
                loss = loss + uncertainty(class_scores(module, weights, calibration, task, images))
        adam.step(loss)


def learn_coefficients(base, calibration, origin, vectors, whole, *, layerwise, init, clamp, **how):
    tasks = list(calibration.inputs)
    keys = list(origin) if layerwise else ["all"]
    raw = {key: torch.full((len(tasks),), init, requires_grad=True) for key in keys}
    low, high = {"unit": (0, 1), "extended": (-0.5, 2), "none": (-math.inf, math.inf)}[clamp]

    def weights_now():
        pieces = {}
        for key, start in origin.items():
            lam = raw[key if layerwise else "all"]
            lam = torch.where((lam >= low) & (lam <= high), lam, lam.detach().clamp(low, high))
            pieces[key] = start + sum(
                c * v for c, v in zip(lam.unbind(), vectors[key], strict=True)
            )
        return whole(pieces)

    certain(base, calibration, how.pop("seed"), how.pop("batch_size"), how.pop("batches"),
            how.pop("steps"), how.pop("lr"), list(raw.values()), weights_now)  # fmt: skip
    assert not how
    return dict.fromkeys(tasks, detached(weights_now()))


def detached(weights):
    return {key: value.detach() for key, value in weights.items()}


FAST = {"lr": 0.05, "batch_size": 4}
ADAMERGING = (
    FAST | {"batches": 2},
    FAST | {"clamp": "none", "batches": 1, "init": 0.9, "lr": 0.2, "steps": 3},
    FAST | {"clamp": "unit", "batches": 1, "init": 0.9, "lr": 0.2, "steps": 3, "seed": 3},
)


@image_oracle(*ADAMERGING)
def adamerging_task(base, states, calibration, **how):
    return learn_coefficients(base, calibration, *arranged(base, states), layerwise=False, **how)


@image_oracle(*ADAMERGING)
def adamerging_layer(base, states, calibration, **how):
    return learn_coefficients(base, calibration, *arranged(base, states), layerwise=True, **how)


def trimmed_and_agreeing(vectors, density, keep):
    """Of each task, the largest entries of the whole vector that have the elected sign.

    "k+1" keeps all magnitudes equal to the (k+1)-th; "k" the first of them by name and place.
    """
    keys = list(vectors)
    tau = np.stack(
        [
            np.concatenate([vectors[key][t].numpy().ravel() for key in keys])
            for t in range(len(vectors[keys[0]]))
        ]
    )
    count = int(density * tau.shape[1])
    for row in tau:
        order = np.argsort(-np.abs(row), kind="stable")
        if keep == "k":
            row[order[count:]] = 0
        else:
            row[np.abs(row) < np.abs(row[order[count]])] = 0
    elected = np.sign(tau.sum(0))
    elected[elected == 0] = np.sign(elected.sum())
    tau[np.sign(tau) != elected] = 0
    result, start = {}, 0
    for key in keys:
        shape = vectors[key][0].shape
        end = start + math.prod(shape)
        result[key] = [torch.from_numpy(row[start:end].reshape(shape).copy()) for row in tau]
        start = end
    return result


def plus_plus(base, states, calibration, layerwise, density, keep, **how):
    origin, vectors, whole = arranged(base, states)
    vectors = trimmed_and_agreeing(vectors, density, keep)
    return learn_coefficients(base, calibration, origin, vectors, whole, layerwise=layerwise, **how)


@image_oracle(FAST | {"batches": 2}, FAST | {"density": 0.5, "keep": "k", "batches": 1})
def adamerging_task_pp(base, states, calibration, **how):
    return plus_plus(base, states, calibration, False, **how)


@image_oracle(FAST | {"batches": 2}, FAST | {"density": 0.5, "keep": "k", "batches": 1})
def adamerging_layer_pp(base, states, calibration, **how):
    return plus_plus(base, states, calibration, True, **how)


def is_block_matrix(key):
    if ".layer." in key:  # BERT: its matrices are those of attention and MLP
        return key.endswith("weight") and "LayerNorm" not in key
    return ("attn" in key or "mlp" in key) and not ("ln" in key or "bias" in key)


def around_average(origin, vectors):
    mean = {key: sum(rows) / len(rows) for key, rows in vectors.items()}
    origin = {key: start + mean[key] for key, start in origin.items()}
    return origin, {key: [row - mean[key] for row in rows] for key, rows in vectors.items()}


def decompose(matrix):
    u, s, vt = np.linalg.svd(matrix.double().numpy(), full_matrices=False)
    return (torch.from_numpy(x).float() for x in (u, s, vt))


def low_rank(matrix, rank):
    u, s, vt = decompose(matrix)
    k = max(1, int(rank * len(s))) if rank > 0 else 0
    return (u[:, :k] * s[:k]) @ vt[:k]


@image_oracle(
    FAST,
    FAST | {"clamp": "extended", "qkv": "split", "rank": 0.3, "init": 1.9},
    FAST | {"clamp": "unit", "init": 0.5, "rank": 1.0},
    tolerance=3e-5,
)
def cart_adamerging(base, states, calibration, rank, qkv, **how):
    origin, vectors, whole = arranged(base, states, qkv)
    origin, vectors = around_average(origin, vectors)
    cut = {
        key: [low_rank(row, rank) for row in rows] if is_block_matrix(key) else rows
        for key, rows in vectors.items()
    }
    return learn_coefficients(
        base, calibration, origin, cut, whole, layerwise=True, batches=1, **how
    )


def choose_components(base, states, calibration, centred, rank, init, learn, qkv, **how):
    origin, vectors, whole = arranged(base, states, qkv)
    if centred:
        origin, vectors = around_average(origin, vectors)
    tasks = range(len(states))
    lam = {key: torch.full((len(states),), init, requires_grad=True) for key in origin}
    triplets = {
        key: [tuple(decompose(row)) for row in rows]
        for key, rows in vectors.items()
        if is_block_matrix(key)
    }
    logits = {}
    for key, decomposed in triplets.items():
        full = len(decomposed[0][1])
        kept = torch.arange(full) < int(rank * full)
        logits[key] = torch.where(kept, 0.1, -0.1).repeat(len(states), 1).requires_grad_()

    def weights_now():
        pieces = {}
        for key, start in origin.items():
            pieces[key] = start
            for t in tasks:
                if key in triplets:
                    u, s, vt = triplets[key][t]
                    p = torch.sigmoid(logits[key][t] / 10)
                    strength = p * s + ((p > 0.5).float() * s - p * s).detach()
                    vector = (u * strength) @ vt
                else:
                    vector = vectors[key][t]
                pieces[key] = pieces[key] + lam[key][t] * vector
        return whole(pieces)

    learned = [] if learn == "masks" else list(lam.values())
    learned += [] if learn == "coefficients" else list(logits.values())
    certain(base, calibration, how.pop("seed"), how.pop("batch_size"), 1, how.pop("steps"),
            how.pop("lr"), learned, weights_now)  # fmt: skip
    assert not how
    solution = dict.fromkeys(states, detached(weights_now()))
    return solution, {key: values.detach() > 0 for key, values in logits.items()}


# One step decides by the sign of a gradient, and 0.15 is more than a mask's way to its threshold.
# In a second step some logits land so near to it that rounding decides: tests/images/test_adapted.
ONE_STEP = FAST | {"steps": 1, "lr": 0.15}


@image_oracle(
    ONE_STEP,
    ONE_STEP | {"learn": "masks", "rank": 0.5, "qkv": "split"},
    FAST | {"learn": "coefficients", "rank": 0.2},
    tolerance=3e-5,
)
def adarank(base, states, calibration, **how):
    return choose_components(base, states, calibration, False, **how)[0]


@image_oracle(ONE_STEP, ONE_STEP | {"rank": 0.4, "qkv": "split"}, tolerance=3e-5)
def cart_adarank(base, states, calibration, **how):
    return choose_components(base, states, calibration, True, **how)[0]


def symerge_solution(
    base, states, calibration, samples, learn, init, clamp, steps, lr, batch_size, seed
):
    """Weights, and the head of each task."""
    module = encoder(base, calibration.backbone)
    tasks = list(states)
    origin, vectors, _ = arranged(base, states)
    raw = {key: torch.full((len(tasks),), init, requires_grad=True) for key in origin}
    heads = {t: (calibration.logit_scale * calibration.heads[t]).requires_grad_() for t in tasks}
    learned = [] if learn == "heads" else list(raw.values())
    learned += [] if learn == "coefficients" else list(heads.values())
    adam = Adam(learned, lr)
    streams = {t: batches_of(calibration, t, batch_size, seed) for t in tasks}
    generator = torch.Generator().manual_seed(seed)

    def weights_now():
        weights = dict(base)
        for key in origin:
            lam = raw[key].clamp(0, 1) if clamp == "unit" else raw[key]
            weights[key] = origin[key] + sum(lam[t] * v for t, v in enumerate(vectors[key]))
        return weights

    for _ in range(steps):
        for number in torch.randperm(len(tasks), generator=generator).tolist():
            task = tasks[number]
            images = calibration.inputs[task][next(streams[task])]
            with torch.no_grad():
                teacher = class_scores(module, states[task], calibration, task, images).softmax(-1)
            logits = class_scores(module, weights_now(), calibration, task, images, heads[task])
            losses = []
            for expert, own in zip(teacher, logits, strict=True):
                label, said = int(expert.argmax()), own.softmax(-1)
                doubtful = int(said.argmax()) != label and said.max() > expert.max()
                if samples == "all" or not doubtful:
                    losses.append(-said[label].log())
            adam.step(sum(losses) / len(losses) if losses else 0 * logits.sum())
    weights = {key: value.detach() for key, value in weights_now().items() if key in origin}
    return weights, {t: head.detach() / calibration.logit_scale for t, head in heads.items()}


@image_oracle(
    FAST,
    FAST | {"samples": "all", "clamp": "none", "batch_size": 3, "seed": 1},
    FAST | {"learn": "coefficients", "init": 0.95},
)
def symerge(base, states, calibration, **how):
    weights, _ = symerge_solution(base, states, calibration, **how)
    return dict.fromkeys(states, weights)


def labelled(calibration, task, batch_size, seed):
    for index in batches_of(calibration, task, batch_size, seed):
        yield calibration.inputs[task][index], calibration.labels[task][index]


def descend(weights, names, calibration, streams, steps, lr, optimizer, falling):
    """Fine-tune on the mean loss of some tasks."""
    module = encoder(weights, calibration.backbone)
    free = {key: weights[key].clone().requires_grad_() for key in names}
    adam = Adam(list(free.values()), lr, decay=0.1)
    for step in range(steps):
        rate = lr * (1 + math.cos(math.pi * step / steps)) / 2 if falling else lr
        loss = 0.0
        for task, stream in streams.items():
            images, labels = next(stream)
            logits = class_scores(module, weights | free, calibration, task, images)
            loss = loss - logits.log_softmax(-1)[range(len(labels)), labels].mean()
        loss = loss / len(streams)
        if optimizer == "adamw":
            adam.step(loss, rate, largest_norm=1.0)
        else:
            for key, g in zip(free, torch.autograd.grad(loss, list(free.values())), strict=True):
                free[key].data -= rate * g
    return {key: value.detach() for key, value in free.items()}


def features_of(weights, calibration, states):
    """Features of every task's images.

    Not the weights: keys' biases do not change what attention computes, so that their gradient is
    rounding noise, of which Adam's first step takes the sign.
    """
    module = encoder(weights, calibration.backbone)
    with torch.no_grad():
        return {task: module(calibration.inputs[task]) for task in states}


@image_oracle(
    FAST | {"lr": 1e-3},
    FAST | {"optimizer": "sgd", "lr": 0.01},
    tolerance=1e-4,
)
def multitask(base, states, calibration, steps, lr, batch_size, optimizer, seed):
    names = trained_names(base, states)
    streams = {t: labelled(calibration, t, batch_size, seed) for t in states}
    tuned = descend(base, names, calibration, streams, steps, lr, optimizer, True)
    return features_of(base | tuned, calibration, states)


@image_oracle(
    FAST | {"lr": 1e-3},
    FAST | {"start": "average", "optimizer": "sgd", "scale": 0.7, "lr": 0.01},
    tolerance=1e-4,
)
def atm(base, states, calibration, start, rounds, steps, scale, lr, batch_size, optimizer, seed):
    names = trained_names(base, states)
    weights = dict(base)
    if start == "average":
        for key in names:
            weights[key] = sum(state[key] for state in states.values()) / len(states)
    streams = {t: labelled(calibration, t, batch_size, seed) for t in states}
    for _ in range(rounds):
        tuned = [
            descend(weights, names, calibration, {t: stream}, steps, lr, optimizer, False)
            for t, stream in streams.items()
        ]
        for key in names:
            step = sum(one[key] - weights[key] for one in tuned) / len(tuned)
            weights[key] = weights[key] + scale * step
    return features_of(weights, calibration, states)
