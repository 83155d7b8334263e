"""Fisher, RegMean, MaTS, CAT, LOT, ESM, Sens-Merging: a tower spelled out, and NumPy.

Statistics are taken in float64 from a forward pass written out here, or from open_clip's module.
"""

from __future__ import annotations

import json
import re

import numpy as np
import torch
from torch.nn import functional as F

from mergebook.towers import clip
from mergebook.towers.minilm import minilm_folder
from oracles import image_oracle
from oracles.encoders import WORDS, encoder, stacked, unstacked

UNSEEN = 1e-8  # share of the largest eigenvalue of E[x x^T]: 1e-4 of the largest singular value


# ---------------------------------------------------------------- the tower, spelled out


def double(state):
    return {key: value.double() for key, value in state.items()}


def attend(w, name, x, heads, seen):
    y = x @ w[name + "in_proj_weight"].T + w[name + "in_proj_bias"]
    seen[name + "in_proj_weight"] = (x, y)
    parts = []
    for q, k, v in zip(*(part.chunk(heads, -1) for part in y.chunk(3, -1)), strict=True):
        scores = torch.softmax(q @ k.transpose(1, 2) / q.shape[-1] ** 0.5, -1)
        parts.append(scores @ v)
    x = torch.cat(parts, -1)
    y = x @ w[name + "out_proj.weight"].T + w[name + "out_proj.bias"]
    seen[name + "out_proj.weight"] = (x, y)
    return y


def norm(w, name, x, seen):
    x = (x - x.mean(-1, keepdim=True)) / (x.var(-1, unbiased=False, keepdim=True) + 1e-5).sqrt()
    seen[name + "weight"] = (x, None)
    return x * w[name + "weight"] + w[name + "bias"]


def embed(w, images, seen):
    kernel = w["conv1.weight"]
    p = kernel.shape[-1]
    tiles = images.unfold(2, p, p).unfold(3, p, p)  # [N, 3, h, w, p, p]
    patches = tiles.permute(0, 2, 3, 1, 4, 5).flatten(3).flatten(1, 2)
    seen["conv1.weight"] = (patches, None)
    tokens = patches @ kernel.reshape(len(kernel), -1).T
    token = w["class_embedding"].expand(len(images), 1, -1)
    tokens = torch.cat([token, tokens], 1) + w["positional_embedding"]
    return norm(w, "ln_pre.", tokens, seen)


def block(w, number, x, heads, seen):
    name = f"transformer.resblocks.{number}."
    x = x + attend(w, name + "attn.", norm(w, name + "ln_1.", x, seen), heads, seen)
    inner = norm(w, name + "ln_2.", x, seen)
    hidden = inner @ w[name + "mlp.c_fc.weight"].T + w[name + "mlp.c_fc.bias"]
    seen[name + "mlp.c_fc.weight"] = (inner, hidden)
    active = F.gelu(hidden)
    out = active @ w[name + "mlp.c_proj.weight"].T + w[name + "mlp.c_proj.bias"]
    seen[name + "mlp.c_proj.weight"] = (active, out)
    return x + out


def pool(w, x, seen):
    token = norm(w, "ln_post.", x[:, 0], seen)
    features = token @ w["proj"]
    seen["proj"] = (token, features)
    return features


# BERT: texts are a list, each without padding, so that no mask is needed.


def bert_norm(w, name, x, seen):
    x = (x - x.mean(-1, keepdim=True)) / (x.var(-1, unbiased=False, keepdim=True) + 1e-12).sqrt()
    seen.setdefault(name + "weight", ([], []))[0].append(x)
    return x * w[name + "weight"] + w[name + "bias"]


def bert_map(w, name, x, seen):
    y = x @ w[name + "weight"].T + w[name + "bias"]
    inputs, outputs = seen.setdefault(name + "weight", ([], []))
    inputs.append(x)
    outputs.append(y)
    return y


