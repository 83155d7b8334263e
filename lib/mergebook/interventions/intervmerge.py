"""IntervMerge: learned edits of the class token inside every block [osial2024intervmerge]."""

from __future__ import annotations

from typing import Annotated, Literal

from torch import Tensor

from mergebook.interventions.fitting import fit
from mergebook.interventions.forms import Edit, Edited, Form, draw_intervention, intervention_sites
from mergebook.interventions.imitation import Imitation
from mergebook.interventions.merges import (
    SMALL_SCALES,
    TIES,
    Learned,
    MergeScale,
    learnable,
)
from mergebook.interventions.starts import start
from mergebook.merged import IntervenedModel
from mergebook.methods.ties import elected, prepare_ties
from mergebook.registry import Learning, Range, model_method
from mergebook.weights import Experts

Weights = dict[str, dict[str, Tensor]]
Training = Annotated[Learning, {"lr": Range(0)}]


def trimmed_experts(experts: Experts) -> Weights:
    """Base plus each trimmed, sign-elected task vector of TIES, for each task.

    Holds the trained tensors of all tasks at once.
    """
    state = prepare_ties(experts, **TIES)
    weights = {task: dict(experts.base) for task in experts.tasks}
    for layer in experts:
        for task, vector in zip(experts.tasks, elected(layer, state), strict=True):
            weights[task][layer.name] = experts.to_base(layer.name, layer.base + vector)
    return weights


def intervene(
    imitation: Imitation,
    learning: Learning,
    *,
    form: Form,
    edit: Edit,
    learned: Learned | None = None,
) -> IntervenedModel:
    """Learn the edits of a merge; see :data:`intervmerge`, and :func:`fit` for the last."""
    sites = intervention_sites(imitation.tower, form, edit, learning.seed)
    draw = draw_intervention(edit.biases, edit.init or "random")
    numbers = start(sites, edit.rank, len(imitation.tasks), draw, learning.seed)
    return fit(imitation, sites, numbers, learning, learned=learned)


@model_method(
    "intervmerge",
    title="IntervMerge",
    paper="osial2024intervmerge",
    family="intervention",
    needs=("images",),
    prepare=Imitation.of,
    grid={"scale": SMALL_SCALES},
)
def intervmerge(
    imitation: Imitation,
    *,
    merge: Edited = "task_arithmetic",
    scale: MergeScale = 0.3,
    form: Form = "noreft",
    edit: Edit = Edit(
        place="attention",
        tokens="class",
        skip=0,
        every=1,
        slices="of the form",
        activation="linear",
        init="random",
    ),
    teacher: Literal["expert", "trimmed"] = "expert",
    coefficients: Literal["fixed", "learned"] = "fixed",
    coefficient_lr: Annotated[float, Range(0)] = 1e-2,
    learning: Training = Learning(steps=60, lr=3e-2, updates=1),
) -> IntervenedModel:
    r"""Edit the class token after the attention of every block, by a few numbers per task.

    :math:`h \leftarrow \Phi_b^t(h)` on the class token of the attention's output, before it is
    added to the residual stream. The numbers of :math:`\Phi_b^t` are learned on unlabelled images,
    so that the final features come close to those of the task's expert in the mean absolute
    difference; the merged weights stay. With :math:`W, W_1, W_2 \in R^{r \times m}`,
    :math:`R \in R^{m \times r}` of orthonormal columns, and m = d unless the form is a mini one:

    ====================  ==========================================================  ========
    form                  :math:`\Phi(h)`                                             numbers
    ====================  ==========================================================  ========
    noreft                :math:`h + W_2^\top(W_1 h + b_1 - W_2 h - b_2)`             2rm + 2r
    nodireft              :math:`h + W_2^\top(W_1 h + b_1)`                           2rm + r
    loreft                :math:`h + R(W h + b - R^\top h)`                           2rm + r
    direft                :math:`h + R(W h + b)`                                      2rm + r
    consreft              :math:`h + R(b - R^\top h)`                                 rm + r
    lobireft              :math:`h + R b`                                             rm + r
    mini                  noreft on the first m coordinates                           2rm + 2r
    mini_efficient        lobireft on the first m coordinates                         rm + r
    mini_best_efficient   lobireft on coordinates bm to (b + 1)m in block b           rm + r
    mini_multi            noreft on four slices of m / 4 coordinates                  2rm + 8r
    ====================  ==========================================================  ========

    Storage b(P' + F) + 32 T M bits, M the numbers of all blocks.

    Parameters
    ----------
    form : str, default "noreft"
        See the table.
    teacher : {"expert", "trimmed"}, default "expert"
        The experts; or, on TIES, the base plus the trimmed and sign-elected task vector, as
        released.
    coefficients : {"fixed", "learned"}, default "fixed"
        Whether the merge stays as it is; or its coefficients, one per task and tensor and held
        within [0, 1], learn together with the interventions, which takes all task vectors in
        memory. Not defined for CART.
    coefficient_lr : float, default 1e-2
        Learning rate of these coefficients; 1e-3 in the released scripts.
    steps : int, default 60
        Adam steps of each task; 1000 in the released scripts.
    lr : float, default 3e-2
        Learning rate of Adam; 1e-3 in the released scripts, which take more steps.
    seed : int, default 0
        Seed of the start and of the order of the images, the same for each task.

    Notes
    -----
    The forms, their start and the two biases are those of the released code; the formula in its
    comments has one bias. Linear maps start random there, so that an unlearned model is near the
    merged one, not equal to it.

    Differences to the released code: each number is handed to Adam once (there three times, which
    acts as up to three updates per step); merging coefficients stay by default (there those of
    AdaMerging learn on, with a step for each task in turn); depth and width are those of the
    backbone (there 12 blocks, also on ViT-L/14, and width 768 in the mini forms); R is the Q of a
    QR decomposition (there torch's orthogonal parametrisation); an unused bias of "nodireft" is
    left out. The paper learns on the unlabelled test images; here it is whatever the calibration
    holds.
    """
    experts, calibration = imitation.experts, imitation.calibration
    if teacher == "trimmed" and merge == "ties":
        imitation = imitation.taught_by(trimmed_experts(experts))
    learned = None
    if coefficients == "learned":
        share = coefficient_lr / learning.lr if learning.lr else 0.0
        learned = learnable(experts, calibration, merge, scale, share)
    return intervene(imitation, learning, form=form, edit=edit, learned=learned)
