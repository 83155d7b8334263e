"""What a checkpoint or a merged model holds, as text."""

from __future__ import annotations

import json
import math
import os
from typing import Any

import torch

from mergebook.errors import CheckpointError, MergebookError, shown
from mergebook.merged import MergedModel, load_merged
from mergebook.registry import list_methods
from mergebook.weights import Checkpoint

SHOWN = 120  # characters of a metadata entry


def describe_file(path: str | os.PathLike[str], *, list_tensors: bool = False) -> str:
    """What a checkpoint or a merged model holds, as text.

    Parameters
    ----------
    path : path
        A checkpoint, or what :meth:`~mergebook.merged.MergedModel.save` wrote.
    list_tensors : bool, default False
        Whether to list the tensors of a merged model, too; those of a checkpoint are listed anyway.

    Returns
    -------
    str
        For a merged model its kind, tasks, recipe, sizes, and storage by the closed formula and in
        the file; for a checkpoint its metadata; for both, the tensors by type.

    Raises
    ------
    CheckpointError
        If the file cannot be read, or claims to be a merged model and is none.
    """
    file = Checkpoint(path)
    list_methods()  # their packages declare kinds of merged models
    size, tensors = file.path.stat().st_size, sum(_bytes(file, key) for key in file)
    is_merged = file.metadata.get("kind") in MergedModel.kinds
    lines = _merged_lines(file) if is_merged else [f"{path}: a checkpoint", *_metadata_lines(file)]
    lines += [f"file: {size:,} bytes, {tensors:,} of them tensors, the rest header"]
    return "\n".join(
        [*lines, *_type_lines(file), *_tensor_lines(file, list_tensors or not is_merged)]
    )


def _merged_lines(file: Checkpoint) -> list[str]:
    try:
        merged = load_merged(file.path)
        tasks, storage = ", ".join(merged.tasks), merged.storage()
        size = math.ceil(storage.bits / 8)
        recipe = {**merged.recipe}
        parameters, hashes = recipe.pop("parameters", {}), recipe.pop("sha256", {})
        lines = [f"  {name}: {_text(value)}" for name, value in recipe.items()]
        lines += [f"  {name} = {_text(value)}" for name, value in parameters.items()]
        if hashes:
            named = {"base": hashes["base"], **hashes["experts"]}
            images = hashes.get("images", {})
            named |= {f"images of {task}": digest for task, digest in images.items()}
            lines += ["inputs, by SHA-256", *(f"  {key}: {value}" for key, value in named.items())]
    except MergebookError:
        raise
    except Exception as error:  # a file may lie in more ways than can be listed
        raise CheckpointError(
            f"{file.path} claims to be a merged model, but its metadata is damaged ({shown(error)})"
        ) from error
    return [
        f"{file.path}: a merged model of kind {merged.kind!r}",
        f"tasks: {tasks}",
        f"backbone: {merged.backbone or '(not named)'}",
        "recipe",
        *lines,
        f"sizes: {merged.sizes.num_trained:,} trained entries, {merged.sizes.num_frozen:,} frozen",
        f"storage: {storage.formula()}",
        *(f"  {part.name}: {part.count:,} of {part.bits} bits" for part in storage.parts),
        f"  together: {size:,} bytes",
    ]


def _metadata_lines(file: Checkpoint) -> list[str]:
    if not file.metadata:
        return ["metadata: none"]
    entries = sorted(file.metadata.items())
    return ["metadata", *(f"  {name}: {_text(value)}" for name, value in entries)]


def _text(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}... ({len(text):,} characters)"


def _bytes(file: Checkpoint, key: str) -> int:
    return math.prod(file.shape(key)) * file.dtype(key).itemsize


def _type_lines(file: Checkpoint) -> list[str]:
    rows = {}
    for key in file:
        name = _name(file.dtype(key))
        tensors, entries, size = rows.get(name, (0, 0, 0))
        rows[name] = (
            tensors + 1, entries + math.prod(file.shape(key)), size + _bytes(file, key)
        )  # fmt: skip
    lines = [
        f"  {name:10} {tensors:>6,} tensors {entries:>15,} entries {size:>15,} bytes"
        for name, (tensors, entries, size) in sorted(rows.items())
    ]
    return ["tensors by type", *lines]


def _tensor_lines(file: Checkpoint, wanted: bool) -> list[str]:
    if not wanted:
        return []
    width = max((len(key) for key in file), default=0)
    lines = [
        f"  {key:{width}}  {_name(file.dtype(key)):10} {list(file.shape(key))}"
        for key in sorted(file)
    ]
    return ["tensors", *lines]


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
