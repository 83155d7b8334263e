"""SyMerge, at first Model Tinting: learn from the labels of experts [jung2026symerge]."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from mergebook.calibration import Calibration
from mergebook.learning import Combination, features, minimise, scores
from mergebook.merged import HeadedModel, SharedModel
from mergebook.methods.adamerging import Clamp, clamped
from mergebook.registry import Range, model_method
from mergebook.weights import Experts

Samples = Literal["confident", "all"]
Learn = Literal["both", "heads", "coefficients"]
CHUNK = 250  # images per pass through an expert


@torch.no_grad()
def expert_predictions(
    experts: Experts, calibration: Calibration, task: str
) -> tuple[Tensor, Tensor]:
    """Labels ``[N]`` that a task's expert gives to its images, and their probabilities ``[N]``."""
    weights = {key: value.to(experts.dtype) for key, value in experts.expert(task).items()}
    chunks = torch.arange(len(calibration.inputs[task])).split(CHUNK)
    rows = torch.cat([features(calibration, weights, {task: index})[task] for index in chunks])
    probability, label = scores(calibration, task, rows).softmax(-1).max(-1)
    return label, probability


def pseudo_label_loss(
    logits: Tensor, label: Tensor, probability: Tensor, samples: Samples
) -> Tensor:
    """Cross-entropy ``[]`` of scores ``[B, C]`` against an expert's labels, over trusted images.

    Parameters
    ----------
    logits : Tensor, shape [B, C]
        Scores of the merged model.
    label, probability : Tensor, shape [B]
        What the expert says, and how sure it is.
    samples : {"confident", "all"}
        "confident" leaves out images on which the two disagree and the merged model is surer; if
        none is left the loss is zero.
    """
    losses = F.cross_entropy(logits, label, reduction="none")
    if samples == "all":
        return losses.mean()
    own_probability, own_label = logits.detach().softmax(-1).max(-1)
    trusted = (own_label == label) | (probability >= own_probability)
    return (losses * trusted).sum() / trusted.sum().clamp(min=1)


@model_method(
    "symerge",
    title="SyMerge",
    paper="jung2026symerge",
    family="adapted",
    symmetric=False,
    needs=("images",),
    grid={"lr": (0.03, 0.1)},
)
def symerge(
    experts: Experts,
    calibration: Calibration,
    *,
    samples: Samples = "confident",
    learn: Learn = "both",
    init: Annotated[float, Range(0, 3)] = 0.3,
    clamp: Clamp = "unit",
    steps: Annotated[int, Range(0)] = 20,
    lr: Annotated[float, Range(0, 1)] = 3e-2,
    batch_size: Annotated[int, Range(1)] = 32,
    seed: Annotated[int, Range(0)] = 0,
) -> HeadedModel:
    r"""Learn coefficients per layer and a head per task from the labels that the experts give.

    Weights are :math:`\theta^l = \theta_0^l + \sum_t \lambda_t^l \tau_t^l`, as in
    :data:`mergebook.methods.adamerging.adamerging_layer`; each task also has a head
    :math:`W_t`, at first the zero-shot head. With the label :math:`\hat y(x)` that the task's
    expert predicts for an unlabelled image,

    .. math:: \min_{\lambda, W} \sum_t \frac1{|B_t|} \sum_{x \in B_t}
        -\log p_{\theta, W_t}(\hat y(x) \mid x) .

    In each pass every task is visited once, in random order, with a step of Adam for its batch
    [jung2026symerge]. Storage: the merged model and T heads of 32-bit entries.

    Parameters
    ----------
    experts : Experts
        Base and experts; all task vectors are held in memory.
    calibration : Calibration
        Unlabelled images and the zero-shot heads.
    samples : {"confident", "all"}, default "confident"
        Which images count: all but those on which the merged model contradicts the expert and is
        surer than it (SyMerge, Model Tinting++), or all (Model Tinting).
    learn : {"both", "heads", "coefficients"}, default "both"
        What is learned; the rest stays as it starts.
    init : float, default 0.3
        Value that all :math:`\lambda_t^l` start from.
    clamp : {"unit", "none"}, default "unit"
        Whether the coefficients are held within [0, 1].
    steps : int, default 20
        Passes over the tasks, T steps of Adam each; 500 in the released configuration.
    lr : float, default 0.03
        Learning rate, of coefficients and heads alike; 0.01 there, with more passes.
    batch_size : int, default 32
        Images of a task per step.
    seed : int, default 0
        Seed of the order of images and tasks.

    Notes
    -----
    The released head is a linear layer on normalised features whose weights are the zero-shot head
    times the logit scale; learning is done on this scale here as well, and what is returned is
    divided by it again. The released layer also learns a bias, at first zero; heads here have
    none. A head moves only in the steps of its own task (optimisers that keep zero gradients would
    let momentum move it in between). Released code runs in mixed precision, and skips a batch
    without a trusted image; here such a batch has zero loss.

    Papers and notes on early versions speak of soft labels and of the surest share of the samples;
    the released code has the hard labels and the rule above.

    The released code adapts on the unlabelled test images; here they come from another split by
    default (:meth:`mergebook.Benchmark.calibration`).
    """
    tasks = experts.tasks
    combination = Combination(experts)
    coefficients = torch.full((len(combination.names), len(tasks)), init, dtype=experts.dtype)
    heads = {
        task: calibration.logit_scale * calibration.heads[task].to(experts.dtype) for task in tasks
    }
    learned = ([coefficients] if learn != "heads" else []) + (
        list(heads.values()) if learn != "coefficients" else []
    )
    for tensor in learned:
        tensor.requires_grad_()
    teacher = {task: expert_predictions(experts, calibration, task) for task in tasks}
    streams = {task: calibration.batches(task, batch_size, seed) for task in tasks}
    generator = torch.Generator().manual_seed(seed)
    order: list[int] = []

    def loss(step: int) -> Tensor:
        if not order:
            order.extend(torch.randperm(len(tasks), generator=generator).tolist())
        task = tasks[order.pop(0)]
        index = next(streams[task])
        rows = features(calibration, combination(clamped(coefficients, clamp)), {task: index})[task]
        logits = F.normalize(rows, dim=-1) @ heads[task].T
        return pseudo_label_loss(logits, *(said[index] for said in teacher[task]), samples)

    minimise(learned, loss, steps=steps * len(tasks), lr=lr, what="coefficients and heads")
    with torch.no_grad():
        merged = combination(clamped(coefficients, clamp))
        heads = {task: (head / calibration.logit_scale).float() for task, head in heads.items()}
    shared = SharedModel.build(experts, lambda layer: merged[layer.name])
    return HeadedModel(experts.sizes, shared.weights, heads)
