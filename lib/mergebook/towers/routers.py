"""What the routers of the routing methods compute: images to the weights of a mixed tower.

A routed solution names its router (:class:`mergebook.merged.RoutedModel`), so that its encoder can
be built from a file alone; the methods that learn the routers' numbers are in
:mod:`mergebook.routing`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mergebook.errors import MethodError, unknown
from mergebook.towers.mixed import MixedEncoder, Mixture, Parts, mixed_tower
from mergebook.towers.tokens import token_mean
from mergebook.towers.tower import Tower, Weights

HIDDEN = (1, 2)  # numbers of the hidden layers of Twin-Merging's router
DROPOUT = 0.5
MOMENTUM = 0.1  # of the running means that batch normalisation uses at test time
EPS = 1e-5


def routed_by(how: str, weights: Tensor) -> Tensor:
    """Weights ``[N, T]`` as they are ("image"), or their mean over the batch for all ("batch")."""
    return weights.mean(0, keepdim=True).expand_as(weights) if how == "batch" else weights


# ------------------------------------------------------------- the nearest images vote: Auto-Switch


def neighbour_shares(
    features: Tensor, queries: Tensor, owner: Tensor, num_tasks: int, neighbours: int
) -> Tensor:
    """Share of each task among the nearest queries, ``[N, T]``.

    Parameters
    ----------
    features : Tensor, shape [N, D]
        Of the images.
    queries : Tensor, shape [Q, D]
        Of the query set.
    owner : Tensor, int64 [Q]
        Number of the task that each query belongs to.
    num_tasks, neighbours : int
        T, and how many of the nearest queries vote (Euclidean distance; among equally distant
        ones the first in the query set).
    """
    distances = torch.cdist(features, queries, compute_mode="donot_use_mm_for_euclid_dist")
    nearest = distances.sort(dim=1, stable=True).indices[:, :neighbours]
    votes = nn.functional.one_hot(owner[nearest], num_tasks).sum(1)
    return votes.to(features.dtype) / neighbours


def extractor_weights(extractor: str, num_tasks: int) -> Tensor:
    """Mixing weights ``[T]`` of the model that computes the features that are compared."""
    return torch.full((num_tasks,), 1 / num_tasks if extractor == "average" else 0.0)


def by_neighbours(parts: Parts) -> nn.Module:
    """The encoder whose nearest stored images vote."""
    facts = parts.settings
    owner = torch.arange(parts.num_tasks).repeat_interleave(torch.tensor(facts["counts"]))
    extractor = extractor_weights(facts["extractor"], parts.num_tasks)

    def choose(encoder: MixedEncoder, images: Tensor) -> Tensor:
        features = encoder.features(images, extractor)
        shares = neighbour_shares(
            features, parts.numbers["queries"], owner, parts.num_tasks, facts["neighbours"]
        )
        return routed_by(facts["route"], shares)

    return MixedEncoder(parts, choose)


# --------------------------------------------- how much features resemble each expert's: SE-Merging

Similarity = Literal["distance", "movement"]


def similarities(merged: Tensor, experts: Tensor, base: Tensor, kind: Similarity) -> Tensor:
    """How much the merged model's features are those of each expert, ``[N, T]``.

    Parameters
    ----------
    merged, base : Tensor, shape [N, D]
        Features of the merged and of the pre-trained model.
    experts : Tensor, shape [N, T, D]
        Features of each expert.
    kind : {"distance", "movement"}
        See :data:`mergebook.routing.se_merging.se_merging`.
    """
    if kind == "distance":
        return -(experts - merged[:, None]).norm(dim=2)
    return ((experts - base[:, None]) * (merged - base)[:, None]).sum(2)


def shares(similarity: Tensor, temperature: float) -> Tensor:
    """Softmax ``[N, T]`` of similarities ``[N, T]`` that are first scaled to [0, 1]."""
    lowest, highest = similarity.aminmax(dim=1, keepdim=True)
    span = (highest - lowest).clamp(min=torch.finfo(similarity.dtype).tiny)
    return ((similarity - lowest) / span / temperature).softmax(1)


def by_similarity(parts: Parts) -> nn.Module:
    """The encoder that compares features with every expert's."""
    facts = parts.settings
    scale = facts["scale"]
    alone = torch.eye(parts.num_tasks)

    def choose(encoder: MixedEncoder, images: Tensor) -> Tensor:
        merged = encoder.features(images, alone.new_full((parts.num_tasks,), scale))
        experts = torch.stack([encoder.features(images, one) for one in alone], 1)
        base = merged
        if facts["similarity"] == "movement":
            base = encoder.features(images, alone.new_zeros(parts.num_tasks))
        found = similarities(merged, experts, base, facts["similarity"])
        return scale * parts.num_tasks * shares(found, facts["temperature"])

    return MixedEncoder(parts, choose)


