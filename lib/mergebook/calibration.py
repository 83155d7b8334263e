"""Images for the methods that look at some: statistics, adaptation, routing, interventions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from mergebook.errors import CheckpointError, MethodError, unknown
from mergebook.weights.qkv import Arranged

if TYPE_CHECKING:
    from mergebook.towers.tower import Tower


@dataclass(frozen=True)
class Calibration:
    """A few images per task with the heads that classify them.

    Attributes
    ----------
    backbone : str
        Architecture, one of :func:`mergebook.towers.clip.list_backbones`.
    inputs : mapping of task to Tensor, float32 [N, 3, S, S]
        Preprocessed images.
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
        If images, heads and labels are not for the same tasks, or a task has no image.
    """

    backbone: str
    inputs: Mapping[str, Tensor]
    heads: Mapping[str, Tensor]
    logit_scale: float
    labels: Mapping[str, Tensor] | None = None
    split: str = "train"

    def __post_init__(self) -> None:
        for name, given in (("heads", self.heads), ("labels", self.labels)):
            if given is not None and given.keys() != self.inputs.keys():
                wrong = ", ".join(sorted(given.keys() ^ self.inputs.keys()))
                raise MethodError(f"calibration: images and {name} differ in the tasks {wrong}")
        for task, images in self.inputs.items():
            if not len(images):
                raise MethodError(f"calibration: task {task!r} has no images")

    @property
    def tasks(self) -> tuple[str, ...]:
        """The tasks, in order."""
        return tuple(self.inputs)

    @cached_property
    def tower(self) -> Tower:
        """The image tower as a function of its weights."""
        from mergebook.towers.tower import Tower  # slow to import, and only needed with images

        return Tower(self.backbone)

    def check_fits(self, base: Mapping[str, Tensor]) -> None:
        """Refuse weights that are not an image tower of the backbone.

        Raises
        ------
        CheckpointError
            If one of the tower's tensors is missing or has another shape (names the first).
        """
        from mergebook.towers import clip

        tower: Mapping[str, Tensor] = clip.visual_template(self.backbone).state_dict()
        if any(key.endswith("[q]") for key in base):  # see Experts.arranged
            tower = Arranged(tower, "split")
        for key, value in tower.items():
            found = tuple(base[key].shape) if key in base else None
            if found != tuple(value.shape):
                raise CheckpointError(
                    f"the image tower of {self.backbone} has a tensor {key!r} of shape "
                    f"{tuple(value.shape)}; the base has "
                    + ("none" if found is None else f"one of shape {found}")
                )

    def select(self, tasks: Sequence[str]) -> Calibration:
        """The same images of some of the tasks, in the order given.

        Raises
        ------
        MethodError
            If there are none of a task.
        """
        for task in tasks:
            if task not in self.inputs:
                raise MethodError("calibration: " + unknown("task", task, self.tasks))
        parts = {
            name: {task: values[task] for task in tasks}
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
        generator = torch.Generator().manual_seed(seed)
        while True:
            yield from torch.randperm(len(self.inputs[task]), generator=generator).split(batch_size)

    def logits(self, features: Tensor, task: str, head: Tensor | None = None) -> Tensor:
        """Class scores ``[N, C]`` of features ``[N, D]`` under a task's head (or another one)."""
        head = self.heads[task] if head is None else head
        return self.logit_scale * F.normalize(features, dim=-1) @ head.T
