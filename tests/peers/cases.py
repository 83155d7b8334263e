"""Models that all peers can merge, our result on them, and how far two results are apart."""

from __future__ import annotations

import torch
from torch import Tensor, nn

import mergebook as mb
from mergebook.weights import Experts

StateDict = dict[str, Tensor]
# Tensors of every sort, and how much fine-tuning changes each: tensors of one model differ in this
# by an order of magnitude, which is what sets global trimming apart from trimming by tensor.
SHAPES = {
    "conv1.weight": ((12, 3, 4, 4), 0.003),
    "positional_embedding": ((9, 12), 0.002),
    "encoder.0.ln_1.weight": ((12,), 0.01),
    "encoder.0.attn.in_proj_weight": ((36, 12), 0.01),
    "encoder.0.attn.in_proj_bias": ((36,), 0.03),
    "encoder.0.mlp.c_fc.weight": ((48, 12), 0.02),
    "encoder.0.mlp.c_proj.weight": ((12, 48), 0.01),
    "proj": ((12, 8), 0.03),
}


def models(num_tasks: int = 4, seed: int = 0) -> tuple[StateDict, dict[str, StateDict]]:
    """A base and its experts. Task vectors share a part, so that they are not orthogonal."""
    generator = torch.Generator().manual_seed(seed)

    def random(shape: tuple[int, ...]) -> Tensor:
        return torch.randn(shape, generator=generator)

    base = {key: random(shape) / 10 for key, (shape, _) in SHAPES.items()}
    shared = {key: random(shape) for key, (shape, _) in SHAPES.items()}
    experts = {
        f"task{number}": {
            key: base[key] + size * (random(shape) + shared[key])
            for key, (shape, size) in SHAPES.items()
        }
        for number in range(num_tasks)
    }
    return base, experts


def task_vectors(base: StateDict, experts: dict[str, StateDict]) -> list[StateDict]:
    return [{key: expert[key] - base[key] for key in base} for expert in experts.values()]


def ours(method: str, base: StateDict, experts: dict[str, StateDict], **params) -> StateDict:
    """What this library makes of them."""
    return mb.merge(method, Experts(base, experts), **params).state_dict()


def each_tensor(method: str, base: StateDict, experts: dict[str, StateDict], **params) -> StateDict:
    """The same, every tensor merged as if it were a model of its own."""
    parts = [
        ours(method, {key: base[key]}, {t: {key: e[key]} for t, e in experts.items()}, **params)
        for key in base
    ]
    return {key: tensor for part in parts for key, tensor in part.items()}


def add(base: StateDict, vector: StateDict) -> StateDict:
    return {key: base[key] + vector[key] for key in base}


def stack(vectors: list[StateDict]) -> StateDict:
    """Task vectors ``[T, *s]`` of each tensor."""
    return {key: torch.stack([vector[key] for vector in vectors]) for key in vectors[0]}


def largest(values: Tensor, k: int) -> Tensor:
    """Marks of the k largest magnitudes, bool; written out, no two are equal here."""
    order = values.abs().flatten().argsort(descending=True)
    marks = torch.zeros(values.numel(), dtype=torch.bool)
    marks[order[:k]] = True
    return marks.reshape(values.shape)


def apart(left: StateDict, right: StateDict, base: StateDict) -> float:
    """Length of the difference of two results, in units of the change that the first one makes."""
    difference = sum(float((left[key] - right[key]).square().sum()) for key in base)
    return (difference / sum(float((left[key] - base[key]).square().sum()) for key in base)) ** 0.5


def assert_agree(left: StateDict, right: StateDict, tolerance: float = 1e-6) -> None:
    """Two results are equal up to rounding; weights here are of order 0.1."""
    assert set(left) == set(right)
    for key in left:
        torch.testing.assert_close(left[key], right[key], rtol=0, atol=tolerance, msg=key)


class Module(nn.Module):
    """A state dict as the module that some peers ask for."""

    def __init__(self, state: StateDict):
        super().__init__()
        for key, tensor in state.items():
            *path, leaf = key.split(".")
            node = self
            for part in path:
                if part not in node._modules:
                    node.add_module(part, nn.Module())
                node = node._modules[part]
            node.register_parameter(leaf, nn.Parameter(tensor.clone()))


def state_of(module: nn.Module) -> StateDict:
    return {key: tensor.detach() for key, tensor in module.state_dict().items()}
