"""What the interventions share: the merge they sit on, their numbers, and how these are learned."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from mergebook.calibration import Calibration
from mergebook.errors import ParameterError
from mergebook.learning import Combination, minimise
from mergebook.merged import IntervenedModel, MergedModel
from mergebook.merged.intervened import Editor, Numbers, Site, fresh
from mergebook.methods.adamerging import learn_coefficients
from mergebook.methods.ties import elected, prepare_ties
from mergebook.registry import get_method
from mergebook.towers.tower import Tower
from mergebook.weights import Experts

# Static merges that an intervention can sit on.
Merge = Literal["averaging", "task_arithmetic", "ties", "adamerging_layer", "cart"]
SCALES = (0.1, 0.2, 0.3)  # that a search tries: the papers' 0.3, and less for many tasks
Coefficients = Literal["fixed", "learned"]
Draw = Callable[..., Tensor]
TIES_DENSITY, TIES_KEEP = 0.2, "k+1"  # the defaults of TIES
CHUNK = 256  # images per forward pass without gradients


def shared_merge(
    experts: Experts, calibration: Calibration, merge: Merge, scale: float
) -> MergedModel:
    """Merge the experts by one of the static methods, which gets the scale if it has one.

    TIES merges by the sum of what agrees, as the papers of this family do (scale 0.3).
    """
    method = get_method(merge)
    names = {parameter.name for parameter in method.parameters}
    params = {"scale": scale} if "scale" in names else {}
    if merge == "ties":
        params["combine"] = "sum"
    return method(experts, calibration, **params)


@dataclass(frozen=True)
class Learned:
    """Merging coefficients that learn together with the interventions, within [0, 1].

    Attributes
    ----------
    combination : Combination
        Merged weights as a function of the coefficients.
    first : Tensor, shape [K, T]
        The coefficients at the start.
    step : Tensor, shape [K, T]
        What is learned, from zero: the coefficients move by `share` times as much.
    share : float
        Learning rate of the coefficients over that of the interventions.
    """

    combination: Combination
    first: Tensor
    step: Tensor
    share: float

    def weights(self) -> dict[str, Tensor]:
        """State dict under the present coefficients."""
        return self.combination((self.first + self.share * self.step).clamp(0, 1))


def learnable(
    experts: Experts, calibration: Calibration, merge: Merge, scale: float, share: float
) -> Learned:
    """The coefficients of a merge, layer by layer, as something to learn.

    Raises
    ------
    ParameterError
        If the merge is not a sum of task vectors.
    """
    if merge == "cart":
        raise ParameterError("coefficients='learned' is not defined for merge='cart'")
    if merge == "ties":
        state = prepare_ties(experts, TIES_DENSITY, TIES_KEEP)
        combination = Combination(experts, lambda layer: (layer.base, elected(layer, state)))
    else:
        combination = Combination(experts)
    shape = len(combination.names), len(experts.tasks)
    if merge == "adamerging_layer":
        params = get_method(merge).check()
        first, _ = learn_coefficients(combination, calibration, layerwise=True, **params)
    else:
        value = 1 / len(experts.tasks) if merge == "averaging" else scale
        first = torch.full(shape, value, dtype=combination.dtype)
    return Learned(combination, first, torch.zeros_like(first, requires_grad=True), share)


def uniform(*shape: int, fan_in: int, generator: torch.Generator) -> Tensor:
    """Draw uniform numbers within one over the root of the fan-in, as torch's linear layers do."""
    bound = fan_in**-0.5
    return (2 * torch.rand(*shape, generator=generator) - 1) * bound


def orthonormal(a: Tensor) -> Tensor:
    """Orthonormal basis ``[..., m, r]`` of the columns of a matrix, by Gram-Schmidt.

    The Q of the QR decomposition whose R has a positive diagonal, so that a matrix with
    orthonormal columns comes back.
    """
    q, r = torch.linalg.qr(a)
    return q * r.diagonal(dim1=-2, dim2=-1).sgn().unsqueeze(-2)


def realised(free: Sequence[Numbers]) -> list[dict[str, Tensor]]:
    """The numbers of each site from those that are learned: ``r`` is made orthonormal."""
    return [
        {key: orthonormal(value) if key == "r" else value for key, value in numbers.items()}
        for numbers in free
    ]


def start(sites: Sequence[Site], rank: int, tasks: int, draw: Draw, seed: int) -> list[dict]:
    """The numbers of each site at the start, the same for each task, with a leading axis of T.

    ``draw(site, rank, generator) -> numbers of one task``; all sites share one generator with the
    given seed, in order, so that what a task starts with does not depend on the other tasks.
    """
    generator = torch.Generator().manual_seed(seed)
    single = [draw(site, rank, generator) for site in sites]
    return [
        {key: value.repeat(tasks, *[1] * value.ndim) for key, value in numbers.items()}
        for numbers in single
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
    *,
    places: Sequence[str] = ("features",),
    teachers: Mapping[str, Mapping[str, Tensor]] | None = None,
    learned: Learned | None = None,
    steps: int,
    lr: float,
    batch_size: int,
    seed: int,
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
        Their numbers at the start, as :func:`start` gives them. Not modified.
    places : sequence of str
        Where representations are compared.
    teachers : mapping of task to weights, optional
        Whom to imitate.
    learned : Learned, optional
        Coefficients that learn along: they make the merged weights, and `merged` is not used.
    steps : int
        Adam steps of each task.
    lr : float
        Learning rate.
    batch_size : int
        Images of each task in a step.
    seed : int
        Seed of the order of the images.
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
    batches = {task: calibration.batches(task, batch_size, seed) for task in experts.tasks}

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
    minimise(leaves, loss, steps=steps, lr=lr, what="interventions")
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