def bert_embed(w, texts, seen):
    found, name = [], "embeddings."
    for text in texts:
        tokens = text[text != 0].long()
        x = w[name + "word_embeddings.weight"][tokens]
        x = x + w[name + "position_embeddings.weight"][: len(tokens)]
        x = x + w[name + "token_type_embeddings.weight"][0]
        found.append(bert_norm(w, name + "LayerNorm.", x, seen))
    return found


def bert_block(w, number, texts, heads, seen):
    name, found = f"encoder.layer.{number}.", []
    for x in texts:
        three = (bert_map(w, f"{name}attention.self.{p}.", x, seen) for p in QKV)
        parts = []
        for q, k, v in zip(*(part.chunk(heads, -1) for part in three), strict=True):
            parts.append(torch.softmax(q @ k.T / q.shape[-1] ** 0.5, -1) @ v)
        out = bert_map(w, name + "attention.output.dense.", torch.cat(parts, -1), seen)
        x = bert_norm(w, name + "attention.output.LayerNorm.", x + out, seen)
        hidden = F.gelu(bert_map(w, name + "intermediate.dense.", x, seen))
        out = bert_map(w, name + "output.dense.", hidden, seen)
        found.append(bert_norm(w, name + "output.LayerNorm.", x + out, seen))
    return found


def bert_pool(w, texts, seen):
    return torch.stack([x.mean(0) for x in texts])


QKV = ("query", "key", "value")


def stages(backbone):
    if backbone == "minilm":
        config = json.loads((minilm_folder() / "config.json").read_text())
        heads, depth = config["num_attention_heads"], config["num_hidden_layers"]
        inner = [lambda w, x, s, i=i: bert_block(w, i, x, heads, s) for i in range(depth)]
        return [bert_embed, *inner, bert_pool]
    blocks = clip.visual_template(backbone).transformer.resblocks
    heads = blocks[0].attn.num_heads
    inner = [lambda w, x, seen, i=i: block(w, i, x, heads, seen) for i in range(len(blocks))]
    return [embed, *inner, pool]


def forward(backbone, w, images):
    """Features, and name of each map -> (its inputs, its outputs)."""
    seen, x = {}, numbers(images)
    for stage in stages(backbone):
        x = stage(w, x, seen)
    return x, seen


def is_norm(name):
    return "ln_" in name or "LayerNorm" in name


def is_linear(name):
    return name == "proj" or not (is_norm(name) or name == "conv1.weight")


def numbers(inputs):
    """Images in double precision; texts as they are."""
    return inputs.double() if inputs.is_floating_point() else inputs


def rows(x):
    if isinstance(x, list):
        return np.concatenate([rows(part) for part in x])
    return x.detach().reshape(-1, x.shape[-1]).numpy()


def log_probabilities(calibration, task, features):
    head = calibration.heads[task].double()
    scores = features / features.norm(dim=-1, keepdim=True) @ head.T
    return torch.log_softmax(calibration.logit_scale * scores, -1)


# ---------------------------------------------------------------- weights as matrices


def as_matrix(key, value):
    """A weight as [out, in]."""
    array = value.double().numpy()
    return array.T if key == "proj" else array.reshape(len(array), -1)


def as_weight(key, matrix, like):
    return torch.from_numpy((matrix.T if key == "proj" else matrix).reshape(like.shape).copy())


