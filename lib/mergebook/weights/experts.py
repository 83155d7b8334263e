"""A base and its experts, checked against each other and streamed layer by layer."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from mergebook.errors import CheckpointError, unknown
from mergebook.storage import Sizes
from mergebook.weights.checkpoint import Checkpoint
from mergebook.weights.layer import Layer
from mergebook.weights.qkv import Arranged, Qkv

Entries = Literal["trained", "stored"]
Source = Mapping[str, Tensor] | str | os.PathLike[str]
LISTED = 5  # names that an error message spells out before it counts the rest


class Experts:
    """A base, its experts, and their task vectors.

    Names, shapes and element types are compared at once, from the headers; values are read, one
    layer at a time, when they are needed. State dicts in memory and files take the same path and
    give the same bits. Inputs are never modified.

    Parameters
    ----------
    base : Checkpoint, mapping of str to Tensor, or path
        Pre-trained weights.
    experts : mapping of task to the same
        Fine-tuned weights, in the order of the tasks.
    entries : {"trained", "stored"}, default "trained"
        Which entries count where a method takes a share of all of them. Published densities of
        the CLIP line count every stored entry, also those that no expert changed
        [wang2024localizing, released code].
    frozen_extra : int, default 0
        Further frozen entries that belong to the model but are not in the files, such as a text
        tower. They count for storage, and under ``entries="stored"``.
    backbone : str, optional
        Name of the architecture; by default what the base's metadata says.
    progress : callable, optional
        Wraps the names of the tensors in each pass over them, as ``tqdm`` does.

    Raises
    ------
    CheckpointError
        If there is no expert, or a file cannot be read, or an expert differs from the base in
        names, shapes or element types. NaN and infinity are reported, with file or task and
        tensor, when the tensor is first read.

    Attributes
    ----------
    tasks : tuple of str
        The T tasks.
    base : mapping of str to Tensor
        Pre-trained weights. Read-only.
    """

    def __init__(
        self,
        base: Source,
        experts: Mapping[str, Source],
        *,
        entries: Entries = "trained",
        frozen_extra: int = 0,
        backbone: str | None = None,
        progress: Callable[[tuple[str, ...]], Iterable[str]] | None = None,
    ):
        if entries not in get_args(Entries):
            raise CheckpointError(unknown("choice of entries", entries, get_args(Entries)))
        if frozen_extra < 0:
            raise CheckpointError(f"frozen_extra must not be negative, got {frozen_extra}")
        if not experts:
            raise CheckpointError("at least one expert is needed, got none")
        self.entries = entries
        self.frozen_extra = frozen_extra
        self.progress = progress
        self.tasks = tuple(experts)
        self.base = _open(base, "base")
        self._experts = {
            task: _open(source, f"expert {task!r}") for task, source in experts.items()
        }
        self.backbone = backbone or getattr(self.base, "metadata", {}).get("backbone")
        self._check_architectures()

    # ------------------------------------------------------------------ what is there

    @cached_property
    def trained(self) -> tuple[str, ...]:
        """Names of the tensors to merge, sorted: floating point, changed by an expert."""
        names = self._watched(tuple(sorted(self._facts)))
        return tuple(key for key in names if self._is_trained(key))

    def expert(self, task: str) -> Mapping[str, Tensor]:
        """Weights of one expert. Read-only."""
        if task not in self._experts:
            raise CheckpointError(unknown("task", task, self.tasks))
        return self._experts[task]

    def _copy(self, **changes: Any) -> Experts:
        kept = {
            "base": self.base,
            "experts": self._experts,
            "entries": self.entries,
            "frozen_extra": self.frozen_extra,
            "backbone": self.backbone,
            "progress": self.progress,
        }
        return Experts(**kept | changes)

    def select(self, tasks: Iterable[str]) -> Experts:
        """The same base with some of the experts, in the order given."""
        return self._copy(experts={task: self.expert(task) for task in tasks})

    def counting(self, entries: Entries) -> Experts:
        """The same experts, with methods' shares taken over the trained or all stored entries."""
        return self._copy(entries=entries)

    def arranged(self, qkv: Qkv) -> Experts:
        """The same experts with query, key and value as one matrix, or as three.

        Names of the tensors that change are those of :mod:`mergebook.weights.qkv`; nothing is read
        until a layer is.

        Parameters
        ----------
        qkv : {"fused", "split"}
            One stacked matrix as in open_clip, or three as in Hugging Face's checkpoints.
        """
        experts = {task: Arranged(expert, qkv) for task, expert in self._experts.items()}
        return self._copy(base=Arranged(self.base, qkv), experts=experts)

    @property
    def num_trained(self) -> int:
        """P': entries of the tensors that at least one expert changed."""
        return self.sizes.num_trained

    @property
    def num_frozen(self) -> int:
        """F: all other entries, ``frozen_extra`` included."""
        return self.sizes.num_frozen

    @property
    def num_entries(self) -> int:
        """Entries that count: P' under ``entries="trained"``, P' + F under ``"stored"``."""
        return self.num_trained + (self.num_frozen if self.entries == "stored" else 0)

    @cached_property
    def dtype(self) -> torch.dtype:
        """Type of the arithmetic: float64 if a merged tensor has it, else float32."""
        wide = any(self._facts[key][1] == torch.float64 for key in self.trained)
        return torch.float64 if wide else torch.float32

    @cached_property
    def sizes(self) -> Sizes:
        """Numbers of trained and frozen entries by their width in bits."""
        trained, frozen = Counter(), Counter()
        names = set(self.trained)
        for key, (shape, dtype) in self._facts.items():
            counts = trained if key in names else frozen
            counts[dtype.itemsize * 8] += shape.numel()
        if self.frozen_extra:
            width = (trained or frozen).most_common(1)[0][0]
            frozen[width] += self.frozen_extra
        return Sizes(dict(trained), dict(frozen))

    # ------------------------------------------------------------------ reading

    def __iter__(self) -> Iterator[Layer]:
        return (self.layer(key) for key in self._watched(self.trained))

    def layer(self, key: str) -> Layer:
        """One layer: base ``[*s]`` and task vectors ``[T, *s]``.

        Raises
        ------
        CheckpointError
            If the base or an expert holds NaN or infinity there.
        """
        base = self.base[key].to(self.dtype)
        deltas = torch.empty((len(self.tasks), *base.shape), dtype=self.dtype, device=base.device)
        for row, expert in zip(deltas.unbind(0), self._experts.values(), strict=True):
            torch.sub(expert[key], base, out=row)
        # A value that is not finite makes the sum not finite; a sum may also overflow by itself.
        if not torch.isfinite(deltas.sum()):
            self._refuse_non_finite(key)
        return Layer(key, base, deltas, self.tasks)

    def to_base(self, key: str, merged: Tensor) -> Tensor:
        """Round a result to the element type of the base's tensor.

        Raises
        ------
        CheckpointError
            If the shape differs from the base's, or a value is too large for the type.
        """
        shape, dtype = self._facts[key]
        if merged.shape != shape:
            raise CheckpointError(
                f"tensor {key!r} came out with shape {tuple(merged.shape)}; "
                f"the base has {tuple(shape)}"
            )
        rounded = merged.to(dtype)
        if not torch.isfinite(rounded).all():
            raise CheckpointError(f"tensor {key!r} came out with NaN, infinity, or beyond {dtype}")
        return rounded

    # ------------------------------------------------------------------ checks

    @cached_property
    def _facts(self) -> dict[str, tuple[torch.Size, torch.dtype]]:
        return _facts(self.base)

    def _watched(self, names: tuple[str, ...]) -> Iterable[str]:
        return names if self.progress is None else self.progress(names)

    def _is_trained(self, key: str) -> bool:
        base = self.base[key]
        changed = [
            task for task, expert in self._experts.items() if not torch.equal(expert[key], base)
        ]
        if base.is_floating_point():
            if not changed:
                _refuse_if_not_finite(base, key, _label("base", self.base))
            return bool(changed)
        if changed:
            raise CheckpointError(
                f"tensor {key!r} is {base.dtype} and cannot be merged, "
                f"but {_label(f'expert {changed[0]!r}', self._experts[changed[0]])} changed it"
            )
        return False

    def _check_architectures(self) -> None:
        if not self._facts:
            raise CheckpointError(f"{_label('base', self.base)} holds no tensors")
        for task, expert in self._experts.items():
            facts = _facts(expert)
            if facts != self._facts:
                name = _label(f"expert {task!r}", expert)
                raise CheckpointError(
                    f"{name} does not fit the {_label('base', self.base)}: "
                    f"{_difference(self._facts, facts)}"
                )

    def _refuse_non_finite(self, key: str) -> None:
        _refuse_if_not_finite(self.base[key], key, _label("base", self.base))
        for task, expert in self._experts.items():
            name = _label(f"expert {task!r}", expert)
            _refuse_if_not_finite(expert[key], key, name)
            difference = expert[key].to(self.dtype) - self.base[key]
            _refuse_if_not_finite(difference, key, f"the difference between {name} and the base")


