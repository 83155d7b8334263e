"""Routers image by image: mix the weights of one image, load them into open_clip's module."""

from __future__ import annotations

import numpy as np
import torch

from oracles import image_oracle, oracle
from oracles.encoders import WORDS, blocks_of, encoder


def module(weights):
    """open_clip's image tower or transformers' BERT, frozen."""
    return encoder(weights).requires_grad_(False)


def encode(weights, images):
    with torch.no_grad():
        return module(weights)(images)


def plus(origin, vectors, coefficients):
    """A state dict plus multiples of others, tensor by tensor."""
    mixed = dict(origin)
    for number, vector in zip(coefficients, vectors, strict=True):
        mixed = {key: value + float(number) * vector[key] for key, value in mixed.items()}
    return mixed


def minus(state, origin):
    return {key: value - origin[key] for key, value in state.items()}


def encode_mixed(origin, vectors, images, rows):
    """Each image under its own weights."""
    features = [
        encode(plus(origin, vectors, row), image[None])
        for image, row in zip(images, rows, strict=True)
    ]
    return torch.cat(features)


# ------------------------------------------------------------------ Auto-Switch


def switched(tau, drop, rule):
    """One tensor of a task vector after discarding and binarising, sign by sign."""
    flat = tau.flatten().double().numpy()
    kept = np.zeros_like(flat)
    for sign in (1, -1):
        (own,) = np.nonzero(sign * flat > 0)
        count = int(len(own) * (1 - drop))
        chosen = own[np.argsort(-abs(flat[own]), kind="stable")][:count]
        if rule == "released":
            chosen = own[abs(flat[own]) >= abs(flat[chosen[-1]])] if count else own
        kept[chosen] = flat[chosen]
    return torch.tensor(np.sign(kept)).view(tau.shape), (kept**2).sum(), np.count_nonzero(kept)


def switched_vectors(base, experts, drop, knob, rule):
    vectors = []
    for expert in experts.values():
        parts = {key: switched(expert[key] - base[key], drop, rule) for key in base}
        knobs = {k: (q / n) ** 0.5 if n else 0.0 for k, (_, q, n) in parts.items()}
        if knob == "task":
            total = sum(q for _, q, _ in parts.values()), sum(n for _, _, n in parts.values())
            knobs = dict.fromkeys(parts, (total[0] / total[1]) ** 0.5)
        vectors.append({k: (signs * knobs[k]).float() for k, (signs, _, _) in parts.items()})
    return vectors


@image_oracle(
    {"neighbours": 4, "num_images": 4},
    {"neighbours": 3, "extractor": "average", "route": "batch", "drop": 0.8, "knob": "task"},
    tolerance=2e-5,
)
def auto_switch(
    base, experts, calibration, drop, knob, rule, group_size, neighbours, num_images, extractor,
    route,
):  # fmt: skip
    vectors = switched_vectors(base, experts, drop, knob, rule)
    share = 1 / len(experts) if extractor == "average" else 0
    extract = plus(base, vectors, [share] * len(experts))
    queries = []
    for number, task in enumerate(experts):
        seen = encode(extract, calibration.inputs[task][:num_images])
        queries += [(number, features) for features in seen]
    found = {}
    for task in experts:
        images = calibration.inputs[task]
        rows = []
        for features in encode(extract, images):
            near = sorted(queries, key=lambda query: float((query[1] - features).norm()))
            votes = [owner for owner, _ in near[:neighbours]]
            rows.append([votes.count(number) / neighbours for number in range(len(experts))])
        if route == "batch":
            rows = [np.mean(rows, axis=0)] * len(rows)
        found[task] = encode_mixed(base, vectors, images, rows)
    return found


# ------------------------------------------------------------------ Twin-Merging


class Router(torch.nn.Module):
    """The released router's layers, with dropout from a generator of our own."""

    def __init__(self, width, num_tasks, generator):
        super().__init__()
        self.generator = generator
        self.first = torch.nn.Linear(width, 2 * width)
        self.second = torch.nn.Linear(2 * width, 2 * width)
        self.last = torch.nn.Linear(2 * width, num_tasks)
        self.norms = torch.nn.ModuleList(torch.nn.BatchNorm1d(2 * width) for _ in range(2))

    def forward(self, x):
        for layer, norm in zip((self.first, self.second), self.norms, strict=True):
            x = torch.nn.functional.leaky_relu(norm(layer(x)))
            if self.training:
                x = x * (torch.rand(x.shape, generator=self.generator) >= 0.5) * 2
        return self.last(x)


