"""A base and its experts, checked against each other and streamed layer by layer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cached_property
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from mergebook.errors import CheckpointError, unknown
from mergebook.storage import Sizes
from mergebook.weights.changes import Changes, differing, pieces
from mergebook.weights.layer import Layer
from mergebook.weights.qkv import Arranged, Piece, Qkv
from mergebook.weights.sources import (
    Source,
    facts_of_all,
    label,
    open_experts,
    open_source,
    refuse_if_not_finite,
)

Entries = Literal["trained", "stored"]
MOST_EXTRA = 10**15  # frozen entries outside the files; no model comes near


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
        if type(frozen_extra) is not int or not 0 <= frozen_extra <= MOST_EXTRA:
            raise CheckpointError(
                f"frozen_extra must not be negative, a whole number up to {MOST_EXTRA:.0e}; "
                f"got {frozen_extra!r}"
            )
        self.entries = entries
        self.frozen_extra = frozen_extra
        self.progress = progress
        if progress is not None and not callable(progress):
            raise CheckpointError(f"progress must wrap names, as tqdm does; got {progress!r}")
        self._experts = open_experts(experts)
        self.tasks = tuple(self._experts)
        self.base = open_source(base, "base")
        self._changes = Changes()
        self.backbone = backbone or getattr(self.base, "metadata", {}).get("backbone")
        self._facts = facts_of_all(self.base, self._experts)

    # ------------------------------------------------------------------ what is there

    @cached_property
    def trained(self) -> tuple[str, ...]:
        """Names of the tensors to merge, sorted: floating point, changed by an expert."""
        unknown = [key for key in self._names if self._changed(key) is None]
        for key in self._watched(tuple(unknown)) if unknown else ():
            self._compare(key)
        return tuple(key for key in self._names if self._changed(key))

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
        return self._copy(entries=entries)._sharing(self._changes)

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
        view = self._copy(base=Arranged(self.base, qkv), experts=experts)
        return view if isinstance(self.base, Arranged) else view._sharing(self._changes)

    def _sharing(self, changes: Changes) -> Experts:
        """These experts, with what is known of others that hold the same weights."""
        self._changes = changes
        return self

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
        wide = [key for key in self._names if self._facts[key][1] == torch.float64]
        return torch.float64 if any(map(self._is_trained, wide)) else torch.float32

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
        """The layers that an expert changed, in the order of :attr:`trained`.

        The first time, experts are compared with the base on the way: no pass is spent on it.
        """
        names = [key for key in self._names if self._changed(key) is not False]
        for key in self._watched(tuple(names)):
            if not self._facts[key][1].is_floating_point:
                self._compare(key)
            elif (layer := self._read(key)) is not None:
                yield layer

    def layer(self, key: str) -> Layer:
        """One layer: base ``[*s]`` and task vectors ``[T, *s]``.

        Raises
        ------
        CheckpointError
            If the base or an expert holds NaN or infinity there.
        """
        return self._read(key, frozen=True)

    def _read(self, key: str, *, frozen: bool = False) -> Layer | None:
        """A layer, read expert by expert; None for a frozen one unless that is asked for."""
        own, base, deltas = self.base[key], None, None
        known, changed = self._changed(key), set()
        for row, expert in enumerate(self._experts.values()):
            tensor = expert[key]
            if known is None and len(changed) < len(pieces(self.base, key)):
                changed |= differing(self.base, key, own, tensor)
            if deltas is None and (frozen or known or changed):
                base = own.to(self.dtype)
                shape = (len(self.tasks), *base.shape)
                deltas = torch.empty(shape, dtype=self.dtype, device=base.device)
                for before, task in enumerate(self.tasks[:row]):  # equal to the base so far
                    torch.sub(self._experts[task][key], base, out=deltas[before])
            if deltas is not None:
                torch.sub(tensor, base, out=deltas[row])
        if known is None:
            self._note(key, own, changed)
        if deltas is None:
            return None
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
    def _names(self) -> tuple[str, ...]:
        return tuple(sorted(self._facts))

    def _watched(self, names: tuple[str, ...]) -> Iterable[str]:
        return names if self.progress is None else self.progress(names)

    def _changed(self, key: str) -> bool | None:
        """Whether an expert changed a tensor, None if that is not known yet."""
        return self._changes.of(self.base, key)

    def _is_trained(self, key: str) -> bool:
        if self._changed(key) is None:
            self._compare(key)
        return bool(self._changed(key))

    def _compare(self, key: str) -> None:
        """Find out whether an expert changed a tensor."""
        own, changed = self.base[key], set()
        for expert in self._experts.values():
            changed |= differing(self.base, key, own, expert[key])
            if len(changed) == len(pieces(self.base, key)):
                break
        self._note(key, own, changed)

    def _note(self, key: str, own: Tensor, changed: set[Piece]) -> None:
        """Keep what was found of a tensor, and refuse what can be neither kept nor merged."""
        if not changed:
            refuse_if_not_finite(own, key, label("base", self.base))
        elif not own.is_floating_point():
            changer = next(t for t in self.tasks if not torch.equal(self._experts[t][key], own))
            raise CheckpointError(
                f"tensor {key!r} is {own.dtype} and cannot be merged, "
                f"but {label(f'expert {changer!r}', self._experts[changer])} changed it; "
                f"`mergebook merge --from-base {key}` (in Python, the base's tensor in each "
                f"expert) keeps the base's, which is right for a counter"
            )
        self._changes.note(self.base, key, changed)

    def _refuse_non_finite(self, key: str) -> None:
        refuse_if_not_finite(self.base[key], key, label("base", self.base))
        for task, expert in self._experts.items():
            name = label(f"expert {task!r}", expert)
            refuse_if_not_finite(expert[key], key, name)
            difference = expert[key].to(self.dtype) - self.base[key]
            refuse_if_not_finite(difference, key, f"the difference between {name} and the base")
