"""Hypothesis strategies: small state dicts of every shape and type, and methods' parameters."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from hypothesis import settings
from hypothesis import strategies as st
from torch import Tensor

from mergebook.registry import get_method
from mergebook.weights import Experts, save_checkpoint

# For all tests of a module that imports this one. No deadline: a busy machine is not a bug.
settings.register_profile("mergebook", max_examples=15, deadline=None, derandomize=True)
settings.load_profile("mergebook")

MANY = 64  # up to so many whole numbers, all are tried
SHAPES = ((), (5,), (3, 4), (2, 1, 2, 2), (1, 9), (0, 3))


def grid(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Multiples of 1/8: sums are exact in any order, ties and cancelling sums are common."""
    return rng.integers(-8, 9, shape) / 8


def reals(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Numbers over several orders of magnitude, now and then zero."""
    return rng.normal(size=shape) * 10.0 ** rng.integers(-6, 2, shape) * (rng.random(shape) > 0.1)


def gaussian(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Numbers of one order of magnitude, no two alike: matrices have distinct singular values."""
    return rng.normal(size=shape)


StateDict = dict[str, Tensor]


@dataclass
class Case:
    """A base and its experts in memory."""

    base: StateDict
    experts: dict[str, StateDict]

    def load(self, **options) -> Experts:
        return Experts(self.base, self.experts, **options)

    def save(self, folder: Path, **options) -> Experts:
        """The same from files."""
        base = save_checkpoint(self.base, folder / "base.safetensors")
        experts = {
            task: save_checkpoint(state, folder / f"{task}.safetensors")
            for task, state in self.experts.items()
        }
        return Experts(base, experts, **options)

    def copy(self) -> Case:
        clone = {task: clones(state) for task, state in self.experts.items()}
        return Case(clones(self.base), clone)


def clones(state: Mapping[str, Tensor]) -> StateDict:
    return {key: tensor.clone() for key, tensor in state.items()}


def flat(state: Mapping[str, Tensor], keys: tuple[str, ...]) -> np.ndarray:
    """The named tensors as one vector, float32 unless a tensor is float64."""
    dtype = np.float64 if any(state[k].dtype == torch.float64 for k in keys) else np.float32
    parts = [state[key].double().numpy().ravel() for key in keys]
    return np.concatenate([np.zeros(0), *parts]).astype(dtype)


@st.composite
def cases(draw, *, min_tasks=1, max_tasks=4, elements=grid, dtypes=(torch.float32,)) -> Case:
    """Cases with scalars, vectors, matrices, convolutions and empty tensors, some of them frozen,
    an integer buffer, and now and then an expert that equals the base."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))  # drawn one by one takes seconds
    tasks = [f"task{t}" for t in range(draw(st.integers(min_tasks, max_tasks)))]
    shapes = draw(st.lists(st.sampled_from(SHAPES), min_size=1, max_size=4))
    base: StateDict = {}
    experts: dict[str, StateDict] = {task: {} for task in tasks}
    idle = draw(st.sets(st.sampled_from(tasks), max_size=1))
    for number in draw(st.permutations(range(len(shapes)))):
        key, shape = f"layer{number}", shapes[number]
        dtype = draw(st.sampled_from(dtypes))
        frozen = draw(st.sampled_from((False, False, True)))

        def tensor(shape=shape, dtype=dtype) -> Tensor:
            array = np.asarray(elements(rng, shape), dtype=np.float32)
            return torch.from_numpy(array).reshape(shape).to(dtype)

        base[key] = tensor()
        for task in tasks:
            same = frozen or task in idle
            experts[task][key] = base[key].clone() if same else tensor()
    if draw(st.booleans()):
        for state in (base, *experts.values()):
            state["steps"] = torch.tensor([1, 2, 3])
    return Case(base, experts)


@st.composite
def parameters(draw, name: str, tasks: tuple[str, ...], **fixed) -> dict:
    """Valid parameters of a method."""
    chosen = {}
    for parameter in get_method(name).parameters:
        if parameter.type == "choice":
            chosen[parameter.name] = draw(st.sampled_from(parameter.choices))
        elif parameter.type == "bool":
            chosen[parameter.name] = draw(st.booleans())
        elif parameter.type == "int":
            low, high = parameter.range.low, parameter.range.high or math.inf
            high = high if high <= MANY else max(low, len(tasks) + 1)  # where counts differ
            chosen[parameter.name] = draw(st.integers(low, high))
        else:
            high = min(parameter.range.high, parameter.range.low + 3)
            number = st.integers(0, 16).map(
                lambda n, low=parameter.range.low, high=high: low + (high - low) * n / 16
            )
            per_task = st.fixed_dictionaries(dict.fromkeys(tasks, number))
            chosen[parameter.name] = draw(
                number if parameter.type == "float" else st.one_of(number, per_task)
            )
    return chosen | fixed
