"""Twin-Merging: a shared expert, compressed exclusive knowledge, and a router [lu2024twin]."""

from __future__ import annotations

from typing import Annotated, Literal

import torch

from mergebook.calibration import Calibration
from mergebook.interventions.merges import SMALL_SCALES
from mergebook.merged import RoutedModel
from mergebook.merged.low_rank import Compressed, LowRankModel, factorise
from mergebook.registry import Learning, Range, model_method
from mergebook.registry.types import Rank, Scale
from mergebook.routing.classifier import train_router
from mergebook.towers.routers import build_encoder
from mergebook.weights import Experts, Layer

Training = Annotated[Learning, {"lr": Range(0)}]
CHUNK = 256  # images per forward pass


def exclusive(layer: Layer, scale: float, rank: float) -> Compressed:
    """A layer's shared expert and exclusive vectors, compressed where they are matrices."""
    shared = layer.base + scale * layer.total
    if layer.ndim != 2 or rank >= 1 or not layer.numel:
        return None
    return factorise(
        shared, layer.base + layer.deltas - shared, max(1, int(rank * min(layer.base.shape)))
    )


@model_method(
    "twin_merging",
    title="Twin-Merging",
    paper="lu2024twin",
    family="routing",
    status="analogue",
    needs=("images",),
    grid={"scale": SMALL_SCALES},
)
def twin_merging(
    experts: Experts,
    calibration: Calibration,
    *,
    scale: Scale = 0.3,
    rank: Rank = 0.1,
    route: Literal["image", "batch"] = "image",
    learning: Training = Learning(steps=300, lr=5e-4, batch_size=1024),
) -> RoutedModel:
    r"""Add to a shared expert what is exclusive to the tasks that a router sees in an image.

    The shared expert is task arithmetic, :math:`\theta_s = \theta_0 + \lambda \sum_t \tau_t`; the
    exclusive vectors :math:`v_t` are :math:`\theta_t - \theta_s`, cut to their leading singular
    directions where they are matrices. A router, a perceptron D -> 2D -> 2D -> T with batch
    normalisation, leaky ReLU and dropout, learns from the shared expert's features which task an
    image belongs to (class labels are not read). The image is encoded with
    :math:`\theta_s + \sum_t \mathrm{softmax}(r(x))_t\, v_t`.
    Storage b(L + F + T(P' - L) + K) + b O + 32 R bits: K numbers of the factors of L entries, all
    other trained entries once per task and (O) for the shared expert, R of the router.

    Parameters
    ----------
    scale : float, default 0.3
        The coefficient :math:`\lambda` of the shared expert.
    rank : float, default 0.1
        Kept share of the singular directions, rounded down, but one at least; 1 keeps everything.
    route : {"image", "batch"}, default "image"
        Each image has its own weights, or the mean over the images that are encoded together.
    steps : int, default 300
        Steps of Adam for the router; the released 50 passes over 44,000 samples are about 2150.
    batch_size : int, default 1024
        Images of all tasks together in a step.
    seed : int, default 0
        Seed of the router's start, and of the order of images and the dropout.

    Notes
    -----
    The released code is for language models; this is its counterpart for image encoders. Released
    settings: scale 0.29 for RoBERTa with biases and heads left out, rank 0.1, 50 passes over up to
    5500 samples per task in batches of 1024; there the mean token of the last layer goes into the
    router, here the projected features. The released script picks the router's best pass by its
    test accuracy; here the last one is taken. Convolutions, vectors and scalars are kept whole. An
    encoder without an image is that of the shared expert.
    """
    low_rank = LowRankModel.build(experts, lambda layer: exclusive(layer, scale, rank))
    origin = {
        layer.name: experts.to_base(layer.name, layer.base + scale * layer.total)
        for layer in experts
        if layer.name not in low_rank.factors
    }
    merged = RoutedModel(
        experts.sizes, low_rank, "classifier", {"route": route}, {}, origin, static=0.0
    )
    merged.backbone = calibration.backbone
    encoder = build_encoder(merged.router, merged.parts())
    nothing = torch.zeros(len(experts.tasks))
    with torch.no_grad():
        features = [
            torch.cat([encoder.features(x, nothing) for x in calibration.inputs[t].split(CHUNK)])
            for t in experts.tasks
        ]
    counts = torch.tensor([len(own) for own in features])
    owner = torch.arange(len(counts)).repeat_interleave(counts)
    merged.numbers = train_router(torch.cat(features), owner, len(counts), learning)
    return merged
