"""Multi-task training: fine-tuning on all tasks at once, the line that merging is measured by."""

from __future__ import annotations

from typing import Annotated

from mergebook.calibration import Calibration
from mergebook.learning.tuning import labelled_batches, tune
from mergebook.merged import SharedModel
from mergebook.registry import Learning, Range, model_method
from mergebook.weights import Experts


@model_method(
    "multitask",
    title="Multi-task training",
    paper=None,
    family="training",
    status="common knowledge",
    needs=("images", "labels"),
    grid={"lr": (0.0005, 0.001, 0.002)},
)
def multitask(
    experts: Experts,
    calibration: Calibration,
    *,
    learning: Annotated[Learning, {"lr": Range(0, 10)}] = Learning(60, 1e-3, optimizer="adamw"),
) -> SharedModel:
    r"""Fine-tune the base on the labelled images of all tasks together.

    .. math:: \min_\theta \frac1T \sum_t \frac1{|D_t|} \sum_{(x, y) \in D_t}
        -\log p_\theta(y \mid x)

    with the frozen zero-shot heads, from :math:`\theta = \theta_0`. Not a merge: of the experts it
    takes only which tensors they changed, and trains these. It is the reference that merging would
    replace, since it needs all data in one place.

    Parameters
    ----------
    steps : int, default 60
        Number of steps, each with a batch of every task.
    lr : float, default 0.001
        Learning rate at first; it falls to zero on a cosine.
    optimizer : {"adamw", "sgd"}, default "adamw"
        AdamW with weight decay 0.1 and gradients clipped at norm 1, as for the experts; or
        gradient descent without either.

    Notes
    -----
    The line "traditional MTL" in papers is trained on the full training sets of all tasks. This
    one sees the calibration images only, a small sample of what the experts were trained on:
    raise ``calibration_size`` of :class:`mergebook.Benchmark` (and `steps`) for a fair line, and
    state both.
    """
    start = {key: value.to(experts.dtype) for key, value in experts.base.items()}
    streams = {task: labelled_batches(calibration, task, learning) for task in experts.tasks}
    tuned = tune(start, experts.trained, calibration, streams, learning, cosine=True)
    return SharedModel.build(experts, lambda layer: tuned[layer.name])
