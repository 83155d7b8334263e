"""Surgery and IntervMerge on open_clip's own modules: forward hooks, one task after the other."""

from __future__ import annotations

import math
import warnings

import torch

from oracles import image_oracle
from oracles.encoders import WORDS, blocks_of, encoder


def statically_merged(base, experts, merge, scale):
    """Averaging or task arithmetic of state dicts."""
    factor = 1 / len(experts) if merge == "averaging" else scale
    merged = {}
    for key, value in base.items():
        total = sum(expert[key].double() - value.double() for expert in experts.values())
        merged[key] = (value.double() + factor * total).float()
    return merged


def module(weights):
    """open_clip's image tower or transformers' BERT, frozen."""
    return encoder(weights).requires_grad_(False)


def batch_orders(count, size, seed):
    generator = torch.Generator().manual_seed(seed)
    while True:
        yield from torch.randperm(count, generator=generator).split(size)


class Edited:
    """A tower whose layer norms, attentions, MLPs, blocks and features pass through functions."""

    def __init__(self, weights, edits):
        self.net, self.edits, self.blocks, self.seen = module(weights), edits, {}, {}
        if WORDS in weights:
            self._watch_bert()
            return
        assert self.net.transformer.batch_first
        for b, block in enumerate(self.net.transformer.resblocks):
            name = f"blocks.{b}"
            block.ln_1.register_forward_hook(self._output(f"{name}.ln_1"))
            block.attn.register_forward_hook(self._attention(f"{name}.attention"))
            # open_clip adds the attention's output and hands the sum to ln_2 and to the MLP's sum.
            block.ls_1.register_forward_hook(self._stream(f"{name}.residual", block))
            block.ln_2.register_forward_hook(self._output(f"{name}.ln_2"))
            block.mlp.register_forward_hook(self._output(f"{name}.mlp"))
            block.register_forward_pre_hook(self._keep(block))
            block.register_forward_hook(self._block(b))

    def _watch_bert(self):
        """Norms follow the additions, so that a sum is what enters a norm."""
        for b, layer in enumerate(self.net.encoder.layer):
            name, first, second = f"blocks.{b}", layer.attention.output, layer.output
            first.dense.register_forward_hook(self._output(f"{name}.attention"))
            first.LayerNorm.register_forward_pre_hook(self._input(f"{name}.residual"))
            first.LayerNorm.register_forward_hook(self._output(f"{name}.ln_1"))
            second.dense.register_forward_hook(self._output(f"{name}.mlp"))
            second.LayerNorm.register_forward_hook(self._output(f"{name}.ln_2"))
            layer.register_forward_hook(self._block(b))

    def _input(self, place):
        def hook(net, args):
            edit = self.edits.get(place)
            return (edit(args[0]),) if edit else None

        return hook

    def _output(self, place):
        def hook(net, args, output):
            edit = self.edits.get(place)
            return edit(output) if edit else None

        return hook

    def _attention(self, place):
        def hook(net, args, output):
            edit = self.edits.get(place)
            return (edit(output[0]), *output[1:]) if edit else None

        return hook

    def _keep(self, block):
        def hook(net, args):
            block.entered = args[0]

        return hook

    def _stream(self, place, block):
        """The sum is edited by editing what is added to it."""

        def hook(net, args, output):
            edit = self.edits.get(place)
            return edit(block.entered + output) - block.entered if edit else None

        return hook

    def _block(self, b):
        def hook(net, args, output):
            edit = self.edits.get(f"blocks.{b}")
            whole = isinstance(output, tuple)
            output = output[0] if whole else output
            output = edit(output) if edit else output
            self.seen.setdefault(b, []).append(output.mean(1))  # one pass per text, all images
            return (output,) if whole else output

        return hook

    def __call__(self, images):
        self.seen.clear()
        features = self.net(images)
        self.blocks = {b: torch.cat(parts) for b, parts in self.seen.items()}
        edit = self.edits.get("features")
        return edit(features) if edit else features


