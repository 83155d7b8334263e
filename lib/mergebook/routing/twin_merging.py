"""Twin-Merging: a shared expert, compressed exclusive knowledge, and a router [lu2024twin]."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from mergebook.calibration import Calibration
from mergebook.interventions.fitting import SCALES, uniform
from mergebook.learning import minimise
from mergebook.merged import RoutedModel
from mergebook.merged.low_rank import Compressed, LowRankModel, factorise
from mergebook.registry import Range, model_method
from mergebook.towers.routers import HIDDEN, build_encoder, router_logits
from mergebook.weights import Experts, Layer

CHUNK = 256  # images per forward pass


def exclusive(layer: Layer, scale: float, rank: float) -> Compressed:
    """A layer's shared expert and exclusive vectors, compressed where they are matrices."""
    shared = layer.base + scale * layer.total
    if layer.ndim != 2 or rank >= 1 or not layer.numel:
        return None
    return factorise(
        shared, layer.base + layer.deltas - shared, max(1, int(rank * min(layer.base.shape)))
    )


def draw_router(width: int, num_tasks: int, seed: int) -> dict[str, Tensor]:
    """The router's numbers at the start: linear maps d -> 2d -> 2d -> T as torch draws them."""
    generator = torch.Generator().manual_seed(seed)
    sizes = [width, 2 * width, 2 * width, num_tasks]
    numbers = {}
    for layer, (fan_in, fan_out) in enumerate(pairwise(sizes), start=1):
        numbers[f"weight{layer}"] = uniform(fan_out, fan_in, fan_in=fan_in, generator=generator)
        numbers[f"bias{layer}"] = uniform(fan_out, fan_in=fan_in, generator=generator)
    for layer in HIDDEN:
        ones, zeros = torch.ones(2 * width), torch.zeros(2 * width)
        numbers |= {f"gain{layer}": ones, f"shift{layer}": zeros}
        numbers |= {f"mean{layer}": zeros.clone(), f"variance{layer}": ones.clone()}
    return numbers


def train_router(
    features: Tensor, owner: Tensor, num_tasks: int, *, steps: int, lr: float, batch_size: int,
    seed: int,
) -> dict[str, Tensor]:  # fmt: skip
    """Learn which task each image belongs to, by cross-entropy.

    Parameters
    ----------
    features : Tensor, shape [N, D]
        Of the shared expert, images of all tasks.
    owner : Tensor, int64 [N]
        Number of each image's task.
    num_tasks, steps, lr, batch_size, seed
        As in :data:`twin_merging`.
    """
    numbers = draw_router(features.shape[1], num_tasks, seed)
    leaves = [v.requires_grad_() for k, v in numbers.items() if k[:4] not in ("mean", "vari")]
    generator = torch.Generator().manual_seed(seed)
    order: list[Tensor] = []

    def loss(step: int) -> Tensor:
        if not order:
            order.extend(torch.randperm(len(owner), generator=generator).split(batch_size))
        chosen = order.pop(0)
        return F.cross_entropy(router_logits(features[chosen], numbers, generator), owner[chosen])

    minimise(leaves, loss, steps=steps, lr=lr, what="router")
    return {key: value.detach() for key, value in numbers.items()}


@model_method(
    "twin_merging",
    title="Twin-Merging",
    paper="lu2024twin",
    family="routing",
    status="analogue",
    needs=("images",),
    grid={"scale": SCALES},
)
def twin_merging(
    experts: Experts,
    calibration: Calibration,
    *,
    scale: Annotated[float, Range(0, 3)] = 0.3,
    rank: Annotated[float, Range(0, 1)] = 0.1,
    route: Literal["image", "batch"] = "image",
    steps: Annotated[int, Range(0)] = 300,
    lr: Annotated[float, Range(0)] = 5e-4,
    batch_size: Annotated[int, Range(1)] = 1024,
    seed: Annotated[int, Range(0)] = 0,
) -> RoutedModel:
    r"""Add to a shared expert what is exclusive to the tasks that a router sees in an image.

    The shared expert is task arithmetic, :math:`\theta_s = \theta_0 + \lambda \sum_t \tau_t`; the
    exclusive vectors :math:`v_t` are :math:`\theta_t - \theta_s`, cut to their leading singular
    directions where they are matrices. A router, a perceptron D -> 2D -> 2D -> T with batch
    normalisation, leaky ReLU and dropout, learns from the shared expert's features which task an
    image belongs to. The image is encoded with
    :math:`\theta_s + \sum_t \mathrm{softmax}(r(x))_t\, v_t`.
    Storage b(L + F + T(P' - L) + K) + b O + 32 R bits: K numbers of the factors of L entries, all
    other trained entries once per task and (O) for the shared expert, R of the router.

    Parameters
    ----------
    experts : Experts
        Base and experts.
    calibration : Calibration
        Images of each task; the task is the router's label, class labels are not read.
    scale : float, default 0.3
        The coefficient :math:`\lambda` of the shared expert.
    rank : float, default 0.1
        Kept share of the singular directions, rounded down, but one at least; 1 keeps everything.
    route : {"image", "batch"}, default "image"
        Each image has its own weights, or the mean over the images that are encoded together.
    steps : int, default 300
        Steps of Adam for the router; the released 50 passes over 44,000 samples are about 2150.
    lr : float, default 5e-4
        Learning rate of Adam.
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
    merged.numbers = train_router(
        torch.cat(features),
        torch.arange(len(counts)).repeat_interleave(counts),
        len(counts),
        steps=steps,
        lr=lr,
        batch_size=batch_size,
        seed=seed,
    )
    return merged