# -------------------------------------------------------- a perceptron names the task: Twin-Merging


def router_logits(
    features: Tensor, numbers: Mapping[str, Tensor], dropout: torch.Generator | None = None
) -> Tensor:
    """Scores ``[N, T]`` of the tasks for features ``[N, D]``.

    Two hidden layers: linear map, batch normalisation, leaky ReLU, dropout.

    Parameters
    ----------
    features : Tensor, shape [N, D]
        Of the shared expert.
    numbers : mapping of str to Tensor
        See :func:`mergebook.routing.classifier.draw_router`.
    dropout : torch.Generator, optional
        For training: draws what is dropped. The batch's own mean and variance are then used, and
        the running ones in `numbers` are moved towards them.
    """
    x = features
    for layer in HIDDEN:
        x = F.linear(x, numbers[f"weight{layer}"], numbers[f"bias{layer}"])
        mean, variance = numbers[f"mean{layer}"], numbers[f"variance{layer}"]
        if dropout is not None:
            running, (variance, mean) = (mean, variance), torch.var_mean(x, 0, correction=0)
            with torch.no_grad():
                unbiased = variance * (len(x) / max(1, len(x) - 1))
                running[0].lerp_(mean, MOMENTUM)
                running[1].lerp_(unbiased, MOMENTUM)
        x = (x - mean) / (variance + EPS).sqrt()
        x = F.leaky_relu(x * numbers[f"gain{layer}"] + numbers[f"shift{layer}"])
        if dropout is not None:
            x = x * (torch.rand(x.shape, generator=dropout) >= DROPOUT) / (1 - DROPOUT)
    return F.linear(x, numbers["weight3"], numbers["bias3"])


def by_classifier(parts: Parts) -> nn.Module:
    """The encoder whose perceptron names the task."""

    def choose(encoder: MixedEncoder, images: Tensor) -> Tensor:
        features = encoder.features(images, torch.zeros(parts.num_tasks))
        weights = router_logits(features, parts.numbers).softmax(1)
        return routed_by(parts.settings["route"], weights)

    return MixedEncoder(parts, choose)


# ----------------------------------------------------------------- each block routes its MLP: WEMoE


def routed_weights(
    x: Tensor, numbers: Mapping[str, Tensor], block: int, there: Tensor | None = None
) -> Tensor:
    """Mixing weights of a block: ``[N, T]`` of its MLP's input ``[N, L, d]``; ``[T]`` at depth 0.

    The router looks at every token; the mean over tokens that are there counts. One router may
    serve all blocks.
    """
    row = block if len(numbers["bias"]) > 1 else 0
    if "weight" not in numbers:
        return numbers["bias"][row]
    if "hidden_weight" in numbers:
        x = F.relu(F.linear(x, numbers["hidden_weight"][row], numbers["hidden_bias"][row]))
    return token_mean(F.linear(x, numbers["weight"][row], numbers["bias"][row]), there)


def block_routed_tower(backbone: str, vectors: Weights, numbers: Weights) -> Tower:
    """A tower in which a router mixes the MLP of each block for each image.

    Parameters
    ----------
    backbone : str
        One of :func:`mergebook.towers.backbones.list_backbones`.
    vectors : mapping of str to Tensor
        ``[T, *s]`` of the MLPs' tensors.
    numbers : mapping of str to Tensor
        Of the routers.
    """

    def route(weights: Weights, block: int, x: Tensor) -> Weights:
        return Mixture(weights, vectors, routed_weights(x, numbers, block, tower.there(x)))

    tower = mixed_tower(backbone, route=route)
    return tower


class BlockRoutedEncoder(nn.Module):
    """The tower with fixed weights and routers, as a module."""

    def __init__(self, parts: Parts):
        super().__init__()
        self.parts = parts
        self.tower = block_routed_tower(parts.backbone, parts.vectors, parts.numbers)

    def forward(self, images: Tensor) -> Tensor:
        """Features ``[N, D]`` of images or texts."""
        chunks = images.split(self.parts.chunk)
        return torch.cat([self.tower(self.parts.origin, chunk) for chunk in chunks])


# Name in files -> what makes the encoder.
ROUTERS: dict[str, Callable[[Parts], nn.Module]] = {
    "neighbours": by_neighbours,
    "similarity": by_similarity,
    "classifier": by_classifier,
    "blocks": BlockRoutedEncoder,
}


def build_encoder(router: str, parts: Parts) -> nn.Module:
    """The encoder of a routed solution.

    Parameters
    ----------
    router : str
        One of :data:`ROUTERS`.
    parts : Parts
        What it is made of.

    Raises
    ------
    MethodError
        If there is no such router.
    """
    if router not in ROUTERS:
        raise MethodError(unknown("router", router, ROUTERS))
    return ROUTERS[router](parts)