class World:
    """Base, experts and their statistics on the first so many images.

    With "fused", query, key and value of BERT, which read the same inputs, are one matrix.
    """

    def __init__(self, base, experts, calibration, num_images, qkv=None):
        self.base, self.calibration = double(base), calibration
        self.experts = {task: double(state) for task, state in experts.items()}
        self.tasks = list(experts)
        self.images = {t: numbers(calibration.inputs[t][:num_images]) for t in self.tasks}
        runs = {
            t: forward(calibration.backbone, self.experts[t], self.images[t])[1] for t in experts
        }
        self.inputs = {t: {k: rows(x) for k, (x, _) in run.items()} for t, run in runs.items()}
        if qkv == "fused":
            self.base = stacked(self.base, torch.cat)
            self.experts = {t: stacked(state, torch.cat) for t, state in self.experts.items()}
            self.inputs = {t: stacked(seen, lambda x: x[0]) for t, seen in self.inputs.items()}
        self.maps = list(next(iter(self.inputs.values())))
        self.linear = [key for key in self.maps if is_linear(key)]

    def delta(self, task, key):
        return as_matrix(key, self.experts[task][key]) - as_matrix(key, self.base[key])

    def deltas(self, key):
        return [self.delta(task, key) for task in self.tasks]

    def moment(self, task, key):
        x = self.inputs[task][key]
        return x.T @ x / len(x)

    def average(self):
        """Mean task vector of every tensor."""
        return {
            key: sum(self.experts[t][key] - value for t in self.tasks) / len(self.tasks)
            for key, value in self.base.items()
        }

    def result(self, vectors):
        merged = unstacked({key: self.base[key] + vectors[key] for key in self.base})
        return {task: merged for task in self.tasks}


def thirds(key, split):
    """Rows of a map that count as one matrix: all, or those of query, key and value."""
    if split and key.endswith("in_proj_weight"):
        return lambda matrix: np.split(matrix, 3)
    return lambda matrix: [matrix]


# ---------------------------------------------------------------- Fisher


@image_oracle(
    {},
    {"estimate": "batched", "batch_size": 4},
    {"normalise": False, "floor": 1e-4, "num_images": 2},
    tolerance=1e-4,
)
def fisher(base, experts, calibration, num_images, estimate, batch_size, normalise, floor):
    trained = [k for k in base if any(not torch.equal(base[k], e[k]) for e in experts.values())]
    if WORDS in base:  # embeddings and the pooler are frozen
        base = {key: base[key] for key in trained}
    moved = {key: 0.0 for key in base}
    mass = {key: 0.0 for key in base}
    for task, state in experts.items():
        module = encoder(state, calibration.backbone).double()
        parameters = {k: v for k, v in module.named_parameters() if k in base}
        information = {key: torch.zeros_like(value) for key, value in parameters.items()}
        images = numbers(calibration.inputs[task][:num_images])

        def add(score, module=module, parameters=parameters, information=information, weight=1.0):
            gradients = torch.autograd.grad(score, list(parameters.values()), retain_graph=True)
            for key, gradient in zip(parameters, gradients, strict=True):
                information[key] += weight * gradient.detach() ** 2

        if estimate == "exact":
            for image in images:
                log = log_probabilities(calibration, task, module(image[None]))[0]
                for score in log:
                    add(score, weight=score.detach().exp())
        else:
            for start in range(0, len(images), batch_size):
                batch = images[start : start + batch_size]
                log = log_probabilities(calibration, task, module(batch))
                add((log.detach().exp().sqrt() * log).sum())
        information = {key: value / len(images) for key, value in information.items()}
        weight = 1.0
        if normalise:
            flat = torch.cat([information[key].flatten() for key in trained])
            weight = 1 / (flat.norm() + floor)
        for key in base:
            importance = weight * (information[key] + floor)
            moved[key] = moved[key] + importance * state[key].double()
            mass[key] = mass[key] + importance
    merged = {key: moved[key] / mass[key] for key in base}
    return {task: merged for task in experts}


# ---------------------------------------------------------------- least squares


def damped(moment, factor):
    return factor * moment + (1 - factor) * np.diag(np.diag(moment))


def nearest_to_average(xs, deltas, factor):
    """Task vector that fits all maps best; of all that do, the one nearest to the mean."""
    mean = sum(deltas) / len(deltas)
    if factor == 1.0:
        left = np.concatenate([x / len(x) ** 0.5 for x in xs])
        shifts = zip(xs, deltas, strict=True)
        right = np.concatenate([x @ (delta - mean).T / len(x) ** 0.5 for x, delta in shifts])
        return mean + np.linalg.lstsq(left, right, rcond=UNSEEN**0.5)[0].T
    moments = [damped(x.T @ x / len(x), factor) for x in xs]
    pull = sum((delta - mean) @ g for delta, g in zip(deltas, moments, strict=True))
    return mean + pull @ np.linalg.pinv(sum(moments), rcond=UNSEEN, hermitian=True)


