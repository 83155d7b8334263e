"""Weight-ensembling mixture of experts: each block routes its MLP [tang2024wemoe]."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

import torch
from torch import Tensor

from mergebook.calibration import Calibration
from mergebook.interventions.fitting import SCALES
from mergebook.learning import entropy, minimise
from mergebook.merged import MergedModel, RoutedModel, SparseModel, TaskModels
from mergebook.merged.intervened import fresh
from mergebook.registry import Range, model_method
from mergebook.towers.routers import BlockRoutedTower
from mergebook.weights import Experts, Layer

Depth = Literal[0, 1, 2]
START = 0.01  # standard deviation of the routers' weights at the start


def draw_routers(
    routers: int, width: int, num_tasks: int, *, depth: Depth, scale: float, seed: int
) -> dict[str, Tensor]:
    """The routers' numbers at the start, with a leading axis of routers.

    The last bias is `scale`; the weights are Gaussian of standard deviation 0.01, drawn router by
    router, first layer first.
    """
    generator = torch.Generator().manual_seed(seed)
    bias = torch.full((routers, num_tasks), scale)
    if depth == 0:
        return {"bias": bias}
    drawn = []
    for _ in range(routers):
        hidden = [START * torch.randn(width, width, generator=generator)] if depth == 2 else []
        drawn.append([*hidden, START * torch.randn(num_tasks, width, generator=generator)])
    *hidden, weight = (torch.stack(layers) for layers in zip(*drawn, strict=True))
    numbers = {"weight": weight, "bias": bias}
    if hidden:
        numbers |= {"hidden_weight": hidden[0], "hidden_bias": torch.zeros(routers, width)}
    return numbers


def upscaled(experts: Experts, scale: float) -> Experts:
    """Experts that differ in the MLPs of the blocks only; all else is task arithmetic.

    The base's MLPs stay as they are. Holds the trained tensors of all experts at once.
    """
    base = dict(experts.base)
    own: dict[str, dict[str, Tensor]] = {task: {} for task in experts.tasks}
    for layer in experts:
        if ".mlp." in layer.name:
            for task in experts.tasks:
                own[task][layer.name] = experts.expert(task)[layer.name]
        else:
            merged = layer.base + scale * layer.total
            base[layer.name] = experts.to_base(layer.name, merged)
    return Experts(
        base,
        {task: {**base, **tensors} for task, tensors in own.items()},
        entries=experts.entries,
        frozen_extra=experts.frozen_extra,
        backbone=experts.backbone,
    )


def largest(layer: Layer, density: float) -> Tensor:
    """The largest entries of each task vector of a tensor, bool ``[T, *s]``.

    Those above the (1 - density) quantile of the magnitudes, as released: of n entries the
    smallest floor((1 - density) (n - 1)) + 1 go, and whatever equals the last of these.
    """
    if density >= 1 or not layer.numel:
        return torch.ones_like(layer.deltas, dtype=torch.bool)
    magnitudes = layer.deltas.abs().reshape(layer.num_tasks, -1)
    dropped = int((1 - density) * (layer.numel - 1)) + 1
    limits = magnitudes.kthvalue(dropped, dim=1, keepdim=True).values
    return (magnitudes > limits).view_as(layer.deltas)


def _train(
    inner: MergedModel,
    experts: Experts,
    calibration: Calibration,
    origin: Mapping[str, Tensor],
    *,
    shared: bool,
    depth: Depth,
    scale: float,
    steps: int,
    lr: float,
    batch_size: int,
    seed: int,
) -> RoutedModel:
    """Learn the routers and put the model together."""
    tower, tasks = calibration.tower, experts.tasks
    numbers = draw_routers(
        1 if shared else tower.num_blocks, tower.width, len(tasks), depth=depth, scale=scale,
        seed=seed,
    )  # fmt: skip
    merged = RoutedModel(experts.sizes, inner, "blocks", {}, numbers, origin)
    weights, leaves = fresh(merged.origin()), [v.requires_grad_() for v in numbers.values()]
    vectors = fresh(merged.vectors())
    routed = BlockRoutedTower(calibration.backbone, vectors, numbers)
    batches = {task: calibration.batches(task, batch_size, seed) for task in tasks}

    def loss(step: int) -> Tensor:
        chosen = {task: next(order) for task, order in batches.items()}
        images = torch.cat([calibration.inputs[task][rows] for task, rows in chosen.items()])
        features = routed(weights, images).split([len(rows) for rows in chosen.values()])
        parts = zip(tasks, features, strict=True)
        return sum(entropy(calibration.logits(own, task)) for task, own in parts)

    steps = steps if vectors else 0  # experts equal to the base leave nothing to learn
    minimise(leaves, loss, steps=steps, lr=lr, cosine=True, what="routers")
    merged.numbers = {key: value.detach() for key, value in numbers.items()}
    return merged


@model_method(
    "wemoe",
    title="WEMoE",
    paper="tang2024wemoe",
    family="routing",
    needs=("images",),
    grid={"scale": SCALES},
)
def wemoe(
    experts: Experts,
    calibration: Calibration,
    *,
    scale: Annotated[float, Range(0, 3)] = 0.3,
    depth: Depth = 2,
    steps: Annotated[int, Range(0)] = 160,
    lr: Annotated[float, Range(0)] = 1e-3,
    batch_size: Annotated[int, Range(1)] = 2,
    seed: Annotated[int, Range(0)] = 0,
) -> RoutedModel:
    r"""Mix the MLP of each block for each image; everything else is task arithmetic.

    In block b, for the tokens :math:`h_1 \dots h_L` that enter the MLP,
    :math:`w = \frac1L \sum_l r_b(h_l) \in R^T` with
    :math:`r_b(h) = W_2\,\mathrm{ReLU}(W_1 h + b_1) + b_2`, and the MLP has the weights
    :math:`\theta_0 + \sum_t w_t \tau_t`. All other tensors are
    :math:`\theta_0 + \lambda \sum_t \tau_t`. The routers start with :math:`b_2 = \lambda` and small
    Gaussian weights, about task arithmetic, and learn to minimise the sum over tasks of the mean
    entropy of the predictions on unlabelled images.
    Storage b(T P' + F) + b P' + 32 R bits, with P' the trained entries of the MLPs alone (of the
    experts, and of the base) and R the numbers of the routers: d (d + 1) + T (d + 1) per block.

    Parameters
    ----------
    experts : Experts
        Base and experts.
    calibration : Calibration
        Images of each task; labels are not read.
    scale : float, default 0.3
        The coefficient :math:`\lambda`.
    depth : {2, 1, 0}, default 2
        Layers of a router: as above; :math:`W h + b` alone; or constant weights per block, which
        is AdaMerging of the MLPs.
    steps : int, default 160
        Steps of Adam, with the rate falling on a cosine; 1000 in the paper.
    lr : float, default 1e-3
        Learning rate of Adam; 1e-4 in the paper, which also tries 1e-3 and 5e-5.
    batch_size : int, default 2
        Images of each task in a step; 16 in the paper.
    seed : int, default 0
        Seed of the routers' start, and of the order of the images.

    Notes
    -----
    The paper's text gives 0.01 as variance of the routers' start; the released code, and this one,
    as standard deviation. The paper learns on the unlabelled test images, here it is whatever the
    calibration holds. Training keeps the mixed weights of every image of a step: a batch times the
    size of the MLPs.
    """
    view = upscaled(experts, scale)
    mlps = {key: view.base[key] for key in view.trained}
    return _train(
        TaskModels.build(view), experts, calibration, mlps, shared=False, depth=depth,
        scale=scale, steps=steps, lr=lr, batch_size=batch_size, seed=seed,
    )  # fmt: skip


@model_method(
    "e_wemoe",
    title="E-WEMoE",
    paper="shen2024ewemoe",
    family="routing",
    needs=("images",),
    grid={"scale": SCALES},
)
def e_wemoe(
    experts: Experts,
    calibration: Calibration,
    *,
    scale: Annotated[float, Range(0, 3)] = 0.3,
    density: Annotated[float, Range(0, 1)] = 0.1,
    shared: bool = True,
    depth: Depth = 2,
    steps: Annotated[int, Range(0)] = 80,
    lr: Annotated[float, Range(0)] = 1e-2,
    batch_size: Annotated[int, Range(1)] = 4,
    seed: Annotated[int, Range(0)] = 0,
) -> RoutedModel:
    r"""WEMoE with sparse vectors and one router for all blocks.

    As :data:`wemoe`; of each task's vector of each MLP tensor only the entries of largest magnitude
    are kept, and a single router serves every block.
    Storage b(P' + F + K) + T P' + 32 R bits, with P' the trained entries of the MLPs alone, K the
    kept ones of all tasks, and R = d (d + 1) + T (d + 1).

    Parameters
    ----------
    experts : Experts
        Base and experts.
    calibration : Calibration
        Images of each task; labels are not read.
    scale : float, default 0.3
        The coefficient :math:`\lambda`.
    density : float, default 0.1
        Kept share of each task vector of each MLP tensor.
    shared : bool, default True
        One router for all blocks, or one for each.
    depth : {2, 1, 0}, default 2
        Layers of a router, see :data:`wemoe`.
    steps : int, default 80
        Steps of Adam, with the rate falling on a cosine; 1000 in the paper.
    lr : float, default 1e-2
        Learning rate of Adam; 1e-4 in the paper.
    batch_size : int, default 4
        Images of each task in a step; 16 in the paper.
    seed : int, default 0
        Seed of the router's start, and of the order of the images.

    Notes
    -----
    Pruning is that of FusionBench: entries above the quantile of the magnitudes, tensor by tensor
    and biases included, not rescaled; its option to tell the shared router the block's number is
    left out. A density of 1 keeps everything here, all but the smallest entry there.
    """
    view = upscaled(experts, scale)
    sparse = SparseModel.build(view, lambda layer: largest(layer, density))
    return _train(
        sparse, experts, calibration, {}, shared=shared, depth=depth, scale=scale, steps=steps,
        lr=lr, batch_size=batch_size, seed=seed,
    )  # fmt: skip