@image_oracle(
    {"batch_size": 7}, {"rank": 0.3, "scale": 0.5, "route": "batch"}, {"rank": 1.0}, tolerance=5e-5
)
def twin_merging(
    base, experts, calibration, scale, rank, route, steps, lr, batch_size, seed
):  # fmt: skip
    taus = [minus(expert, base) for expert in experts.values()]
    shared = plus(base, taus, [scale] * len(taus))
    vectors = []
    for expert in experts.values():
        own = minus(expert, shared)
        for key, value in own.items():
            if value.ndim == 2 and rank < 1:
                u, s, v = np.linalg.svd(value.double().numpy(), full_matrices=False)
                k = max(1, int(rank * len(s)))
                own[key] = torch.tensor(u[:, :k] * s[:k] @ v[:k]).float()
        vectors.append(own)
    seen = [encode(shared, calibration.inputs[task]) for task in experts]
    features = torch.cat(seen)
    owner = torch.tensor([number for number, own in enumerate(seen) for _ in own])

    generator = torch.Generator().manual_seed(seed)
    router = Router(features.shape[1], len(experts), generator)
    for layer in (router.first, router.second, router.last):
        bound = layer.in_features**-0.5
        for tensor in (layer.weight, layer.bias):
            uniform = torch.rand(tensor.shape, generator=generator)
            tensor.data = (2 * uniform - 1) * bound
    generator.manual_seed(seed)
    optimizer = torch.optim.AdamW(router.parameters(), lr, weight_decay=0.0)
    order = []
    for _ in range(steps):
        order = order or list(torch.randperm(len(owner), generator=generator).split(batch_size))
        chosen, order = order[0], order[1:]
        loss = torch.nn.functional.cross_entropy(router(features[chosen]), owner[chosen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    router.eval()
    found = {}
    for task, own in zip(experts, seen, strict=True):
        with torch.no_grad():
            rows = router(own).softmax(1)
        if route == "batch":
            rows = rows.mean(0).expand(rows.shape)
        found[task] = encode_mixed(shared, vectors, calibration.inputs[task], rows)
    return found


# ------------------------------------------------------------------ WEMoE


def is_mlp(key):
    """Whether a tensor is one of an MLP, of CLIP or of BERT."""
    inside = ".mlp." in key or ".intermediate." in key or ".output." in key
    return inside and "LayerNorm" not in key and ".attention." not in key


def mlp_names(base, block):
    """Names of the tensors of a block's MLP, first map first; and the first map's weight."""
    own = [key for key in base if f".{block}." in key and is_mlp(key)]
    own.sort(key=lambda key: "c_proj" in key or ".output." in key)
    return own, next(base[key] for key in own if base[key].ndim == 2)


class RoutedMlp(torch.nn.Module):
    """A block's MLP whose weights are mixed for each image, one image after the other."""

    def __init__(self, base, taus, router):
        super().__init__()
        self.base, self.taus, self.router = base, taus, router

    def forward(self, x):
        rows = []
        for tokens in x:
            weights = torch.stack([self.router(token) for token in tokens]).mean(0)
            mixed = {
                key: value + sum(w * tau[key] for w, tau in zip(weights, self.taus, strict=True))
                for key, value in self.base.items()
            }
            first, second = list(dict.fromkeys(key.rsplit(".", 1)[0] for key in mixed))
            hidden = tokens @ mixed[f"{first}.weight"].T + mixed[f"{first}.bias"]
            hidden = torch.nn.functional.gelu(hidden)
            rows.append(hidden @ mixed[f"{second}.weight"].T + mixed[f"{second}.bias"])
        return torch.stack(rows)


class Gate(torch.nn.Module):
    """Router of a token, of 0, 1 or 2 layers."""

    def __init__(self, width, num_tasks, depth, scale, generator):
        super().__init__()
        self.bias = torch.nn.Parameter(torch.full((num_tasks,), scale))
        self.depth = depth
        if depth == 2:
            self.w1 = torch.nn.Parameter(0.01 * torch.randn(width, width, generator=generator))
            self.b1 = torch.nn.Parameter(torch.zeros(width))
        if depth:
            self.w = torch.nn.Parameter(0.01 * torch.randn(num_tasks, width, generator=generator))

    def forward(self, h):
        if self.depth == 0:
            return self.bias
        h = torch.relu(self.w1 @ h + self.b1) if self.depth == 2 else h
        return self.w @ h + self.bias


def pruned(tau, density):
    """Entries above the quantile of their magnitudes."""
    if density >= 1:
        return tau
    limit = np.quantile(tau.abs().double().numpy(), 1 - density)
    return torch.where(tau.abs().double() > limit, tau, torch.zeros(()))


def block_routed(
    base, experts, calibration, *, scale, depth, steps, lr, batch_size, seed, density=1.0,
    shared=False,
):  # fmt: skip
    taus = [minus(expert, base) for expert in experts.values()]
    merged = plus(base, taus, [scale] * len(taus))
    net = module({key: base[key] if is_mlp(key) else merged[key] for key in base})
    blocks, width = blocks_of(net), mlp_names(base, 0)[1].shape[1]
    generator = torch.Generator().manual_seed(seed)
    gates = [
        Gate(width, len(experts), depth, scale, generator)
        for _ in range(1 if shared else len(blocks))
    ]
    for b, block in enumerate(blocks):
        names, _ = mlp_names(base, b)
        own = [{key: pruned(tau[key], density) for key in names} for tau in taus]
        origin = {key: base[key] for key in names}
        routed = RoutedMlp(origin, own, gates[0] if shared else gates[b])
        if WORDS in base:
            block.intermediate, block.output.dense = routed, torch.nn.Identity()
        else:
            block.mlp = routed
    leaves = [leaf for gate in gates for leaf in gate.parameters()]
    optimizer = torch.optim.Adam(leaves, lr)
    orders = {}
    for task, images in calibration.inputs.items():
        orders[task] = []
        task_generator = torch.Generator().manual_seed(seed)
        while len(orders[task]) < steps:
            permutation = torch.randperm(len(images), generator=task_generator)
            orders[task] += permutation.split(batch_size)
    for step in range(steps):
        for part in optimizer.param_groups:
            part["lr"] = lr * (1 + np.cos(np.pi * step / steps)) / 2
        optimizer.zero_grad()
        for task, images in calibration.inputs.items():
            features = torch.nn.functional.normalize(net(images[orders[task][step]]), dim=-1)
            logits = calibration.logit_scale * features @ calibration.heads[task].T
            loss = torch.distributions.Categorical(logits=logits).entropy().mean()
            loss.backward()
        optimizer.step()
    with torch.no_grad():
        return {task: net(images) for task, images in calibration.inputs.items()}


@image_oracle(
    {"batch_size": 4},
    {"depth": 1, "lr": 1e-2, "scale": 0.2},
    {"depth": 0, "lr": 1e-2},
    tolerance=1e-4,
)
def wemoe(base, experts, calibration, **params):
    return block_routed(base, experts, calibration, **params)


@image_oracle(
    {"batch_size": 4, "lr": 1e-2}, {"depth": 1, "shared": False, "density": 0.3}, tolerance=1e-4
)
def e_wemoe(base, experts, calibration, **params):
    return block_routed(base, experts, calibration, **params)


# ------------------------------------------------------------------ SE-Merging


@oracle(tolerance=1e-6)
def se_merging(base, experts, d, scale, similarity, temperature):
    """Without an image: the static merge."""
    total = sum(expert - base for expert in experts)
    return np.array([base + base.dtype.type(scale) * total for _ in experts])


def se_features(base, experts, images, scale, similarity, temperature):
    """Features of a few images, one after the other."""
    taus = [minus(expert, base) for expert in experts.values()]
    found = []
    for image in images:
        merged = encode(plus(base, taus, [scale] * len(taus)), image[None])[0]
        start = encode(base, image[None])[0]
        scores = []
        for expert in experts.values():
            own = encode(expert, image[None])[0]
            score = -np.linalg.norm(merged - own)
            if similarity == "movement":
                score = float((merged - start) @ (own - start))
            scores.append(score)
        scores = np.array(scores, dtype=np.float64)
        span = scores.max() - scores.min()
        scaled = (scores - scores.min()) / span if span else scores * 0
        powers = np.exp(scaled / temperature)
        row = scale * len(taus) * powers / powers.sum()
        found.append(encode(plus(base, taus, row), image[None])[0])
    return torch.stack(found)
