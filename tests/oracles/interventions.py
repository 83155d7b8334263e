"""Surgery and IntervMerge on open_clip's own modules: forward hooks, one task after the other."""

from __future__ import annotations

import torch

from mergebook.towers import clip
from oracles import image_oracle

BACKBONE = "mini-small"


def statically_merged(base, experts, merge, scale):
    """Averaging or task arithmetic of state dicts."""
    factor = 1 / len(experts) if merge == "averaging" else scale
    merged = {}
    for key, value in base.items():
        total = sum(expert[key].double() - value.double() for expert in experts.values())
        merged[key] = (value.double() + factor * total).float()
    return merged


def module(weights):
    """open_clip's image tower, frozen."""
    return clip.visual_encoder(BACKBONE, weights).requires_grad_(False)


def batch_orders(count, size, seed):
    generator = torch.Generator().manual_seed(seed)
    while True:
        yield from torch.randperm(count, generator=generator).split(size)


class Edited:
    """A tower whose attentions, blocks and features pass through functions."""

    def __init__(self, weights, edits):
        self.net, self.edits, self.blocks = module(weights), edits, {}
        assert self.net.transformer.batch_first
        for b, block in enumerate(self.net.transformer.resblocks):
            block.attn.register_forward_hook(self._attention(b))
            block.register_forward_hook(self._block(b))

    def _attention(self, b):
        def hook(net, args, output):
            edit = self.edits.get(f"blocks.{b}.attention")
            return (edit(output[0]), *output[1:]) if edit else None

        return hook

    def _block(self, b):
        def hook(net, args, output):
            edit = self.edits.get(f"blocks.{b}")
            output = edit(output) if edit else output
            self.blocks[b] = output.mean(1)
            return output

        return hook

    def __call__(self, images):
        features = self.net(images)
        edit = self.edits.get("features")
        return edit(features) if edit else features


def learn(weights, expert, images, edits, leaves, *, blocks, steps, lr, batch_size, seed):
    """Learn one task's numbers in place; returns the features of all images."""
    student, teacher = Edited(weights, edits), Edited(expert, {})
    for leaf in leaves:
        leaf.requires_grad_()
    optimizer = torch.optim.Adam(leaves, lr)
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
    width, features = weights["proj"].shape
    depth = len(module(weights).transformer.resblocks)
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


def change(form, numbers):
    """The function that is added to h [N, L, m], and the tensors that are learned."""

    def add(h):
        if form == "noreft":
            w1, b1, w2, *b2 = numbers
            return (h @ w1.T + b1 - h @ w2.T - (b2[0] if b2 else 0)) @ w2
        if form == "nodireft":
            w1, b1, w2 = numbers
            return (h @ w1.T + b1) @ w2
        r = gram_schmidt(numbers[0])
        if form == "loreft":
            return (h @ numbers[1].T + numbers[2] - h @ r) @ r.T
        if form == "direft":
            return (h @ numbers[1].T + numbers[2]) @ r.T
        if form == "consreft":
            return (numbers[1] - h @ r) @ r.T
        assert form == "lobireft"
        return (r @ numbers[1]).expand(h.shape)

    return add


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


def spans(form, width, depth, block, part):
    part = part or width // depth
    if form == "mini_multi":
        quarter = part // 4
        starts = [0, int(184 / 768 * width), int(568 / 768 * width), width - quarter]
        return [(s, s + quarter) for s in starts]
    if form in ("mini", "mini_efficient"):
        return [(0, part)]
    return [(block * part, block * part + part)] if form == "mini_best_efficient" else [(0, width)]


KIND = {
    "mini": "noreft", "mini_multi": "noreft",
    "mini_efficient": "lobireft", "mini_best_efficient": "lobireft",
}  # fmt: skip


def token_edit(pieces, count):
    def edit(x):
        out = x.clone()
        for (start, stop), add in pieces:
            out[:, :count, start:stop] = out[:, :count, start:stop] + add(x[:, :count, start:stop])
        return out

    return edit


def built(width, depth, *, form, rank, biases, part, blocks, seed, place, tokens):
    """Edits of one task, and the tensors that are learned."""
    kind = KIND.get(form, form)
    generator = torch.Generator().manual_seed(seed)
    edits, leaves = {}, []
    for b in range(max(0, depth - blocks), depth):
        pieces = []
        for span in spans(form, width, depth, b, part):
            numbers = drawn(kind, span[1] - span[0], rank, biases, generator)
            leaves += numbers
            pieces.append((span, change(kind, numbers)))
        where = f"blocks.{b}.attention" if place == "attention" else f"blocks.{b}"
        edits[where] = token_edit(pieces, 1 if tokens == "class" else None)
    return edits, leaves


def learn_with_coefficients(
    base, experts, calibration, edits, leaves, first, share, *, steps, lr, batch_size, seed
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


def intervened(
    base, experts, calibration, *, merge, scale, form, rank, biases, part, blocks, seed, lr,
    place="attention", tokens="class", teacher="expert", coefficients="fixed",
    coefficient_lr=0.0, **training,
):  # fmt: skip
    weights = statically_merged(base, experts, merge, scale)
    size = weights["proj"].shape[0], len(module(weights).transformer.resblocks)
    shape = {"form": form, "rank": rank, "biases": biases, "part": part, "blocks": blocks}
    shape |= {"place": place, "tokens": tokens, "seed": seed}
    made = {task: built(*size, **shape) for task in experts}
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
    {"coefficients": "learned"},
    {"coefficients": "learned", "merge": "averaging", "coefficient_lr": 0.05, "batch_size": 4},
    tolerance=1e-4,
)
def intervmerge(base, experts, calibration, **params):
    return intervened(base, experts, calibration, **params)


@image_oracle({}, {"form": "mini_efficient", "part": 12, "rank": 2}, tolerance=1e-4)
def intervmerge_mini(base, experts, calibration, **params):
    return intervened(base, experts, calibration, **params)
