"""SE-Merging: representations say how much of each expert an image gets [chen2025semerging]."""

from __future__ import annotations

from typing import Annotated

from mergebook.merged import RoutedModel, TaskModels
from mergebook.registry import Range, model_method
from mergebook.registry.types import Scale
from mergebook.towers.routers import Similarity
from mergebook.weights import Experts


@model_method(
    "se_merging",
    title="SE-Merging",
    paper="chen2025semerging",
    family="routing",
    status="our reading",
    grid={"scale": (0.1, 0.2), "similarity": ("distance", "movement")},
)
def se_merging(
    experts: Experts,
    *,
    scale: Scale = 0.3,
    similarity: Similarity = "distance",
    temperature: Annotated[float, Range(0.001, 1000)] = 1.0,
) -> RoutedModel:
    r"""Rescale the coefficients of task arithmetic for each image, without training or data.

    With the features :math:`h_M(x)` of the static merge
    :math:`\theta_0 + \lambda \sum_t \tau_t` and :math:`h_t(x)` of each expert, the similarities
    :math:`s_t = -\|h_M - h_t\|_2`, scaled to [0, 1] over the tasks, give the shares
    :math:`p = \mathrm{softmax}(s / c)` at temperature c, and the image is encoded with
    :math:`\theta_0 + T \lambda \sum_t p_t(x) \tau_t`: what the coefficients add up to stays that of
    the static merge. Costs T + 2 or T + 3 forward passes per image.
    Storage b(T P' + F) + b P' bits: all experts and the base.

    Parameters
    ----------
    scale : float, default 0.3
        The coefficient :math:`\lambda` of the static merge.
    similarity : {"distance", "movement"}, default "distance"
        As above; or :math:`s_t = \langle h_M - h_0, h_t - h_0 \rangle`, how far the merge has moved
        the image from where the base puts it (:math:`h_0`) in the direction of each expert.
    temperature : float, default 1.0
        The temperature c; a small one gives the most similar expert everything.

    Notes
    -----
    Our reading: the abstract says that the task of a sample is found from representations and that
    coefficients are rescaled for the sample, without training. The layer (here the projected
    features, not normalised), the scaling and the budget are ours, and so is "movement". It is
    there because the nearest expert can be the wrong one: an expert moves the images of its own
    task farthest from the base and leaves the others about where they were, so that a merge of
    many tasks with small coefficients stays closer to every other expert than to the right one.
    If all similarities are equal, as with one task, the shares are too. The state dict without an
    image is that of the static merge.
    """
    trained = {key: experts.base[key] for key in experts.trained}
    facts = {"scale": scale, "similarity": similarity, "temperature": temperature}
    experts_ = TaskModels.build(experts)
    return RoutedModel(experts.sizes, experts_, "similarity", facts, {}, trained, static=scale)
