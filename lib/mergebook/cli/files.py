"""Merge checkpoint files into one file: what `mergebook merge` does."""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from mergebook.cli.output import check_output, claimed
from mergebook.cli.sources import Source, keep_of_base, read_in_a_type_for
from mergebook.errors import CheckpointError
from mergebook.merged import MergedModel
from mergebook.registry import get_method
from mergebook.weights import Experts
from mergebook.weights.experts import Entries

if TYPE_CHECKING:
    from mergebook.calibration import Calibration

File = str | os.PathLike[str]
Progress = Callable[[Sequence[Any]], Iterable[Any]]
_M_MMAP_THRESHOLD = -3  # option of mallopt(3)
MMAP_FROM = 1 << 20  # bytes from which a tensor gets memory of its own, see give_memory_back


def merge_files(
    method: str,
    base: File,
    experts: Mapping[str, File],
    out: File,
    params: Mapping[str, Any] | None = None,
    *,
    entries: Entries = "trained",
    frozen_extra: int = 0,
    backbone: str | None = None,
    dtype: str | None = None,
    from_base: Sequence[str] = (),
    calibration: Calibration | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> MergedModel:
    """Merge checkpoint files into one file, layer by layer.

    At any time one layer of all experts and the result are in memory. The recipe in the result's
    metadata says method, parameters, entries, version, and the SHA-256 of each input (of images, of
    the preprocessed float32 values); it names no file, so that equal inputs give equal bytes
    wherever they lie.

    Parameters
    ----------
    method : str
        Name of a method.
    base : path
        Pre-trained weights.
    experts : mapping of task to path
        Fine-tuned weights, in the order of the tasks.
    out : path
        Where the result goes. Written whole or not at all, by one process at a time.
    params : mapping, optional
        Parameters of the method.
    entries, frozen_extra, backbone
        As for :class:`~mergebook.weights.Experts`.
    dtype : {"float64", "float32", "bfloat16", "float16"}, optional
        Type of the result's floating-point tensors; by default that of each tensor of the base.
        The arithmetic is never narrower than float32 and its result is rounded once.
    from_base : sequence of str, optional
        Names of tensors (``*`` stands for any characters) that are taken from the base, whatever
        the experts have, such as the counters of batch normalisation: whole numbers, which have no
        average and do not matter for predictions.
    calibration : Calibration, optional
        Images, for a method that needs some.
    overwrite : bool, default False
        Whether an existing file may be replaced.
    progress : callable, optional
        Wraps the names in each pass over tensors or files, as ``tqdm`` does.

    Returns
    -------
    MergedModel
        What was written.

    Raises
    ------
    CheckpointError
        If an input cannot be read or does not fit, or the result cannot be written: it exists, is
        one of the inputs, or a value is too large for the type.
    MethodError
        If the method is unknown or needs images.
    ParameterError
        If a parameter, or the type, is not valid for the method.
    """
    chosen = get_method(method)
    params = chosen.check(**(params or {}))
    base, out = Path(base), Path(out)
    paths = {task: Path(path) for task, path in experts.items()}
    named = {"the base": base, **{f"expert {task!r}": path for task, path in paths.items()}}
    check_output(out, named, overwrite=overwrite)

    first, *others = sources = [Source(path) for path in named.values()]
    kept = keep_of_base(from_base, first, others)
    read_in_a_type_for(dtype, sources)
    for source in sources:
        source.hash_while_reading()
    opened = Experts(
        first,
        dict(zip(paths, others, strict=True)),
        entries=entries,
        frozen_extra=frozen_extra,
        backbone=backbone,
        progress=progress,
    )
    merge = chosen.on(opened, calibration, dtype=dtype, reuse=False)
    with claimed(out, overwrite=overwrite) as place:
        merged = merge(**params)
        if kept:
            merged.recipe["from_base"] = kept
        by_task = {task: source.sha256() for task, source in zip(paths, others, strict=True)}
        merged.recipe["sha256"] = {"base": first.sha256(), "experts": by_task}
        if chosen.needs:
            merged.recipe["sha256"]["images"] = _hashes(calibration.select(opened.tasks))
        try:
            merged.save(place)
        except CheckpointError as error:  # names the place, which is of no interest
            raise CheckpointError(f"cannot write {out}: {error.__cause__ or error}") from error
    return merged


def _hashes(used: Calibration) -> dict[str, str]:
    return {
        task: hashlib.sha256(images.contiguous().numpy()).hexdigest()
        for task, images in used.inputs.items()
    }


def suite_calibration(
    suite: str, backbone: str, tasks: Sequence[str], num_images: int = 256
) -> Calibration:
    """Training images of a suite's tasks, for a method that needs images.

    Parameters
    ----------
    suite : str
        What :func:`~mergebook.suites.load_suite` takes.
    backbone : str
        Architecture of the merged tower, one of :func:`~mergebook.towers.backbones.list_backbones`.
    tasks : sequence of str
        Names of the tasks.
    num_images : int, default 256
        Images of each task, as far as the task has them.

    Raises
    ------
    SuiteError, BackboneError
        If suite, task or backbone is unknown, or `num_images` is not positive.
    """
    from mergebook.calibration import Calibration
    from mergebook.suites import load_suite
    from mergebook.towers.backbones import build_head, load_backbone  # slow, for images only
    from mergebook.training.finetuning import DATA_SEED

    chosen, tower = load_suite(suite).select(tasks), load_backbone(backbone)
    splits = {
        task.name: task.examples("train", task.at_most("train", num_images), DATA_SEED)
        for task in chosen
    }
    return Calibration(
        backbone=tower.name,
        inputs={name: tower.preprocess(split.inputs) for name, split in splits.items()},
        heads={task.name: build_head(tower, task) for task in chosen},
        logit_scale=tower.logit_scale,
        labels={name: torch.from_numpy(split.labels) for name, split in splits.items()},
    )


def give_memory_back() -> None:
    """Have freed layers leave this process, where the C library is GNU's.

    It would keep them for later, but cannot fill their aligned places again: memory would grow
    with every layer that a merge has done with. Holds for all that the process does from now on,
    and makes it a little slower; meant for a process that only merges.
    """
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, MMAP_FROM)