@image_oracle({}, {"off_diagonal": 1.0}, {"off_diagonal": 0.0, "num_images": 2}, tolerance=1e-4)
def regmean(base, experts, calibration, num_images, off_diagonal):
    world = World(base, experts, calibration, num_images)
    vectors = world.average()
    for key in world.linear:
        xs = [world.inputs[task][key] for task in world.tasks]
        matrix = nearest_to_average(xs, world.deltas(key), off_diagonal)
        vectors[key] = as_weight(key, matrix, base[key])
    return world.result(vectors)


@image_oracle({}, {"off_diagonal": 0.5, "num_images": 3}, tolerance=1e-4)
def regmean_pp(base, experts, calibration, num_images, off_diagonal):
    world = World(base, experts, calibration, num_images)
    vectors = world.average()
    merged = {key: world.base[key] + vectors[key] for key in base}
    tokens = dict(world.images)
    for stage in stages(calibration.backbone):
        seen = {task: {} for task in world.tasks}
        for task in world.tasks:
            stage(world.experts[task], tokens[task], seen[task])
        for key in filter(is_linear, seen[world.tasks[0]]):
            xs = [rows(seen[task][key][0]) for task in world.tasks]
            matrix = nearest_to_average(xs, world.deltas(key), off_diagonal)
            vectors[key] = as_weight(key, matrix, base[key])
            merged[key] = world.base[key] + vectors[key]
        tokens = {task: stage(merged, x, {}) for task, x in tokens.items()}
    return world.result(vectors)


@image_oracle({}, {"scale": 0.5, "num_images": 2}, tolerance=1e-3)
def lot(base, experts, calibration, scale, num_images):
    world = World(base, experts, calibration, num_images)
    vectors = world.average()
    for key in world.maps:
        xs = [world.inputs[task][key] for task in world.tasks]
        if is_norm(key):
            weights = [(x**2).mean(0) for x in xs]
            own = [(world.experts[t][key] - world.base[key]).numpy() for t in world.tasks]
            vector = sum(w * d for w, d in zip(weights, own, strict=True)) / sum(weights)
            vectors[key] = torch.from_numpy(vector)
            continue
        left = np.concatenate([x / len(x) ** 0.5 for x in xs])
        pairs = zip(xs, world.deltas(key), strict=True)
        right = np.concatenate([x @ delta.T / len(x) ** 0.5 for x, delta in pairs])
        matrix = np.linalg.lstsq(left, right, rcond=UNSEEN**0.5)[0].T
        vectors[key] = as_weight(key, matrix, base[key])
    return world.result({key: scale * value for key, value in vectors.items()})


# ---------------------------------------------------------------- MaTS


def krylov(operator, right, start, steps):
    """What conjugate gradients find: the best point of the Krylov space, which is built here."""
    residual = (right - operator(start)).ravel()
    basis = []
    vector = residual
    for _ in range(steps):
        for other in [*basis, *basis]:  # twice is enough
            vector = vector - (other @ vector) * other
        basis.append(vector / np.linalg.norm(vector))
        vector = operator(basis[-1].reshape(right.shape)).ravel()
    if not basis:
        return start
    space = np.array(basis)
    images = np.array([operator(row.reshape(right.shape)).ravel() for row in space])
    coordinates = np.linalg.solve(space @ images.T, space @ residual)
    return start + (coordinates @ space).reshape(right.shape)


def output_gradients(world, task):
    """E over tokens of sum_c p_c g_c g_c^T at the outputs of every linear map."""
    w = {key: value.clone().requires_grad_() for key, value in world.experts[task].items()}
    total = {}
    for image in world.images[task]:
        features, seen = forward(world.calibration.backbone, w, image[None])
        log = log_probabilities(world.calibration, task, features)[0]
        outputs = [seen[key][1] for key in world.linear]
        outputs = [own[0] if isinstance(own, list) else own for own in outputs]
        for score in log:
            gradients = torch.autograd.grad(score, outputs, retain_graph=True)
            for key, gradient in zip(world.linear, gradients, strict=True):
                g = rows(gradient)
                moment = score.exp().item() * g.T @ g / len(g) / len(world.images[task])
                total[key] = total.get(key, 0) + moment
    return total