def learn(
    weights, expert, images, edits, leaves, *, blocks, steps, lr, batch_size, seed, updates=1
):
    """Learn one task's numbers in place; returns the features of all images."""
    student, teacher = Edited(weights, edits), Edited(expert, {})
    for leaf in leaves:
        leaf.requires_grad_()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # each number is handed over several times, as released
        optimizer = torch.optim.Adam(leaves * updates, lr, foreach=False)
    order = batch_orders(len(images), batch_size, seed)
    for _ in range(steps):
        index = next(order)
        loss = torch.nn.functional.l1_loss(student(images[index]), teacher(images[index]))
        if blocks:
            for b, mean in student.blocks.items():
                loss = loss + torch.nn.functional.l1_loss(mean, teacher.blocks[b])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        return student(images)


def uniform(shape, fan_in, generator):
    return (torch.rand(*shape, generator=generator) * 2 - 1) / fan_in**0.5


def cut(down, up):
    def edit(x):
        return x - torch.relu(x @ down.T) @ up.T

    return edit


def operated(base, experts, calibration, *, deep, merge, scale, rank, seed, **training):
    weights = statically_merged(base, experts, merge, scale)
    width = features = shape_of(weights)[1]
    if "proj" in weights:
        width, features = weights["proj"].shape
    depth = len(blocks_of(module(weights)))
    found = {}
    for task, expert in experts.items():
        generator = torch.Generator().manual_seed(seed)
        sizes = {f"blocks.{b}": width for b in range(depth)} if deep else {}
        edits, leaves = {}, []
        for place, size in {**sizes, "features": features}.items():
            down, up = uniform((rank, size), size, generator), torch.zeros(size, rank)
            edits[place] = cut(down, up)
            leaves += [down, up]
        images = calibration.inputs[task]
        found[task] = learn(
            weights, expert, images, edits, leaves, blocks=deep, seed=seed, **training
        )
    return found


@image_oracle({}, {"merge": "averaging", "rank": 3, "batch_size": 4, "seed": 5})
def surgery(base, experts, calibration, **params):
    return operated(base, experts, calibration, deep=False, **params)


@image_oracle({"rank": 2}, {"rank": 1, "merge": "averaging", "batch_size": 4}, tolerance=1e-4)
def surgery_v2(base, experts, calibration, **params):
    return operated(base, experts, calibration, deep=True, **params)


def gram_schmidt(a):
    """Columns made orthonormal from left to right."""
    columns = []
    for column in a.unbind(1):
        for other in columns:
            column = column - (other @ column) * other
        columns.append(column / column.square().sum().sqrt())
    return torch.stack(columns, 1)


def gelu(x):
    return x * (1 + torch.erf(x / math.sqrt(2))) / 2


ACTIVATIONS = {"linear": lambda x: x, "relu": lambda x: x.clamp(min=0), "gelu": gelu}


def change(form, numbers, activation):
    """The function that is added to h [N, L, m], and the tensors that are learned."""
    act = ACTIVATIONS[activation]

    def add(h):
        if form == "noreft":
            w1, b1, w2, *b2 = numbers
            return (act(h @ w1.T + b1) - h @ w2.T - (b2[0] if b2 else 0)) @ w2
        if form == "nodireft":
            w1, b1, w2 = numbers
            return act(h @ w1.T + b1) @ w2
        r = gram_schmidt(numbers[0])
        if form == "loreft":
            return (act(h @ numbers[1].T + numbers[2]) - h @ r) @ r.T
        if form == "direft":
            return act(h @ numbers[1].T + numbers[2]) @ r.T
        if form == "consreft":
            return (numbers[1] - h @ r) @ r.T
        assert form == "lobireft"
        return (r @ numbers[1]).expand(h.shape)

    return add


def stilled(form, numbers):
    """The numbers of an edit that changes nothing yet."""
    if form == "noreft":
        w2 = numbers[2]
        b1 = numbers[3].clone() if len(numbers) == 4 else torch.zeros_like(numbers[1])
        return [w2.clone(), b1, *numbers[2:]]
    if form == "nodireft":
        return [torch.zeros_like(numbers[0]), torch.zeros_like(numbers[1]), numbers[2]]
    if form == "loreft":
        return [numbers[0], numbers[0].T.clone(), torch.zeros_like(numbers[2])]
    return [numbers[0], *map(torch.zeros_like, numbers[1:])]


