"""How the numbers of interventions are learned: representations come close to the experts'."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from torch.nn import functional as F

from mergebook.interventions.imitation import Imitation
from mergebook.interventions.merges import Learned
from mergebook.interventions.starts import orthonormal
from mergebook.learning import image_batches, minimise
from mergebook.merged import IntervenedModel
from mergebook.merged.intervened import Editor, Numbers, Site
from mergebook.registry import Learning
from mergebook.towers.tokens import joined, token_mean


def realised(free: Sequence[Numbers]) -> list[dict[str, Tensor]]:
    """The numbers of each site from those that are learned: ``r`` is made orthonormal."""
    return [
        {key: orthonormal(value) if key == "r" else value for key, value in numbers.items()}
        for numbers in free
    ]


def first_block(places: Sequence[str], num_blocks: int) -> int:
    """Number of the first block that a place is in; `num_blocks` if all are after the blocks."""
    found = [int(place.split(".")[1]) for place in places if place.startswith("blocks.")]
    return min(found, default=num_blocks)


def fit(
    imitation: Imitation,
    sites: Sequence[Site],
    free: Sequence[Numbers],
    learning: Learning,
    *,
    places: Sequence[str] = ("features",),
    learned: Learned | None = None,
) -> IntervenedModel:
    """Learn the numbers so that each task's representations come close to its teacher's.

    The loss is the sum over tasks and places of the mean absolute difference. No number serves two
    tasks, so that, as long as the merged weights stay, one pass over a batch of every task does
    what one step per task would do. Blocks before the first site run once per image.

    Parameters
    ----------
    imitation : Imitation
        The merged model, teachers and images.
    sites : sequence of Site
        Where the interventions sit.
    free : sequence of mapping of str to Tensor
        Their numbers at the start, as :func:`mergebook.interventions.starts.start` gives them. Not
        modified.
    learning : Learning
        Adam steps of each task, learning rate, and images of each task in a step.
    places : sequence of str
        Where representations are compared.
    learned : Learned, optional
        Coefficients that learn along: they make the merged weights, and those of the imitation are
        not used.
    """
    free = [{k: v.clone().requires_grad_() for k, v in numbers.items()} for numbers in free]
    editor, seen = Editor(sites, free), dict[str, Tensor]()

    def hook(place: str, x: Tensor) -> Tensor:
        x = editor(place, x)
        if place in places:
            seen[place] = token_mean(x, edited.there(x))
        return x

    edited = imitation.tower.with_hooks(edit=hook)
    block = first_block([*places, *(s.place for s in sites)], edited.num_blocks)
    inputs = imitation.entering(block) if learned is None else None
    if inputs is None:
        block, inputs = None, imitation.calibration.inputs

    def current_weights() -> Mapping[str, Tensor]:
        if learned is None:
            return imitation.weights
        return {key: value.float() for key, value in learned.weights().items()}

    batches = image_batches(imitation.calibration, learning)
    distance = (labels_missed if imitation.labelled else teachers_missed)(imitation, places)

    def loss(step: int) -> Tensor:
        chosen = Chosen({task: own[step] for task, own in batches.items()})
        x = joined([inputs[task][index] for task, index in chosen.images.items()])
        weights, numbers, parts = current_weights(), realised(free), []
        for rows in edited.portions(x):
            editor.numbers = [{k: v[chosen.tasks[rows]] for k, v in n.items()} for n in numbers]
            if block is None:
                edited(weights, x[rows])
            else:
                edited.rest(weights, x[rows], block)
            parts.append(distance(seen, chosen, rows))
        return torch.stack(parts).sum()

    @torch.no_grad()
    def model() -> IntervenedModel:
        numbers = [{k: v.clone() for k, v in own.items()} for own in realised(free)]
        experts, state = imitation.experts, imitation.merged.state_dict()
        if learned is not None:
            found = learned.weights()
            state |= {key: experts.to_base(key, found[key]) for key in experts.trained}
        merged = IntervenedModel(experts.tasks, experts.sizes, state, sites, numbers)
        merged.backbone = experts.backbone
        return merged

    leaves = [value for numbers in free for value in numbers.values()]
    leaves += [] if learned is None else [learned.step]
    watch = imitation.watch
    after = None if watch is None else lambda step: watch(step, model)
    minimise(leaves, loss, learning, after=after, by_step=True, what="interventions")
    return model()


@dataclass(frozen=True)
class Chosen:
    """Images of all tasks, one task after the other.

    Attributes
    ----------
    images : mapping of task to Tensor, int64 [n]
        Numbers of the task's images.
    """

    images: Mapping[str, Tensor]

    @cached_property
    def tasks(self) -> Tensor:
        """Number of each image's task, int64 [N]."""
        sizes = torch.tensor([len(index) for index in self.images.values()])
        return torch.arange(len(sizes)).repeat_interleave(sizes)

    @cached_property
    def share(self) -> Tensor:
        """One over the number of images of each image's task ``[N]``: sums become means."""
        return 1 / self.tasks.bincount()[self.tasks]

    def of(self, values: Mapping[str, Tensor]) -> Tensor:
        """What belongs to the images ``[N, .]``, of what belongs to all images of each task."""
        return torch.cat([values[task][index] for task, index in self.images.items()])


# From what was computed at each place for some of the chosen images, which ones, to their loss.
Distance = Callable[[Mapping[str, Tensor], Chosen, Tensor], Tensor]


def teachers_missed(imitation: Imitation, places: Sequence[str]) -> Distance:
    """Mean absolute difference to the teachers, summed over tasks and places."""
    targets = imitation.targets(places)

    def distance(seen: Mapping[str, Tensor], chosen: Chosen, rows: Tensor) -> Tensor:
        missed = [(seen[p] - chosen.of(targets[p])[rows]).abs().mean(-1) for p in places]
        return (torch.stack(missed) * chosen.share[rows]).sum()

    return distance


def labels_missed(imitation: Imitation, places: Sequence[str]) -> Distance:
    """Cross-entropy of the labels under each task's head, summed over tasks."""
    calibration = imitation.calibration

    def distance(seen: Mapping[str, Tensor], chosen: Chosen, rows: Tensor) -> Tensor:
        tasks, labels, total = chosen.tasks[rows], chosen.of(calibration.labels)[rows], 0.0
        for number, task in enumerate(chosen.images):
            mine = tasks == number
            logits = calibration.logits(seen["features"][mine], task)
            losses = F.cross_entropy(logits, labels[mine], reduction="none")
            total = total + (losses * chosen.share[rows[mine]]).sum()
        return total

    return distance
