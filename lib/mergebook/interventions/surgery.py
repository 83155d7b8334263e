"""Representation surgery: correct what the merged encoder computes [yang2024surgery]."""

from __future__ import annotations

from typing import Annotated

import torch
from torch import Tensor

from mergebook.interventions.fitting import fit
from mergebook.interventions.imitation import Imitation
from mergebook.interventions.merges import SMALL_SCALES, Merge, MergeScale
from mergebook.interventions.starts import start, uniform
from mergebook.merged import IntervenedModel
from mergebook.merged.intervened import Site
from mergebook.registry import Learning, Range, model_method
from mergebook.towers.tower import Tower

Corrected = Annotated[Merge, "The static merge to correct."]
CorrectionRank = Annotated[int, Range(1, 4_096), "Rank r of a correction."]
Training = Annotated[Learning, {"lr": Range(0)}]


def surgery_sites(tower: Tower, *, blocks: bool) -> list[Site]:
    """The final features and, if asked for, the output of each block before."""
    places = [f"blocks.{b}" for b in range(tower.num_blocks)] if blocks else []
    inner = [Site(place, "surgery", "all", 0, tower.width) for place in places]
    return [*inner, Site("features", "surgery", "all", 0, tower.num_features)]


def draw_surgery(site: Site, rank: int, generator: torch.Generator) -> dict[str, Tensor]:
    """``down`` is uniform within one over the root of its width, ``up`` zero."""
    width = site.stop - site.start
    down = uniform(rank, width, fan_in=width, generator=generator)
    return {"down": down, "up": torch.zeros(width, rank)}


def operate(
    imitation: Imitation, learning: Learning, *, blocks: bool, rank: int
) -> IntervenedModel:
    """Learn the corrections of a merge, of its features and perhaps after every block."""
    sites = surgery_sites(imitation.tower, blocks=blocks)
    numbers = start(sites, rank, len(imitation.tasks), draw_surgery, learning.seed)
    return fit(imitation, sites, numbers, learning, places=[site.place for site in sites])


@model_method(
    "surgery",
    title="Surgery",
    paper="yang2024surgery",
    family="intervention",
    needs=("images",),
    prepare=Imitation.of,
    grid={"scale": SMALL_SCALES},
)
def surgery(
    imitation: Imitation,
    *,
    merge: Corrected = "task_arithmetic",
    scale: MergeScale = 0.3,
    rank: CorrectionRank = 16,
    learning: Training = Learning(steps=300, lr=1e-2),
) -> IntervenedModel:
    r"""Subtract from the merged model's features a small correction that each task learns.

    :math:`\hat z = z - W_\mathrm{up}\,\mathrm{ReLU}(W_\mathrm{down} z)` with
    :math:`W_\mathrm{down} \in R^{r \times D}` and :math:`W_\mathrm{up} \in R^{D \times r}` of each
    task, no biases; z is the projected image feature, not normalised. Both are learned on
    unlabelled images, so that :math:`\hat z` comes close to the feature of the task's expert in
    the mean absolute difference; the merged weights stay. At the start
    :math:`W_\mathrm{up} = 0`: exactly the merged model.
    Storage b(P' + F) + 32 T M bits with M = 2 r D.

    Parameters
    ----------
    steps : int, default 300
        Adam steps of each task; 1000 in the paper.
    lr : float, default 1e-2
        Learning rate of Adam; 1e-3 in the paper, which takes more steps.
    seed : int, default 0
        Seed of the start and of the order of the images, the same for each task.

    Notes
    -----
    The paper learns on the unlabelled test images; here it is whatever the calibration holds. The
    released code's list for weight averaging on ViT-B/16 has one coefficient too few, which drops
    the last task (DTD); not copied. FusionBench learns after its own AdaMerging, with the same
    number of steps.
    """
    return operate(imitation, learning, blocks=False, rank=rank)