def _open(source: Source, name: str) -> Mapping[str, Tensor]:
    if isinstance(source, str | os.PathLike):
        return Checkpoint(Path(source))
    if isinstance(source, Checkpoint | Arranged):
        return source
    if isinstance(source, Mapping):
        for key, tensor in source.items():
            if not isinstance(tensor, Tensor):
                raise CheckpointError(
                    f"{name}: entry {key!r} is a {type(tensor).__name__}, not a tensor"
                )
        return {key: tensor.detach() for key, tensor in source.items()}
    raise CheckpointError(
        f"{name} must be a Checkpoint, a mapping of names to tensors, or a path; "
        f"got {type(source).__name__}"
    )


def _label(name: str, source: Mapping[str, Tensor]) -> str:
    path = getattr(source, "path", None)
    return f"{name} ({path})" if path else name


def _facts(source: Mapping[str, Tensor]) -> dict[str, tuple[torch.Size, torch.dtype]]:
    if isinstance(source, Checkpoint | Arranged):
        return {key: (torch.Size(source.shape(key)), source.dtype(key)) for key in source}
    return {key: (tensor.shape, tensor.dtype) for key, tensor in source.items()}


def _difference(expected: Mapping[str, tuple], found: Mapping[str, tuple]) -> str:
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


def _refuse_if_not_finite(tensor: Tensor, key: str, name: str) -> None:
    bad = int((~torch.isfinite(tensor)).sum())
    if bad:
        raise CheckpointError(f"{name}: tensor {key!r} holds {bad} values that are NaN or infinite")