@image_oracle(
    {"iterations": 4},
    {"iterations": 3, "start": "average", "off_diagonal": 0.9, "num_images": 2},
    {"iterations": 4, "objective": "fisher", "start_scale": 0.5},
    {"iterations": 3, "objective": "fisher", "start": "base", "qkv": "fused", "num_images": 2},
    {"iterations": 0, "start": "task_arithmetic", "start_scale": 0.2},
    tolerance=1e-4,
)
def mats(
    base, experts, calibration, objective, iterations, start, start_scale, num_images,
    off_diagonal, qkv,
):  # fmt: skip
    world = World(base, experts, calibration, num_images, qkv)
    vectors = world.average()
    gradients = {}
    if objective == "fisher":
        gradients = {task: output_gradients(world, task) for task in world.tasks}
    factor = {"average": 1 / len(experts), "task_arithmetic": start_scale, "base": 0}[start]
    for key in world.linear:
        parts = thirds(key, qkv == "split")
        inputs = [damped(world.moment(t, key), off_diagonal) for t in world.tasks]
        merged = []
        for number, deltas in enumerate(
            zip(*(parts(delta) for delta in world.deltas(key)), strict=True)
        ):
            outputs = [np.eye(len(deltas[0]))] * len(inputs)
            if objective == "fisher":
                blocks = [gradients[task][key] for task in world.tasks]
                size = len(deltas[0])
                here = slice(number * size, (number + 1) * size)
                outputs = [damped(h[here, here], off_diagonal) for h in blocks]

            def operator(x, inputs=inputs, outputs=outputs):
                return sum(h @ x @ g for h, g in zip(outputs, inputs, strict=True))

            terms = zip(outputs, deltas, inputs, strict=True)
            right = sum(h @ delta @ g for h, delta, g in terms)
            merged.append(krylov(operator, right, factor * sum(deltas), iterations))
        vectors[key] = as_weight(key, np.concatenate(merged), world.base[key])
    return world.result(vectors)


# ---------------------------------------------------------------- CAT


def trim(deltas, remove, rescale):
    trimmed = [delta.copy() for delta in deltas]
    for protected in range(len(deltas)):
        for other in range(len(deltas)):
            if other == protected:
                continue
            rest = remove(protected, trimmed[other])
            if rescale and np.linalg.norm(rest) > 0:
                rest = rest * np.linalg.norm(trimmed[other]) / np.linalg.norm(rest)
            trimmed[other] = rest
    return sum(trimmed)


def without_top(scores, share):
    def remove(protected, vector):
        vector = vector.copy()
        order = np.argsort(-scores[protected])[: int(share * len(vector))]
        for d in order:
            if scores[protected][d] > 0:
                vector[d] = 0
        return vector

    return remove


