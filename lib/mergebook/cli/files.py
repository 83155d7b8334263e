"""Merge checkpoint files into one file: what `mergebook merge` does."""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_type_hints

import torch
from torch import Tensor

from mergebook.errors import CheckpointError, MethodError, ParameterError, unknown
from mergebook.merged import MergedModel, SharedModel
from mergebook.registry import Method, get_method
from mergebook.storage import Sizes
from mergebook.weights import Checkpoint, Experts
from mergebook.weights.experts import Entries

if TYPE_CHECKING:
    from mergebook.calibration import Calibration

File = str | os.PathLike[str]
Progress = Callable[[Sequence[Any]], Iterable[Any]]
_M_MMAP_THRESHOLD = -3  # option of mallopt(3)
MMAP_FROM = 1 << 20  # bytes from which a tensor gets memory of its own, see give_memory_back
DTYPES = {
    str(dtype).removeprefix("torch."): dtype
    for dtype in (torch.float64, torch.float32, torch.bfloat16, torch.float16)
}


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
        Where the result goes. Written whole or not at all.
    params : mapping, optional
        Parameters of the method.
    entries, frozen_extra, backbone
        As for :class:`~mergebook.weights.Experts`.
    dtype : {"float64", "float32", "bfloat16", "float16"}, optional
        Type of the result's floating-point tensors; by default that of each tensor of the base.
        The arithmetic is never narrower than float32 and its result is rounded once.
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
    if chosen.needs and calibration is None:
        raise MethodError(
            f"{method} needs {' and '.join(chosen.needs)} of the tasks, not only weights: name a "
            f"suite that has these tasks (--suite, with --backbone), or run the method in a "
            f"notebook or from Python, where it takes a Calibration"
        )
    base, out = Path(base), Path(out)
    paths = {task: Path(path) for task, path in experts.items()}
    _check_out(out, {"the base": base, **{f"expert {t!r}": p for t, p in paths.items()}}, overwrite)

    sources = [Checkpoint(path) for path in (base, *paths.values())]
    wanted = None if dtype is None else _wanted(chosen, dtype, sources)
    if wanted is not None:
        kinds = [source.dtype(key) for source in sources for key in source]
        widest = _widest([wanted, torch.float32, *kinds])
        sources = [Widened(source.path, widest) for source in sources]
    for source in sources:
        source.hash_while_reading()
    opened = Experts(
        sources[0],
        dict(zip(paths, sources[1:], strict=True)),
        entries=entries,
        frozen_extra=frozen_extra,
        backbone=backbone,
        progress=progress,
    )
    merged = chosen(opened, calibration, **params)
    if wanted is not None:
        merged = _rounded(merged, wanted)
        merged.recipe["dtype"] = dtype
    if frozen_extra:
        merged.recipe["frozen_extra"] = frozen_extra
    hashes = [source.sha256() for source in _watched(sources, progress)]
    by_task = dict(zip(paths, hashes[1:], strict=True))
    merged.recipe["sha256"] = {"base": hashes[0], "experts": by_task}
    if chosen.needs:
        used = calibration.select(opened.tasks)
        merged.recipe["images"] = {task: len(images) for task, images in used.inputs.items()}
        merged.recipe["split"] = used.split
        merged.recipe["sha256"]["images"] = {
            task: hashlib.sha256(images.contiguous().numpy()).hexdigest()
            for task, images in used.inputs.items()
        }
    merged.save(out)
    return merged


def suite_calibration(
    suite: str, backbone: str, tasks: Sequence[str], num_images: int = 256
) -> Calibration:
    """Training images of a suite's tasks, for a method that needs images.

    Parameters
    ----------
    suite : str
        What :func:`~mergebook.suites.load_suite` takes.
    backbone : str
        Architecture of the merged tower, one of :func:`~mergebook.towers.clip.list_backbones`.
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
    from mergebook.towers import clip  # slow to import, and only needed with images
    from mergebook.training.finetuning import DATA_SEED

    chosen, tower = load_suite(suite).select(tasks), clip.load_backbone(backbone)
    splits = {
        task.name: task.images("train", task.at_most("train", num_images), DATA_SEED)
        for task in chosen
    }
    return Calibration(
        backbone=tower.name,
        inputs={name: tower.preprocess(split.images) for name, split in splits.items()},
        heads={task.name: clip.build_head(tower, task) for task in chosen},
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


def _watched(items: Sequence[Any], progress: Progress | None) -> Iterable[Any]:
    return items if progress is None else progress(items)


def _check_out(out: Path, inputs: Mapping[str, Path], overwrite: bool) -> None:
    if out.is_dir():
        raise CheckpointError(f"cannot write {out}: it is a folder")
    if not out.exists():
        return
    for name, path in inputs.items():
        if path.exists() and out.samefile(path):
            raise CheckpointError(f"cannot write {out}: it is {name}; inputs are never replaced")
    if not overwrite:
        raise CheckpointError(f"{out} exists; --force (in Python, overwrite=True) replaces it")


# ---------------------------------------------------------------------- the type of the result


class Widened(Checkpoint):
    """A checkpoint whose floating-point tensors are read in a type that holds their values."""

    def __init__(self, path: File, wide: torch.dtype):
        self.wide = wide
        super().__init__(path)

    def dtype(self, key: str) -> torch.dtype:
        """Element type of a tensor, as it is read."""
        stored = super().dtype(key)
        return self.wide if stored.is_floating_point else stored

    def __getitem__(self, key: str) -> Tensor:
        return super().__getitem__(key).to(self.dtype(key))

    def __reduce__(self):
        return Widened, (self.path, self.wide)


def _wanted(method: Method, dtype: str, sources: Sequence[Checkpoint]) -> torch.dtype:
    """The type that was asked for, if the method's solution can be stored in it."""
    if dtype not in DTYPES:
        raise ParameterError(unknown("dtype", dtype, DTYPES))
    wanted = DTYPES[dtype]
    kinds = [source.dtype(key) for source in sources for key in source]
    narrows = _widest([wanted, torch.float32, *kinds]) != wanted
    if narrows and get_type_hints(method.function).get("return") not in (Tensor, SharedModel):
        raise ParameterError(
            f"{method.name} keeps more than one set of weights, which is stored as the inputs "
            f"are; dtype {dtype} is for methods that give one model. Convert the inputs first"
        )
    return wanted


def _widest(dtypes: Iterable[torch.dtype]) -> torch.dtype:
    """The narrowest type that holds all values of those among the types that are floating."""
    wide = torch.float16
    for dtype in dtypes:
        if dtype.is_floating_point:
            wide = torch.promote_types(wide, dtype)
    return wide


def _rounded(merged: MergedModel, wanted: torch.dtype) -> MergedModel:
    """The solution with its floating-point tensors in the type that was asked for."""
    if not isinstance(merged, SharedModel):
        return merged  # read in that type already, see _wanted
    bits = 8 * wanted.itemsize
    weights = merged.weights = dict(merged.weights)
    frozen = Counter({bits: merged.sizes.num_frozen})
    for key, tensor in weights.items():
        if tensor.is_floating_point():
            weights[key] = tensor.to(wanted)  # in place of the wide one, which is let go
            if not torch.isfinite(weights[key]).all():
                raise CheckpointError(f"tensor {key!r} came out beyond the range of {wanted}")
        else:
            frozen[bits] -= tensor.numel()
            frozen[8 * tensor.dtype.itemsize] += tensor.numel()
    trained = Counter({bits: merged.sizes.num_trained})
    merged.sizes = Sizes(dict(+trained), dict(+frozen))  # + drops the zeros
    return merged
