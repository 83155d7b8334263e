"""The fixed experts that golden numbers are made of, and the digest that stands for a result.

Run to add numbers for methods that have none, or to replace those of the methods named:
``python tests/golden/golden.py [METHOD ...]``; see README.md beside this file.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

import mergebook as mb
from mergebook.weights import Experts

NUMBERS = Path(__file__).with_name("numbers.json")
SEED = 2  # one at which no rounding tips a descent (AWD by layer) to the other side of a kink
DIGITS = 8  # significant ones that the file keeps

WIDTH = 6
BLOCK = {
    "ln_1.weight": (WIDTH,),
    "attn.in_proj_weight": (3 * WIDTH, WIDTH),
    "attn.in_proj_bias": (3 * WIDTH,),
    "attn.out_proj.weight": (WIDTH, WIDTH),
    "mlp.c_fc.weight": (4 * WIDTH, WIDTH),
    "mlp.c_proj.weight": (WIDTH, 4 * WIDTH),
}
# A tower under the names that methods of depth and of attention look for; and odd shapes.
TOWER = {
    "class_embedding": (WIDTH,),
    "positional_embedding": (5, WIDTH),
    "conv1.weight": (WIDTH, 3, 2, 2),
    **{
        f"transformer.resblocks.{number}.{key}": shape
        for number in range(3)
        for key, shape in BLOCK.items()
    },
    "ln_post.bias": (WIDTH,),
    "proj": (WIDTH, 4),
}
ODD = {"a": (), "b": (5,), "c": (3, 4), "d": (2, 1, 2, 2), "e": (1, 9), "f": (0, 3)}
UNCHANGED = ("class_embedding", "b")
IDLE = 0.1  # share of entries
CASES = {"tower": (TOWER, ("one", "two", "three", "four")), "odd": (ODD, ("left", "right"))}

State = dict[str, torch.Tensor]


def draw(case: str) -> tuple[State, dict[str, State], tuple[str, ...]]:
    """Base, experts and the names of the tensors in which they differ.

    The experts share a part of their task vectors and have long tails, so that signs agree here
    and conflict there; each leaves some entries at the base, the last one a whole tensor.
    `RandomState` draws the same numbers in every release of NumPy.
    """
    shapes, tasks = CASES[case]
    rng = np.random.RandomState(SEED + len(shapes))

    def tensor(array: Any) -> torch.Tensor:
        return torch.tensor(array, dtype=torch.float32)

    base = {key: tensor(rng.standard_normal(shape)) for key, shape in shapes.items()}
    shared = {key: rng.standard_normal(shape) for key, shape in shapes.items()}
    experts = {}
    for task in tasks:
        experts[task] = {}
        for key, shape in shapes.items():
            vector = shared[key] + rng.standard_normal(shape) ** 3 / 2
            moved = rng.uniform(size=shape) > IDLE
            experts[task][key] = base[key] + tensor(0.2 * vector * moved)
    experts[tasks[-1]] |= {key: base[key] for key in UNCHANGED if key in shapes}
    for state in (base, *experts.values()):
        state |= {"frozen": torch.arange(4.0), "steps": torch.tensor([1, 2, 3])}
    return base, experts, tuple(shapes)


def variants(method: Any, tasks: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    """The defaults, another point of the method's grid, and every switch thrown."""
    yield {}
    defaults = {parameter.name: parameter.default for parameter in method.parameters}
    other = {
        key: next(value for value in reversed(values) if value != defaults[key])
        for key, values in method.grid.items()
    }
    if other:
        yield other
    thrown: dict[str, Any] = {}
    for parameter in method.parameters:
        if parameter.type == "bool":
            thrown[parameter.name] = not parameter.default
        elif parameter.type == "choice":
            thrown[parameter.name] = next(c for c in parameter.choices if c != parameter.default)
        elif parameter.type == "float per task":
            steps = {task: 1 + (t + 1) / 8 for t, task in enumerate(tasks)}
            thrown[parameter.name] = {t: parameter.default * step for t, step in steps.items()}
    if thrown:
        yield thrown


def digest(merged: Any, base: State, keys: tuple[str, ...]) -> dict[str, list[float]]:
    """One number for each tensor of each task: what was added to the base, on a fixed direction.

    No entry of a direction is near zero, so that no entry of a result can change unseen. Tasks
    that share their weights share their numbers.
    """
    numbers: dict[str, list[float]] = {}
    for task in merged.tasks:
        state = merged.state_dict(task)
        numbers[task] = []
        for position, key in enumerate(keys):
            added = (state[key].double() - base[key].double()).numpy().ravel()
            rng = np.random.RandomState(SEED + position)
            direction = rng.uniform(0.5, 1.5, added.size) * rng.choice([-1, 1], added.size)
            numbers[task].append(float(added @ direction) / math.sqrt(max(1, added.size)))
    different = {tuple(each) for each in numbers.values()}
    return {"all": next(iter(numbers.values()))} if len(different) == 1 else numbers


def make(name: str) -> list[dict[str, Any]]:
    """Records of one method: case, parameters, bits of storage and digest."""
    records = []
    for case in CASES:
        base, experts, keys = draw(case)
        for parameters in variants(mb.get_method(name), tuple(experts)):
            merged = mb.merge(name, Experts(base, experts), **parameters)
            numbers = {
                task: [float(f"{number:.{DIGITS}g}") for number in row]
                for task, row in digest(merged, base, keys).items()
            }
            bits = merged.storage().bits
            records.append({"case": case, "parameters": parameters, "bits": bits, "sums": numbers})
    return records


def load() -> dict[str, list[dict[str, Any]]]:
    """The committed records of every method."""
    return json.loads(NUMBERS.read_text(encoding="utf-8"))


def data_free() -> list[str]:
    """Methods that need nothing but weights."""
    return [name for name in mb.list_methods() if not mb.get_method(name).needs]


def main(names: list[str]) -> None:
    """Write the numbers of the methods named, by default of those that have none."""
    records = load() if NUMBERS.exists() else {}
    names = names or [name for name in data_free() if name not in records]
    records |= {name: make(name) for name in names}
    methods = []
    for name, rows in sorted(records.items()):
        lines = ",\n".join(f"  {json.dumps(row)}" for row in rows)
        methods.append(f"{json.dumps(name)}: [\n{lines}\n]")
    NUMBERS.write_text("{\n" + ",\n".join(methods) + "\n}\n", encoding="utf-8")
    print(f"{len(names)} methods made: {', '.join(names) or 'none is missing'}")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(sys.argv[1:])