@image_oracle(
    {},
    {"rank": 0.2, "trade_off": 0.5, "rescale": False, "trim_scales": 0.1, "trim_shifts": 0.3},
    {"qkv": "fused", "rank": 0.1, "num_images": 3, "trade_off": 2.0, "scale": 1.0},
    tolerance=1e-4,
)
def cat(
    base, experts, calibration, scale, rank, trade_off, trim_scales, trim_shifts, rescale,
    num_images, qkv,
):  # fmt: skip
    world = World(base, experts, calibration, num_images, qkv)
    count = len(experts)
    vectors = {key: count * value for key, value in world.average().items()}
    for key in world.linear:
        parts = thirds(key, qkv == "split")
        merged = []
        for deltas in zip(*(parts(delta) for delta in world.deltas(key)), strict=True):
            bases = []
            for i, protected in enumerate(world.tasks):
                conflict = np.zeros((len(deltas[0]), len(deltas[0])))
                for j, other in enumerate(world.tasks):
                    if j != i:
                        difference = world.moment(protected, key)
                        difference = difference - trade_off * world.moment(other, key)
                        conflict += deltas[j] @ difference @ deltas[j].T
                values, directions = np.linalg.eigh(conflict)
                order = np.argsort(-values)[: int(rank * len(values))]
                least = UNSEEN * abs(values).max()
                bases.append(directions[:, [k for k in order if values[k] > least]])
            merged.append(trim(deltas, lambda i, m, b=bases: m - b[i] @ (b[i].T @ m), rescale))
        vectors[key] = as_weight(key, np.concatenate(merged), world.base[key])
    for key, value in world.base.items():
        if value.ndim != 1:
            continue
        own = [(world.experts[t][key] - world.base[key]).numpy() for t in world.tasks]
        scores = []
        is_scale = is_norm(key) and key.endswith("weight")
        for i, protected in enumerate(world.tasks):
            score = np.zeros(len(value))
            for j, other in enumerate(world.tasks):
                if j != i and is_scale:
                    mine = (world.inputs[protected][key] ** 2).mean(0)
                    theirs = (world.inputs[other][key] ** 2).mean(0)
                    score += (mine - trade_off * theirs) * own[j] ** 2
                elif j != i:
                    score += own[j] ** 2
            scores.append(score)
        share = trim_scales if is_scale else trim_shifts
        vector = trim(own, without_top(scores, share), rescale and is_scale)
        vectors[key] = torch.from_numpy(vector)
    return world.result({key: scale * value for key, value in vectors.items()})


# ---------------------------------------------------------------- ESM


def decompose(matrix):
    """Singular triplets, as far as the singular values count."""
    u, s, vt = np.linalg.svd(matrix, full_matrices=False)
    kept = s > 1e-6 * s.max(initial=0)
    return u[:, kept], s, s[kept], vt[kept]


def whiten(matrix):
    u, every, _, vt = decompose(matrix)
    return u @ vt, every.mean()


def squared_share(norms):
    norms = np.array(norms)
    return (norms / norms.mean()) ** 2


def tsv(deltas):
    number = min(deltas[0].shape) // len(deltas)
    lefts, values, rights = [], [], []
    for delta in deltas:
        u, s, vt = np.linalg.svd(delta, full_matrices=False)
        lefts.append(u[:, :number])
        values.append(s[:number])
        rights.append(vt[:number])
    left, right = whiten(np.concatenate(lefts, 1))[0], whiten(np.concatenate(rights))[0]
    return left * np.concatenate(values) @ right


