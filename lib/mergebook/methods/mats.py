"""MaTS: matching models in their task parameter subspaces [tam2024mats]."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Literal

import torch
from torch import Tensor

from mergebook.activations import conjugate_gradients, damp, output_moments, seen_inputs
from mergebook.calibration import Calibration
from mergebook.errors import MethodError
from mergebook.registry import Range, merge_method
from mergebook.registry.types import NumImages, Scale
from mergebook.towers.tape import tower_weights
from mergebook.weights import Experts, Layer

Objective = Literal["covariance", "fisher"]
Start = Literal["average", "task_arithmetic", "base"]


def prepare_mats(
    experts: Experts,
    calibration: Calibration,
    num_images: int,
    objective: Objective,
    iterations: int,
    start: Start,
    start_scale: float,
    off_diagonal: float,
) -> dict[str, Tensor]:
    """Merged task vectors of the linear maps: one system of equations for each."""
    few, weights = calibration.first(num_images), tower_weights(experts, calibration)
    gradients = []
    if objective == "fisher":
        gradients = [output_moments(few, task, weights[task]) for task in experts.tasks]
    vectors = {}
    for seen in seen_inputs(experts, few):
        if seen.kind != "linear":
            continue
        deltas, inputs = seen.layer.deltas.double(), damp(seen.moments, off_diagonal)
        factor = {"average": 1 / len(deltas), "task_arithmetic": start_scale, "base": 0.0}[start]
        outputs = None
        if objective == "fisher":
            outputs = torch.stack([_part(moments, seen.layer.name) for moments in gradients])
            outputs = damp(outputs, off_diagonal)
        operator, right = _system(deltas, inputs, outputs)
        solution = conjugate_gradients(operator, right, factor * deltas.sum(0), iterations)
        vectors[seen.layer.name] = seen.stored(solution)
    return vectors


def _system(
    deltas: Tensor, inputs: Tensor, outputs: Tensor | None
) -> tuple[Callable[[Tensor], Tensor], Tensor]:
    """Left-hand side, as a map of X ``[out, in]``, and right-hand side of a map's equations."""
    if outputs is not None:
        return lambda x: (outputs @ (x @ inputs)).sum(0), (outputs @ deltas @ inputs).sum(0)
    total = inputs.sum(0)
    return lambda x: x @ total, (deltas @ inputs).sum(0)


def _part(moments: Mapping[str, Tensor], name: str) -> Tensor:
    """Output moments of a map, or of one of query, key, value: a block on the diagonal."""
    if name in moments:
        return moments[name]
    if not name.endswith(("[q]", "[k]", "[v]")):
        raise MethodError(
            f"mats: objective='fisher' with qkv='fused' needs query, key and value stored as one "
            f"matrix; {name!r} is a stack of three, take qkv='split'"
        )
    third = "qkv".index(name[-2])
    return moments[name[:-3]].tensor_split(3)[third].tensor_split(3, 1)[third]


@merge_method(
    "mats",
    title="MaTS",
    paper="tam2024mats",
    family="statistics",
    prepare=prepare_mats,
    needs=("images",),
    qkv="split",
    grid={"objective": ("covariance", "fisher")},
)
def mats(
    layer: Layer,
    state: dict[str, Tensor],
    *,
    objective: Objective = "covariance",
    iterations: Annotated[int, Range(0, 1_000_000)] = 100,
    start: Start = "task_arithmetic",
    start_scale: Scale = 0.3,
    num_images: NumImages = 32,
    off_diagonal: Annotated[float, Range(0, 1)] = 1.0,
) -> Tensor:
    r"""Match the experts where their tasks look, by conjugate gradients on a linear system.

    For each linear map, from a starting point, a number of steps towards the solution of

    .. math:: \sum_t W G_t = \sum_t W_t G_t \quad\text{(covariance)}, \qquad
        \sum_t H_t W G_t = \sum_t H_t W_t G_t \quad\text{(block Fisher)}

    with :math:`G_t = E[xx^\top]` of the inputs on unlabelled images of task t, and
    :math:`H_t = E[\sum_c p_c\, g_c g_c^\top]` of the gradients :math:`g_c` of
    :math:`\log p_c` at the outputs: K-FAC's approximation of the Fisher information of the matrix
    [tam2024mats, sec. 3]. Averaging, Fisher merging and RegMean are the same with
    :math:`G_t \otimes H_t` replaced by the identity, a diagonal, and :math:`G_t \otimes I`.
    Everything but linear maps is averaged.

    Parameters
    ----------
    objective : {"covariance", "fisher"}, default "covariance"
        Which system. The covariance has RegMean without damping for its solution; the Fisher
        objective has no closed form of feasible size. On the mini suite with 8 tasks and 100
        steps they take 3 and 19 seconds.
    iterations : int, default 100
        Steps; 100 in the paper for full models. With few, the start decides the result.
    start : {"average", "task_arithmetic", "base"}, default "task_arithmetic"
        Where to start.
    start_scale : float, default 0.3
        Scale of task arithmetic as a start; the paper's value for T5-Large.
    num_images : int, default 32
        Images per task, the first of the calibration; at most 1000 in the paper.
    off_diagonal : float, default 1.0
        Factor on the entries of :math:`G_t` and :math:`H_t` off their diagonals.

    Notes
    -----
    The paper merges T5 and (IA)3; this is the same for the linear maps of an image encoder, with
    query, key and value apart as in Hugging Face's checkpoints. For the block Fisher objective the
    arrangement matters, for the covariance it does not.

    The paper's gradients are those of labels, or of one label drawn per example from the model's
    predictions; here the expectation over all classes is taken, without labels. Moments are means
    over tokens, as in the released code, which solves in float32 with SciPy's ``cg`` on weights,
    stopping at a residual of 1e-5 of the right-hand side; here steps are in float64 on task
    vectors, and stop at 1e-12. Directions that no image has stay at the start.

    From about 20 steps on the result depends on rounding by per cents of a map's task vector, more
    with few images: conjugate gradients amplify the last bits of their inputs along directions that
    the images hardly have, and these bits differ between processors and numbers of threads.
    """
    mean = layer.total / layer.num_tasks
    return layer.base + state.get(layer.name, mean)
