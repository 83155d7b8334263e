"""How the numbers of interventions are learned: representations come close to the experts'."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from mergebook.calibration import Calibration
from mergebook.interventions.merges import Learned
from mergebook.interventions.starts import orthonormal
from mergebook.learning import image_streams, minimise
from mergebook.merged import IntervenedModel, MergedModel
from mergebook.merged.intervened import Editor, Numbers, Site, fresh
from mergebook.registry import Learning
from mergebook.towers.tower import Tower
from mergebook.weights import Experts

CHUNK = 256  # images per forward pass without gradients


def realised(free: Sequence[Numbers]) -> list[dict[str, Tensor]]:
    """The numbers of each site from those that are learned: ``r`` is made orthonormal."""
    return [
        {key: orthonormal(value) if key == "r" else value for key, value in numbers.items()}
        for numbers in free
    ]


@torch.no_grad()
def outputs(
    tower: Tower, weights: Mapping[str, Tensor], images: Tensor, places: Sequence[str]
) -> dict[str, Tensor]:
    """What a model computes at some places ``[N, .]``: features, or the mean over tokens."""
    seen: dict[str, list[Tensor]] = {place: [] for place in places}

    def watch(place: str, x: Tensor) -> Tensor:
        if place in seen:
            seen[place].append(token_mean(x))
        return x

    watched = tower.with_hooks(edit=watch)
    for chunk in images.split(CHUNK):
        watched(weights, chunk)
    return {place: torch.cat(parts) for place, parts in seen.items()}


def token_mean(x: Tensor) -> Tensor:
    """``[N, L, d] -> [N, d]``, the mean over tokens; features ``[N, D]`` stay."""
    return x if x.ndim == 2 else x.mean(1)


def fit(
    merged: MergedModel,
    experts: Experts,
    calibration: Calibration,
    sites: Sequence[Site],
    free: Sequence[Numbers],
    learning: Learning,
    *,
    places: Sequence[str] = ("features",),
    teachers: Mapping[str, Mapping[str, Tensor]] | None = None,
    learned: Learned | None = None,
) -> IntervenedModel:
    """Learn the numbers so that each task's representations come close to its expert's.

    The loss is the sum over tasks and places of the mean absolute difference. No number serves two
    tasks, so that, as long as the merged weights stay, one pass over a batch of every task does
    what one step per task would do. Where all sites edit the final features, the tower runs once
    per image.

    Parameters
    ----------
    merged : MergedModel
        One state dict for all tasks.
    experts : Experts
        The teachers, if none are given.
    calibration : Calibration
        Images of each task.
    sites : sequence of Site
        Where the interventions sit.
    free : sequence of mapping of str to Tensor
        Their numbers at the start, as :func:`mergebook.interventions.starts.start` gives them. Not
        modified.
    learning : Learning
        Adam steps of each task, learning rate, and images of each task in a step.
    places : sequence of str
        Where representations are compared.
    teachers : mapping of task to weights, optional
        Whom to imitate.
    learned : Learned, optional
        Coefficients that learn along: they make the merged weights, and `merged` is not used.
    """
    tower = calibration.tower
    weights = fresh(merged.state_dict())
    wanted = {
        task: outputs(
            tower,
            fresh(teachers[task] if teachers else experts.expert(task)),
            calibration.inputs[task],
            places,
        )
        for task in experts.tasks
    }
    free = [{k: v.clone().requires_grad_() for k, v in numbers.items()} for numbers in free]
    editor = Editor(sites, free)
    seen: dict[str, Tensor] = {}

    def hook(place: str, x: Tensor) -> Tensor:
        x = editor(place, x)
        if place in places:
            seen[place] = token_mean(x)
        return x

    edited = tower.with_hooks(edit=hook)
    inputs: Mapping[str, Tensor] = calibration.inputs
    run: Callable[[Tensor], Tensor] = lambda images: edited(weights, images)  # noqa: E731
    if learned is not None:
        run = lambda images: edited(single(learned.weights()), images)  # noqa: E731
    elif all(site.place == "features" for site in sites):
        inputs = {t: outputs(tower, weights, x, places)["features"] for t, x in inputs.items()}
        run = lambda features: hook("features", features)  # noqa: E731
    batches = image_streams(calibration, learning)

    def loss(step: int) -> Tensor:
        chosen = {task: next(order) for task, order in batches.items()}
        sizes = torch.tensor([len(index) for index in chosen.values()])
        rows = torch.arange(len(chosen)).repeat_interleave(sizes)
        editor.numbers = [{k: v[rows] for k, v in own.items()} for own in realised(free)]
        run(torch.cat([inputs[task][index] for task, index in chosen.items()]))
        share = 1 / sizes[rows]  # so that the sum below is a mean over the images of each task
        total = torch.zeros(())
        for place in places:
            target = torch.cat([wanted[task][place][index] for task, index in chosen.items()])
            total = total + ((seen[place] - target).abs().mean(-1) * share).sum()
        return total

    leaves = [value for numbers in free for value in numbers.values()]
    leaves += [] if learned is None else [learned.step]
    minimise(leaves, loss, learning, what="interventions")
    with torch.no_grad():
        numbers = [{k: v.contiguous() for k, v in own.items()} for own in realised(free)]
        state = merged.state_dict()
        if learned is not None:
            found = learned.weights()
            state |= {key: experts.to_base(key, found[key]) for key in experts.trained}
    numbers = [{k: v.detach() for k, v in own.items()} for own in numbers]
    return IntervenedModel(experts.tasks, experts.sizes, state, sites, numbers)


def single(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights as float32, with gradients."""
    return {key: value.float() for key, value in weights.items()}