def drawn(form, m, rank, biases, generator):
    if form in ("noreft", "nodireft"):
        numbers = [uniform(shape, m, generator) for shape in ((rank, m), (rank,), (rank, m))]
        if form == "noreft" and biases == "two":
            numbers.append(uniform((rank,), m, generator))
        return numbers
    r = gram_schmidt(torch.randn(m, rank, generator=generator))
    if form in ("loreft", "direft"):
        return [r, uniform((rank, m), m, generator), uniform((rank,), m, generator)]
    return [r, torch.rand(rank, generator=generator)]


KIND = {
    "mini": ("noreft", "fixed"), "mini_multi": ("noreft", "multi"),
    "mini_efficient": ("lobireft", "fixed"), "mini_best_efficient": ("lobireft", "shifted"),
}  # fmt: skip


def spans(kind, width, depth, block, part, generator):
    part = part or width // depth
    if kind == "multi":
        quarter = part // 4
        starts = [0, int(184 / 768 * width), int(568 / 768 * width), width - quarter]
        return [(s, s + quarter) for s in starts]
    if kind == "random":
        start = torch.randint(width - part + 1, (), generator=generator).item()
        return [(start, start + part)]
    if kind == "fixed":
        return [(0, part)]
    return [(block * part, block * part + part)] if kind == "shifted" else [(0, width)]


def token_edit(pieces):
    """Pieces are the tokens, the coordinates, and what is added there."""

    def edit(x):
        for tokens, (start, stop), add in pieces:
            out = x.clone()
            out[:, tokens, start:stop] = x[:, tokens, start:stop] + add(x[:, tokens, start:stop])
            x = out
        return x

    return edit


def built(
    width, depth, length, *, form, rank, biases, part, blocks, seed, place="attention",
    tokens="class", skip=0, every=1, slices="of the form", activation="linear", init="random",
):  # fmt: skip
    """Edits of one task, and the tensors that are learned."""
    kind, own = KIND.get(form, (form, "whole"))
    generator = torch.Generator().manual_seed(seed)
    places = torch.Generator().manual_seed(seed)
    edits, leaves = {}, []
    groups = [slice(p, p + 1) for p in range(1, length)]
    if tokens != "each patch":
        groups = [{"class": slice(0, 1), "patches": slice(1, None), "all": slice(None)}[tokens]]
    chosen = [b for b in range(depth - skip) if (depth - skip - 1 - b) % every == 0]
    for b in chosen:
        if b < depth - skip - blocks:
            continue
        pieces = []
        wanted = own if slices == "of the form" else slices
        for span in spans(wanted, width, depth, b, part, places):
            for group in groups:
                numbers = drawn(kind, span[1] - span[0], rank, biases, generator)
                numbers = stilled(kind, numbers) if init == "identity" else numbers
                leaves += numbers
                pieces.append((group, span, change(kind, numbers, activation)))
        where = f"blocks.{b}" if place == "block" else f"blocks.{b}.{place}"
        edits[where] = token_edit(pieces)
    return edits, leaves


def learn_with_coefficients(
    base, experts, calibration, edits, leaves, first, share, *, steps, lr, batch_size, seed,
    updates,
):  # fmt: skip
    """All tasks at once, with the coefficients of task arithmetic, one per task and tensor."""
    moves = {
        (key, task): torch.zeros((), requires_grad=True)
        for key in base
        for task in experts
        if any(not torch.equal(expert[key], base[key]) for expert in experts.values())
    }

    def weights():
        merged = dict(base)
        for (key, task), move in moves.items():
            coefficient = (first + share * move).clamp(0, 1)
            merged[key] = merged[key] + coefficient * (experts[task][key] - base[key])
        return merged

    def run(student, images, state):
        features = torch.func.functional_call(student.net, state, (images,))
        edit = student.edits.get("features")
        return edit(features) if edit else features

    students = {task: Edited(base, edits[task]) for task in experts}
    teachers = {task: Edited(expert, {}) for task, expert in experts.items()}
    every = [leaf.requires_grad_() for own in leaves.values() for leaf in own]
    optimizer = torch.optim.Adam([*every, *moves.values()], lr)
    orders = {t: batch_orders(len(x), batch_size, seed) for t, x in calibration.inputs.items()}
    assert updates == 1
    for _ in range(steps):
        optimizer.zero_grad()
        for task, images in calibration.inputs.items():
            chosen = images[next(orders[task])]
            found = run(students[task], chosen, weights())
            torch.nn.functional.l1_loss(found, teachers[task](chosen)).backward()
        optimizer.step()
    with torch.no_grad():
        state = weights()
        return {t: run(students[t], x, state) for t, x in calibration.inputs.items()}