@image_oracle(
    {},
    {"polarise": False, "num_images": 2, "scale": 1.0},
    {"variant": "released", "scale": 0.8},
    {"variant": "released", "polarise": False, "qkv": "split"},
    {"qkv": "split"},
    tolerance=1e-3,
)
def esm(base, experts, calibration, scale, variant, polarise, num_images, qkv):
    world = World(base, experts, calibration, num_images, qkv)
    vectors = world.average()
    released = variant == "released"
    maps = {}
    for key in world.linear:
        parts = thirds(key, qkv == "split")
        for number, deltas in enumerate(
            zip(*(parts(delta) for delta in world.deltas(key)), strict=True)
        ):
            inner = ("in_proj", "mlp", "self", "intermediate")
            inner = any(part in key for part in inner) or key.endswith(".output.dense.weight")
            if released and (not inner or "attention.output" in key):
                maps[key, number] = tsv(deltas)
                continue
            count = len(deltas[0]) // len(deltas)
            bases, coordinates, sizes = [], [], []
            for task, delta in zip(world.tasks, deltas, strict=True):
                shift = world.inputs[task][key] @ delta.T
                _, s, vt = np.linalg.svd(shift, full_matrices=False)
                energy = s**2
                there = int((energy > UNSEEN * energy[0]).sum())
                p, energy = vt[: min(count, there)].T, energy[: min(count, there)]
                a = p.T @ delta
                sizes.append(np.linalg.norm(delta if released else a))
                if released:
                    padded = np.concatenate([energy, np.zeros(count - len(energy))])
                    weight = (energy / padded.mean()) ** 0.15
                    weight = weight / (weight.sum() / count)
                    p, a = p * weight, weight[:, None] * a
                bases.append(p)
                coordinates.append(a)
            if polarise:
                factors = squared_share(sizes)
                coordinates = [f * a for f, a in zip(factors, coordinates, strict=True)]
            joint = np.concatenate(coordinates)
            if polarise:
                joint = joint * squared_share(np.linalg.norm(joint, axis=0))
            basis = np.concatenate(bases, 1)
            # Directions that are left out count as singular values of zero.
            room = min(count * len(deltas), len(basis)), min(count * len(deltas), joint.shape[1])
            left, right = decompose(basis), decompose(joint)
            sizes = left[1].sum() / room[0], right[1].sum() / room[1]
            merged = left[0] @ left[3] @ right[0] @ right[3] * sizes[1]
            maps[key, number] = merged * (2 * sizes[0] if released else 1)
    if polarise:
        kinds = {}
        for key, number in maps:
            kinds.setdefault((re.sub(r"\.\d+\.", ".", key), number), []).append((key, number))
        for members in kinds.values():
            factors = squared_share([np.linalg.norm(maps[m]) for m in members])
            for member, factor in zip(members, factors, strict=True):
                maps[member] = factor * maps[member]
    for key in world.linear:
        whole = [maps[k, n] for k, n in sorted(maps) if k == key]
        vectors[key] = as_weight(key, np.concatenate(whole), world.base[key])
    name = "positional_embedding"
    if released and name in world.base:
        vectors[name] = as_weight(name, tsv(world.deltas(name)), world.base[name])
    return world.result({key: scale * value for key, value in vectors.items()})


# ---------------------------------------------------------------- Sens-Merging


def group(key):
    found = re.search(r"(?:resblocks|layer)\.(\d+)\.", key)
    if found:
        return found[1]
    return "out" if key in ("proj", "ln_post.weight", "ln_post.bias") else "in"


@image_oracle({}, {"temperature": 0.01, "num_images": 3, "scale": 1.0}, tolerance=1e-4)
def sens(base, experts, calibration, scale, temperature, num_images):
    modules, alphas = {}, []
    for task, state in experts.items():
        module = modules[task] = encoder(state, calibration.backbone).double()
        parameters = {k: v for k, v in module.named_parameters() if "pooler" not in k}
        sizes = dict.fromkeys(map(group, parameters), 0.0)
        images = numbers(calibration.inputs[task][:num_images])
        for image in images:
            log = log_probabilities(calibration, task, module(image[None]))
            gradients = torch.autograd.grad(-(log.exp() * log).sum(), list(parameters.values()))
            product = dict.fromkeys(sizes, 0.0)
            for (key, value), gradient in zip(parameters.items(), gradients, strict=True):
                product[group(key)] += (value * gradient).sum().item()
            for name in sizes:
                sizes[name] += abs(product[name]) / len(images)
        length = sum(value**2 for value in sizes.values()) ** 0.5
        alphas.append({name: value / length for name, value in sizes.items()})
    serving = []
    for task in experts:
        agreement = 0.0
        for other in experts:
            if other == task:
                continue
            images = numbers(calibration.inputs[other][:num_images])
            mine, theirs = (
                log_probabilities(calibration, other, modules[name](images)).exp()
                for name in (task, other)
            )
            agreement += 1 - 0.5 * (mine - theirs).abs().sum(1).mean().item()
        serving.append(agreement)
    shares = [value / sum(serving) for value in serving]
    merged = {}
    for key, value in base.items():
        pairs = zip(alphas, shares, strict=True)
        weights = np.exp([alpha[group(key)] * share / temperature for alpha, share in pairs])
        weights = len(experts) * weights / weights.sum()
        merged[key] = value.double() + scale * sum(
            weight * (state[key].double() - value.double())
            for weight, state in zip(weights, experts.values(), strict=True)
        )
    return {task: merged for task in experts}
