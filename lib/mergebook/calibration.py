"""Images, or texts, for the methods that look at some: statistics, adaptation, routing, ..."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from numbers import Real
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from mergebook.errors import CheckpointError, MethodError, shown, unknown
from mergebook.weights.qkv import Arranged, shape_of
from mergebook.weights.sources import ordinary

if TYPE_CHECKING:
    from mergebook.towers.tower import Tower

FIELDS = {"inputs": "inputs", "heads": "classes", "labels": "labels"}


@dataclass(frozen=True)
class Calibration:
    """A few images per task with the heads that classify them; or texts, for a text encoder.

    Attributes
    ----------
    backbone : str
        Architecture, one of :func:`mergebook.towers.backbones.list_backbones`.
    inputs : mapping of task to Tensor
        Preprocessed images, float32 [N, 3, S, S]; or texts, int64 [N, L].
    heads : mapping of task to Tensor, float32 [C, D]
        Zero-shot heads; rows have unit length.
    logit_scale : float
        Factor on the cosine similarities.
    labels : mapping of task to Tensor, int64 [N], optional
        Class labels; only methods that say so (``needs`` has "labels") may read them.
    split : str
        Split that the images come from, for the record.

    Raises
    ------
    MethodError
        If images, heads and labels are not for the same tasks, or those of a task are not of the
        type and shape above, there are none, a label is no class of the head, or the heads have
        different widths. The message names task and field.
    """

    backbone: str
    inputs: Mapping[str, Tensor]
    heads: Mapping[str, Tensor]
    logit_scale: float
    labels: Mapping[str, Tensor] | None = None
    split: str = "train"

    def __post_init__(self) -> None:
        fields = {"inputs": self.inputs, "heads": self.heads}
        if self.labels is not None:
            fields["labels"] = self.labels
        for field, given in fields.items():
            if not isinstance(given, Mapping):
                raise MethodError(
                    f"calibration: {field} must be a mapping of task to tensor, "
                    f"not a {type(given).__name__}"
                )
            if given.keys() != self.inputs.keys():
                wrong = ", ".join(sorted(map(str, given.keys() ^ self.inputs.keys())))
                raise MethodError(f"calibration: images and {field} differ in the tasks {wrong}")
        if not self.inputs:
            raise MethodError("calibration: there are no tasks, so no images")
        if not (isinstance(self.logit_scale, Real) and math.isfinite(self.logit_scale)):
            raise MethodError(
                f"calibration: logit_scale must be a number, got {shown(self.logit_scale)}"
            )
        for task in self.inputs:
            self._check_task(task)

    def _check_task(self, task: str) -> None:
        wanted = "floating point [N, 3, S, S], or whole numbers [N, L]"
        _check(task, "inputs", self.inputs[task], wanted, _are_inputs)
        _check(task, "heads", self.heads[task], "floating point [C, D]", _is_head)
        width, first = self.heads[task].shape[1], next(iter(self.heads))
        if width != self.heads[first].shape[1]:
            raise MethodError(
                f"calibration: heads of task {task!r} have width {width}, "
                f"those of task {first!r} {self.heads[first].shape[1]}"
            )
        if self.labels is None:
            return
        labels, images, classes = self.labels[task], self.inputs[task], len(self.heads[task])
        _check(task, "labels", labels, "whole numbers [N]", _are_labels)
        if len(labels) != len(images):
            raise MethodError(
                f"calibration: task {task!r} has {len(labels)} labels for {len(images)} images"
            )
        if not 0 <= int(labels.min()) <= int(labels.max()) < classes:
            raise MethodError(
                f"calibration: labels of task {task!r} are from {int(labels.min())} to "
                f"{int(labels.max())}; its head has the classes 0 to {classes - 1}"
            )

    @property
    def tasks(self) -> tuple[str, ...]:
        """The tasks, in order."""
        return tuple(self.inputs)

    @cached_property
    def tower(self) -> Tower:
        """The encoder as a function of its weights."""
        from mergebook.towers.backbones import build_tower  # slow to import, for images only

        return build_tower(self.backbone)

    def check_fits(self, base: Mapping[str, Tensor]) -> None:
        """Refuse weights, inputs or heads that are not for the backbone's encoder.

        Raises
        ------
        BackboneError
            If there is no backbone of that name.
        MethodError
            If the inputs have another size, or the heads another width, than the backbone's.
        CheckpointError
            If one of the tower's tensors is missing or has another shape (names the first).
        """
        self._check_sizes()
        stored = base.source if isinstance(base, Arranged) else base
        for key, shape in self.tower.shapes().items():
            found = shape_of(stored, key) if key in stored else None
            if found != tuple(shape):
                raise CheckpointError(
                    f"the {self.tower.modality} tower of {self.backbone} has a tensor {key!r} of "
                    f"shape {tuple(shape)}; the base has "
                    + ("none" if found is None else f"one of shape {found}")
                )

    def _check_sizes(self) -> None:
        width = self.tower.num_features
        for task, inputs in self.inputs.items():
            if not self.tower.fits(inputs):
                raise MethodError(
                    f"calibration: inputs of task {task!r} are {_described(inputs)}; "
                    f"{self.backbone} takes {self.tower.wanted}, see Backbone.preprocess"
                )
            if self.heads[task].shape[1] != width:
                raise MethodError(
                    f"calibration: heads of task {task!r} have width {self.heads[task].shape[1]}; "
                    f"features of {self.backbone} have {width}"
                )

    def select(self, tasks: Sequence[str]) -> Calibration:
        """The same images of some of the tasks, in the order given, fit to learn from.

        Raises
        ------
        MethodError
            If there are none of a task.
        """
        for task in tasks:
            if task not in self.inputs:
                raise MethodError("calibration: " + unknown("task", task, self.tasks))
        parts = {
            name: {task: ordinary(values[task]) for task in tasks}
            for name in ("inputs", "heads", "labels")
            if (values := getattr(self, name)) is not None
        }
        return replace(self, **parts)

    def first(self, num_images: int) -> Calibration:
        """The first so many images of each task (all, where a task has fewer)."""
        parts = {
            name: {task: value[:num_images] for task, value in values.items()}
            for name in ("inputs", "labels")
            if (values := getattr(self, name)) is not None
        }
        return replace(self, **parts)

    def batches(self, task: str, batch_size: int, seed: int = 0) -> Iterator[Tensor]:
        """Endless batches of image numbers, int64 [B]: each pass over a task in a new random order.

        The last batch of a pass may be smaller. Equal seeds give equal batches, whatever other
        tasks there are.
        """
        return random_passes(len(self.inputs[task]), batch_size, seed)

    def logits(self, features: Tensor, task: str, head: Tensor | None = None) -> Tensor:
        """Class scores ``[N, C]`` of features ``[N, D]`` under a task's head (or another one)."""
        head = self.heads[task] if head is None else head
        return self.logit_scale * F.normalize(features, dim=-1) @ head.T


