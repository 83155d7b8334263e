"""SyMerge, at first Model Tinting: learn from the labels of experts [jung2026symerge]."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from mergebook.calibration import Calibration, random_passes
from mergebook.learning import Batches, Combination, clamped, features, image_batches, minimise
from mergebook.learning.coefficients import Clamp, Init
from mergebook.learning.pseudo_labels import Samples, expert_predictions, pseudo_label_loss
from mergebook.merged import HeadedModel, SharedModel
from mergebook.registry import Learning, model_method
from mergebook.weights import Experts

Learn = Annotated[
    Literal["both", "heads", "coefficients"], "What is learned; the rest stays as it starts."
]


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
    init: Init = 0.3,
    clamp: Clamp = "unit",
    learning: Learning = Learning(steps=20, lr=3e-2, batch_size=32),
) -> HeadedModel:
    r"""Learn coefficients per layer and a head per task from the labels that the experts give.

    Weights are :math:`\theta^l = \theta_0^l + \sum_t \lambda_t^l \tau_t^l`, as in
    :data:`mergebook.methods.adamerging.adamerging_layer`; each task also has a head
    :math:`W_t`, at first the zero-shot head. With the label :math:`\hat y(x)` that the task's
    expert predicts for an unlabelled image,

    .. math:: \min_{\lambda, W} \sum_t \frac1{|B_t|} \sum_{x \in B_t}
        -\log p_{\theta, W_t}(\hat y(x) \mid x) .

    In each pass every task is visited once, in random order, with a step of Adam for its batch
    [jung2026symerge]. All task vectors are held in memory.
    Storage: the merged model and T heads of 32-bit entries.

    Parameters
    ----------
    steps : int, default 20
        Passes over the tasks, T steps of Adam each; 500 in the released configuration.
    lr : float, default 0.03
        Learning rate, of coefficients and heads alike; 0.01 there, with more passes.
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
    batches = image_batches(calibration, learning)
    order = Batches(lambda: random_passes(len(tasks), 1, learning.seed))

    def loss(step: int) -> Tensor:
        task = tasks[order[step]]
        index = batches[task][step // len(tasks)]
        rows = features(calibration, combination(clamped(coefficients, clamp)), {task: index})[task]
        logits = F.normalize(rows, dim=-1) @ heads[task].T
        return pseudo_label_loss(logits, *(said[index] for said in teacher[task]), samples)

    every = replace(learning, steps=learning.steps * len(tasks))
    minimise(learned, loss, every, by_step=True, what="coefficients and heads")
    with torch.no_grad():
        merged = combination(clamped(coefficients, clamp))
        heads = {task: (head / calibration.logit_scale).float() for task, head in heads.items()}
    shared = SharedModel.build(experts, lambda layer: merged[layer.name])
    return HeadedModel(experts.sizes, shared.weights, heads)
