"""Weights as they come: files or state dicts in memory, opened, named and compared."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from mergebook.errors import CheckpointError
from mergebook.weights.checkpoint import Checkpoint, refuse_unstorable
from mergebook.weights.qkv import Arranged

Source = Mapping[str, Tensor] | str | os.PathLike[str]
Facts = dict[str, tuple[torch.Size, torch.dtype]]
LISTED = 5  # names that an error message spells out before it counts the rest


def open_source(source: Source, name: str) -> Mapping[str, Tensor]:
    """A mapping from names to tensors, read-only.

    Parameters
    ----------
    source : Checkpoint, mapping of str to Tensor, or path
        Weights.
    name : str
        What errors call it.

    Raises
    ------
    CheckpointError
        If it is something else, a file cannot be read, or a tensor in memory is not of the sort
        that a checkpoint can hold: dense, with values, of a type that merging knows.
    """
    if isinstance(source, str | os.PathLike):
        return Checkpoint(Path(source))
    if isinstance(source, Checkpoint | Arranged):
        return source
    if isinstance(source, Mapping):
        for key, tensor in source.items():
            refuse_unstorable(key, tensor, name)
        return {key: ordinary(tensor.detach()) for key, tensor in source.items()}
    raise CheckpointError(
        f"{name} must be a Checkpoint, a mapping of names to tensors, or a path; "
        f"got {type(source).__name__}"
    )


def ordinary(tensor: Tensor) -> Tensor:
    """The tensor, or a copy if it is from ``torch.inference_mode``, which lets no gradient pass."""
    with torch.inference_mode(False):
        return tensor.clone() if tensor.is_inference() else tensor


def open_experts(experts: Mapping[str, Source]) -> dict[str, Mapping[str, Tensor]]:
    """The weights of each task, opened by :func:`open_source`.

    Raises
    ------
    CheckpointError
        If this is no mapping, is empty, or a task's name is not a text; also as there.
    """
    if not isinstance(experts, Mapping):
        raise CheckpointError(
            "experts must be a mapping from the task's name to its weights, such as "
            f"{{'cars': 'cars.safetensors'}}; got {type(experts).__name__}"
        )
    for task in experts:
        if not isinstance(task, str) or not task:
            raise CheckpointError(f"a task's name must be a text that is not empty, got {task!r}")
    if not experts:
        raise CheckpointError("at least one expert is needed, got none")
    return {task: open_source(source, f"expert {task!r}") for task, source in experts.items()}


def label(name: str, source: Mapping[str, Tensor]) -> str:
    """What errors call a source: its name, and its file if it has one."""
    path = getattr(source, "path", None)
    return f"{name} ({path})" if path else name


def facts_of_all(base: Mapping[str, Tensor], experts: Mapping[str, Mapping[str, Tensor]]) -> Facts:
    """Shape and element type of each tensor of a base, which all its experts share.

    Raises
    ------
    CheckpointError
        If there are no tensors, or an expert differs from the base in names, shapes or types.
    """
    expected = _facts(base)
    if not expected:
        raise CheckpointError(f"{label('base', base)} holds no tensors")
    for task, expert in experts.items():
        found = _facts(expert)
        if found != expected:
            raise CheckpointError(
                f"{label(f'expert {task!r}', expert)} does not fit the {label('base', base)}: "
                f"{_difference(expected, found)}"
            )
    return expected


def _facts(source: Mapping[str, Tensor]) -> Facts:
    if isinstance(source, Checkpoint | Arranged):  # from the header
        return {key: (torch.Size(source.shape(key)), source.dtype(key)) for key in source}
    return {key: (tensor.shape, tensor.dtype) for key, tensor in source.items()}


def _difference(expected: Facts, found: Facts) -> str:
    """What makes two architectures differ, at most a few names of each sort."""
    problems = []
    for title, names in (
        ("missing", sorted(expected.keys() - found.keys())),
        ("unexpected", sorted(found.keys() - expected.keys())),
    ):
        if names:
            rest = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
            problems.append(f"{len(names)} {title} ({', '.join(names[:LISTED])}{rest})")
    for key in sorted(expected.keys() & found.keys()):
        for title, here, there in zip(("shape", "type"), expected[key], found[key], strict=True):
            if here != there and len(problems) < LISTED:
                here, there = (tuple(x) if title == "shape" else x for x in (here, there))
                problems.append(f"{key!r} has {title} {there}, expected {here}")
    return "; ".join(problems)


def refuse_if_not_finite(tensor: Tensor, key: str, name: str) -> None:
    """Raise if a tensor holds NaN or infinity."""
    bad = int((~torch.isfinite(tensor)).sum())
    if bad:
        raise CheckpointError(f"{name}: tensor {key!r} holds {bad} values that are NaN or infinite")