def random_passes(number: int, batch_size: int, seed: int) -> Iterator[Tensor]:
    """Endless batches of the numbers below `number`, int64 [B]: each pass in a new random order."""
    generator = torch.Generator().manual_seed(seed)
    while True:
        yield from torch.randperm(number, generator=generator).split(batch_size)


def _check(
    task: str, field: str, value: object, wanted: str, fits: Callable[[Tensor], bool]
) -> None:
    if not isinstance(value, Tensor):
        found = f"a {type(value).__name__}"
    elif not value.numel():
        raise MethodError(f"calibration: task {task!r} has no {FIELDS[field]}")
    elif fits(value):
        return
    else:
        found = _described(value)
    raise MethodError(f"calibration: {field} of task {task!r} must be {wanted}, got {found}")


def _described(value: Tensor) -> str:
    return f"{str(value.dtype).removeprefix('torch.')} {list(value.shape)}"


def _are_inputs(value: Tensor) -> bool:
    are_texts = value.dtype == torch.int64 and value.ndim == 2
    return are_texts or (value.is_floating_point() and value.ndim == 4 and value.shape[1] == 3)


def _is_head(value: Tensor) -> bool:
    return value.is_floating_point() and value.ndim == 2


def _are_labels(value: Tensor) -> bool:
    whole = not (value.is_floating_point() or value.is_complex() or value.dtype == torch.bool)
    return whole and value.ndim == 1