def shape_of(weights):
    """Tokens and width of an encoder."""
    name = "embeddings.position_embeddings.weight"
    return weights[name if name in weights else "positional_embedding"].shape


def intervened(
    base, experts, calibration, *, merge, scale, seed, lr, steps, batch_size, teacher="expert",
    coefficients="fixed", coefficient_lr=0.0, updates=1, **shape,
):  # fmt: skip
    training = {"steps": steps, "batch_size": batch_size, "updates": updates}
    weights = statically_merged(base, experts, merge, scale)
    length, width = shape_of(weights)
    depth = len(blocks_of(module(weights)))
    if WORDS in weights:  # features are made of all tokens
        shape = {"tokens": "all"} | {k: v for k, v in shape.items() if (k, v) != ("tokens", None)}
    made = {task: built(width, depth, length, seed=seed, **shape) for task in experts}
    if coefficients == "learned":
        edits = {task: edit for task, (edit, _) in made.items()}
        leaves = {task: own for task, (_, own) in made.items()}
        first = 1 / len(experts) if merge == "averaging" else scale
        return learn_with_coefficients(
            base, experts, calibration, edits, leaves, first, coefficient_lr / lr, lr=lr,
            seed=seed, **training,
        )  # fmt: skip
    return {
        task: learn(
            weights, expert, calibration.inputs[task], *made[task], blocks=False, lr=lr,
            seed=seed, **training,
        )
        for task, expert in experts.items()
    }  # fmt: skip


@image_oracle(
    {},
    {"form": "noreft", "rank": 3, "biases": "one", "merge": "averaging", "batch_size": 4},
    {"form": "nodireft", "rank": 2, "seed": 3},
    {"form": "loreft", "rank": 2},
    {"form": "direft", "rank": 3},
    {"form": "consreft", "rank": 2, "blocks": 2},
    {"form": "lobireft", "rank": 2},
    {"form": "mini", "rank": 2},
    {"form": "mini_multi", "part": 16},
    {"place": "block", "tokens": "all", "blocks": 3},
    {"place": "ln_1", "skip": 1, "every": 2, "activation": "relu"},
    {
        "place": "residual",
        "tokens": "patches",
        "blocks": 4,
        "skip": 1,
        "form": "nodireft",
        "activation": "gelu",
    },
    {"place": "ln_2", "form": "loreft", "slices": "shifted", "activation": "relu", "rank": 2},
    {"place": "mlp", "form": "direft", "slices": "random", "seed": 4, "activation": "gelu"},
    {"place": "residual", "tokens": "each patch", "blocks": 1, "skip": 3, "form": "lobireft"},
    {"init": "identity", "rank": 2},
    {"init": "identity", "biases": "one", "slices": "multi", "part": 16},
    {"init": "identity", "form": "loreft", "updates": 3},
    {"init": "identity", "form": "direft"},
    {"init": "identity", "form": "nodireft", "slices": "fixed"},
    {"init": "identity", "form": "lobireft"},
    {"updates": 3},
    {"coefficients": "learned"},
    {"coefficients": "learned", "merge": "averaging", "coefficient_lr": 0.05, "batch_size": 4},
    tolerance=1e-4,
)
def intervmerge(base, experts, calibration, **params):
    return intervened(base, experts, calibration, **params)


@image_oracle({}, {"form": "mini_efficient", "part": 12, "rank": 2}, tolerance=1e-4)
def intervmerge_mini(base, experts, calibration, **params):
    return intervened(base, experts, calibration, **params)
