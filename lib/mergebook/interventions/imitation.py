"""A merged model that is to compute what the experts compute."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import torch
from torch import Tensor

from mergebook.calibration import Calibration
from mergebook.interventions.merges import shared_merge
from mergebook.merged import MergedModel
from mergebook.merged.intervened import IntervenedModel, fresh
from mergebook.towers.tokens import joined, token_mean
from mergebook.towers.tower import Tower, Weights
from mergebook.weights import Experts

CHUNK = 256  # images per forward pass without gradients
LARGEST = 2**31  # bytes of activations that are kept


@dataclass(frozen=True)
class Imitation:
    """What all corrections of one merged model share: the model, its teachers, and images.

    What the teachers compute, and what enters the first block that is edited, is computed when it
    is first asked for, and kept.

    Attributes
    ----------
    experts : Experts
        The tasks, and their teachers if no others are given.
    calibration : Calibration
        Images of each task.
    merged : MergedModel
        One state dict for all tasks.
    teachers : mapping of task to weights, optional
        Whom to imitate.
    labelled : bool, default False
        Whether the corrections learn the images' labels instead, under the zero-shot heads: what
        imitation could reach at best.
    watch : callable, optional
        ``watch(step, model)`` is called after each step with its number, from 0, and a function
        that gives the model as it is then.
    """

    experts: Experts
    calibration: Calibration
    merged: MergedModel
    teachers: Mapping[str, Weights] | None = None
    labelled: bool = False
    watch: Callable[[int, Callable[[], IntervenedModel]], object] | None = None
    _targets: dict[str, dict[str, Tensor]] = field(default_factory=dict, repr=False)
    _entering: dict[int, dict[str, Tensor]] = field(default_factory=dict, repr=False)

    @classmethod
    def of(
        cls, experts: Experts, calibration: Calibration, *, merge: str, scale: float
    ) -> Imitation:
        """Imitation by one of the static merges, see :func:`shared_merge`."""
        return cls(experts, calibration, shared_merge(experts, calibration, merge, scale))

    def taught_by(self, teachers: Mapping[str, Weights]) -> Imitation:
        """The same with other teachers, and so with targets of its own."""
        return replace(self, teachers=teachers, _targets={})

    @property
    def tasks(self) -> tuple[str, ...]:
        """The tasks."""
        return self.experts.tasks

    @property
    def tower(self) -> Tower:
        """The encoder as a function of its weights."""
        return self.calibration.tower

    @cached_property
    def weights(self) -> dict[str, Tensor]:
        """The merged weights, float32."""
        return fresh(self.merged.state_dict())

    def targets(self, places: Sequence[str]) -> dict[str, dict[str, Tensor]]:
        """What the teachers compute, place by place and task by task, see :func:`outputs`."""
        missing = [place for place in places if place not in self._targets]
        for task in self.tasks if missing else ():
            weights = self.teachers[task] if self.teachers else self.experts.expert(task)
            images = self.calibration.inputs[task]
            for place, seen in outputs(self.tower, fresh(weights), images, missing).items():
                self._targets.setdefault(place, {})[task] = seen
        return {place: self._targets[place] for place in places}

    def entering(self, block: int) -> dict[str, Tensor] | None:
        """What enters a block under the merged weights, ``[N, L, d]`` of each task's images.

        What leaves the last block is asked for by the number of blocks; of it, only what features
        are made of is kept. None where it would take too much memory. The last answer is kept.
        """
        tower = self.tower
        tokens = 1 if block == tower.num_blocks else tower.num_tokens
        total = sum(map(len, self.calibration.inputs.values()))
        if 4 * total * tokens * tower.width > LARGEST:
            return None
        if block not in self._entering:
            self._entering.clear()
            self._entering[block] = {
                task: entering(tower, self.weights, images, block)
                for task, images in self.calibration.inputs.items()
            }
        return self._entering[block]


@torch.no_grad()
def entering(tower: Tower, weights: Weights, images: Tensor, block: int) -> Tensor:
    """What enters a block, ``[N, L, d]``; after the last one, its readout ``[N, 1, d]``."""
    found = []
    for chunk in images.split(CHUNK):
        x = tower.embed(weights, chunk)
        for each in range(block):
            x = tower.block(weights, each, x)
        found.append(tower.readout(x).clone() if block == tower.num_blocks else x)
    return joined(found)


@torch.no_grad()
def outputs(
    tower: Tower, weights: Weights, images: Tensor, places: Sequence[str]
) -> dict[str, Tensor]:
    """What a model computes at some places ``[N, .]``: features, or the mean over tokens."""
    seen: dict[str, list[Tensor]] = {place: [] for place in places}

    def watch(place: str, x: Tensor) -> Tensor:
        if place in seen:
            seen[place].append(token_mean(x, tower.there(x)))
        return x

    watched = tower.with_hooks(edit=watch)
    for chunk in images.split(CHUNK):
        watched(weights, chunk)
    return {place: torch.cat(parts) for place, parts in seen.items()}
