"""How far what a merged model computes is from what the experts compute."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor

from mergebook.evaluation.benchmark import BATCH, Benchmark
from mergebook.merged import MergedModel
from mergebook.merged.intervened import IntervenedModel, fresh
from mergebook.towers.backbones import build_tower
from mergebook.towers.tokens import joined, token_mean

Distances = dict[str, dict[str, np.ndarray]]  # place -> task -> one number per image


def block_places(num_blocks: int) -> list[str]:
    """The output of every block, and the features."""
    return [*(f"blocks.{block}" for block in range(num_blocks)), "features"]


@torch.no_grad()
def representations(
    backbone: str, model: MergedModel, task: str, images: Tensor
) -> dict[str, Tensor]:
    """What a model computes on images of a task, its interventions included.

    Returns
    -------
    dict of str to Tensor
        By place, see :func:`block_places`: ``[N, L, d]`` of the blocks, ``[N, D]`` of the features.
    """
    seen: dict[str, list[Tensor]] = {}
    edit = model.editor(task) if isinstance(model, IntervenedModel) else lambda place, x: x
    tower = build_tower(backbone)
    places = set(block_places(tower.num_blocks))

    def watch(place: str, x: Tensor) -> Tensor:
        x = edit(place, x)
        if place in places:
            seen.setdefault(place, []).append(x)
        return x

    watched, weights = tower.with_hooks(edit=watch), fresh(model.state_dict(task))
    for chunk in images.split(BATCH):
        watched(weights, chunk)
    return {place: joined(parts) for place, parts in seen.items()}


def representation_distances(
    bench: Benchmark, models: Mapping[str, MergedModel], split: str = "test"
) -> dict[str, Distances]:
    r"""Mean absolute differences to the experts' representations, for every image.

    With z the final features of width D it is :math:`\frac1D \|z - z^\mathrm{expert}\|_1`, whose
    mean over images is the representation bias of [yang2024surgery]; of a block it is the same of
    its class token. The names of the places have the tokens behind a space: ``"blocks.0 class"``
    and ``"blocks.0 all"``, the mean over all tokens; ``"features"`` has none.

    Parameters
    ----------
    bench : Benchmark
        Experts and images.
    models : mapping of str to MergedModel
        Merged models, corrected or not.
    split : {"test", "validation", "train"}, default "test"

    Returns
    -------
    dict of str to dict
        By model, place and task: float [N], one number per image.
    """
    found: dict[str, Distances] = {name: {} for name in models}
    teacher, backbone = bench.merge("fine_tuned"), bench.backbone.name
    tower = build_tower(backbone)
    for task in bench.suite.names:
        images, _ = bench.inputs(task, split)
        wanted = representations(backbone, teacher, task, images)
        for name, model in models.items():
            own = representations(backbone, model, task, images)
            for place, x in own.items():
                apart = (x - wanted[place]).abs().mean(-1, keepdim=True)
                there = tower.there(wanted[place])
                for label, reduce in _READINGS[apart.ndim].items():
                    numbers = reduce(apart, there)[:, 0].double().numpy()
                    found[name].setdefault(f"{place}{label}", {})[task] = numbers
    return found


# Of distances [N, 1], those of features, or [N, L, 1], those of tokens.
_READINGS: dict[int, dict[str, Callable[[Tensor, Tensor | None], Tensor]]] = {
    2: {"": lambda apart, there: apart},
    3: {" class": lambda apart, there: apart[:, 0], " all": token_mean},
}
