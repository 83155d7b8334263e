"""IntervMerge: learned edits of the class token inside every block [osial2024intervmerge]."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Literal

import torch
from torch import Tensor

from mergebook.calibration import Calibration
from mergebook.errors import ParameterError
from mergebook.interventions.fitting import (
    SCALES,
    TIES_DENSITY,
    TIES_KEEP,
    Coefficients,
    Merge,
    fit,
    learnable,
    orthonormal,
    shared_merge,
    start,
    uniform,
)
from mergebook.merged import IntervenedModel
from mergebook.merged.intervened import Site
from mergebook.methods.ties import elected, prepare_ties
from mergebook.registry import Range, model_method
from mergebook.towers.tower import Tower
from mergebook.weights import Experts

Mini = Literal["mini", "mini_efficient", "mini_best_efficient", "mini_multi"]
Form = Literal[
    "noreft", "nodireft", "loreft", "direft", "consreft", "lobireft",
    "mini", "mini_efficient", "mini_best_efficient", "mini_multi",
]  # fmt: skip
Biases = Literal["two", "one"]
Place = Literal["attention", "block"]
Tokens = Literal["class", "all"]
Teacher = Literal["expert", "trimmed"]

SHIFTS = {"mini_efficient": "lobireft", "mini_best_efficient": "lobireft"}
# Where the four slices of "mini_multi" start, of 768 coordinates; the last ends with them.
STARTS = (0, 184, 568)


def slices(form: Form, width: int, block: int, part: int) -> list[tuple[int, int]]:
    """The coordinates that the interventions of a block edit, as (start, stop).

    Parameters
    ----------
    form : str
        See :data:`intervmerge`.
    width : int
        Width d of the transformer.
    block : int
        Number of the block.
    part : int
        Slice width m of the mini forms.

    Raises
    ------
    ParameterError
        If a slice does not fit into the width, or two of a block overlap.
    """
    if not form.startswith("mini"):
        return [(0, width)]
    if form == "mini_multi":
        each = part // 4
        starts = [place * width // 768 for place in STARTS] + [width - each]
        found = [(begin, begin + each) for begin in starts]
        if each < 1 or any(one[1] > two[0] for one, two in pairwise(found)):
            raise ParameterError(
                f"intervmerge: part={part} does not give four separate slices of {width}"
            )
        return found
    begin = block * part if form == "mini_best_efficient" else 0
    if begin + part > width:
        raise ParameterError(
            f"intervmerge: part={part}: the slice of block {block} ends at {begin + part}, "
            f"beyond the width {width}"
        )
    return [(begin, begin + part)]


def intervention_sites(
    tower: Tower,
    form: Form,
    *,
    part: int = 0,
    blocks: int = 24,
    place: Place = "attention",
    tokens: Tokens = "class",
) -> list[Site]:
    """The sites of the last `blocks` blocks, for the parameters of :data:`intervmerge`."""
    kind = SHIFTS.get(form, "noreft" if form.startswith("mini") else form)
    ending = ".attention" if place == "attention" else ""
    return [
        Site(f"blocks.{block}{ending}", kind, tokens, *span)
        for block in range(max(0, tower.num_blocks - blocks), tower.num_blocks)
        for span in slices(form, tower.width, block, part or tower.width // tower.num_blocks)
    ]


def draw_intervention(biases: Biases = "two"):
    """The numbers of a site at the start, drawn in this order.

    Linear maps and their biases are uniform within one over the root of their width m, as torch's
    linear layers are; R is a basis of the columns of a Gaussian matrix; the bias of the forms that
    do not look at their input is uniform in [0, 1).
    """

    def draw(site: Site, rank: int, generator: torch.Generator) -> dict[str, Tensor]:
        width = site.stop - site.start
        numbers: dict[str, Tensor] = {}

        def linear(*shape: int) -> Tensor:
            return uniform(*shape, fan_in=width, generator=generator)

        if site.form in ("noreft", "nodireft"):
            numbers |= {"w1": linear(rank, width), "b1": linear(rank), "w2": linear(rank, width)}
            if site.form == "noreft" and biases == "two":
                numbers["b2"] = linear(rank)
            return numbers
        if rank > width:
            raise ParameterError(
                f"intervmerge: rank={rank} is more than the {width} coordinates it edits"
            )
        numbers["r"] = orthonormal(torch.randn(width, rank, generator=generator))
        if site.form in ("loreft", "direft"):
            return numbers | {"w": linear(rank, width), "b": linear(rank)}
        return numbers | {"b": torch.rand(rank, generator=generator)}

    return draw


def trimmed_experts(experts: Experts) -> dict[str, dict[str, Tensor]]:
    """Base plus each trimmed, sign-elected task vector of TIES, for each task.

    Holds the trained tensors of all tasks at once.
    """
    state = prepare_ties(experts, TIES_DENSITY, TIES_KEEP)
    weights = {task: dict(experts.base) for task in experts.tasks}
    for layer in experts:
        for task, vector in zip(experts.tasks, elected(layer, state), strict=True):
            weights[task][layer.name] = experts.to_base(layer.name, layer.base + vector)
    return weights


def _intervene(
    experts: Experts,
    calibration: Calibration,
    *,
    merge: Merge,
    scale: float,
    form: Form,
    rank: int,
    biases: Biases,
    part: int,
    blocks: int,
    place: Place,
    tokens: Tokens,
    teacher: Teacher,
    coefficients: Coefficients,
    coefficient_lr: float,
    lr: float,
    seed: int,
    **training: float,
) -> IntervenedModel:
    sites = intervention_sites(
        calibration.tower, form, part=part, blocks=blocks, place=place, tokens=tokens
    )
    numbers = start(sites, rank, len(experts.tasks), draw_intervention(biases), seed)
    teachers = trimmed_experts(experts) if teacher == "trimmed" and merge == "ties" else None
    learned = None
    if coefficients == "learned":
        share = coefficient_lr / lr if lr else 0.0
        learned = learnable(experts, calibration, merge, scale, share)
        merge = "averaging"  # for what no expert changed
    merged = shared_merge(experts, calibration, merge, scale)
    return fit(
        merged, experts, calibration, sites, numbers, teachers=teachers, learned=learned, lr=lr,
        seed=seed, **training,
    )  # fmt: skip


@model_method(
    "intervmerge",
    title="IntervMerge",
    paper="osial2024intervmerge",
    family="intervention",
    needs=("images",),
    grid={"scale": SCALES},
)
def intervmerge(
    experts: Experts,
    calibration: Calibration,
    *,
    merge: Merge = "task_arithmetic",
    scale: Annotated[float, Range(0, 3)] = 0.3,
    form: Form = "noreft",
    rank: Annotated[int, Range(1)] = 1,
    biases: Biases = "two",
    part: Annotated[int, Range(0)] = 0,
    blocks: Annotated[int, Range(1)] = 24,
    place: Place = "attention",
    tokens: Tokens = "class",
    teacher: Teacher = "expert",
    coefficients: Coefficients = "fixed",
    coefficient_lr: Annotated[float, Range(0)] = 1e-2,
    steps: Annotated[int, Range(0)] = 60,
    lr: Annotated[float, Range(0)] = 3e-2,
    batch_size: Annotated[int, Range(1)] = 16,
    seed: Annotated[int, Range(0)] = 0,
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
    experts : Experts
        Base and experts; the experts are the teachers.
    calibration : Calibration
        Images of each task; labels are not read.
    merge : {"averaging", "task_arithmetic", "ties", "adamerging_layer", "cart"}
        The static merge to edit.
    scale : float, default 0.3
        Scale of the merge, where it has one.
    form : str, default "noreft"
        See the table.
    rank : int, default 1
        Rank r.
    biases : {"two", "one"}, default "two"
        Whether "noreft" (also in the mini forms) has a bias in both maps, or one, which can do the
        same with r numbers less.
    part : int, default 0
        Slice width m of the mini forms; 0 takes the width over the number of blocks, which is the
        released 64 on ViT-B.
    blocks : int, default 24
        The last so many blocks are edited; all, where there are fewer.
    place : {"attention", "block"}, default "attention"
        The output of the attention, or of the whole block.
    tokens : {"class", "all"}, default "class"
        Edit the class token, or every token in the same way.
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
    batch_size : int, default 16
        Images of each task in a step.
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
    return _intervene(
        experts, calibration, merge=merge, scale=scale, form=form, rank=rank, biases=biases,
        part=part, blocks=blocks, place=place, tokens=tokens, teacher=teacher,
        coefficients=coefficients, coefficient_lr=coefficient_lr, steps=steps, lr=lr,
        batch_size=batch_size, seed=seed,
    )  # fmt: skip


@model_method(
    "intervmerge_mini",
    title="IntervMerge (mini)",
    paper="osial2024intervmerge",
    family="intervention",
    needs=("images",),
    grid={"scale": SCALES},
)
def intervmerge_mini(
    experts: Experts,
    calibration: Calibration,
    *,
    merge: Merge = "task_arithmetic",
    scale: Annotated[float, Range(0, 3)] = 0.3,
    form: Mini = "mini_best_efficient",
    rank: Annotated[int, Range(1)] = 1,
    biases: Biases = "two",
    part: Annotated[int, Range(0)] = 0,
    blocks: Annotated[int, Range(1)] = 24,
    steps: Annotated[int, Range(0)] = 60,
    lr: Annotated[float, Range(0)] = 0.1,
    batch_size: Annotated[int, Range(1)] = 16,
    seed: Annotated[int, Range(0)] = 0,
) -> IntervenedModel:
    """Edit a slice of the class token in every block: the mini forms of :data:`intervmerge`.

    The default adds to the class token of block b a constant vector on a slice of its own, so that
    the slices of all blocks tile the width. Storage b(P' + F) + 32 T M bits.

    Parameters
    ----------
    experts : Experts
        Base and experts; the experts are the teachers.
    calibration : Calibration
        Images of each task; labels are not read.
    merge : {"averaging", "task_arithmetic", "ties", "adamerging_layer", "cart"}
        The static merge to edit.
    scale : float, default 0.3
        Scale of the merge, where it has one.
    form : str, default "mini_best_efficient"
        See :data:`intervmerge`.
    rank : int, default 1
        Rank r.
    biases : {"two", "one"}, default "two"
        Of the forms "mini" and "mini_multi", see :data:`intervmerge`.
    part : int, default 0
        Slice width m; 0 takes the width over the number of blocks.
    blocks : int, default 24
        The last so many blocks are edited; all, where there are fewer.
    steps : int, default 60
        Adam steps of each task; 1000 in the released scripts.
    lr : float, default 0.1
        Learning rate of Adam; 1e-3 in the released scripts, which take more steps.
    batch_size : int, default 16
        Images of each task in a step.
    seed : int, default 0
        Seed of the start and of the order of the images, the same for each task.

    Notes
    -----
    As :data:`intervmerge`. Which of the mini forms the paper's tables report is our reading of the
    released code, which calls the shifted constant one its best.
    """
    return _intervene(
        experts, calibration, merge=merge, scale=scale, form=form, rank=rank, biases=biases,
        part=part, blocks=blocks, place="attention", tokens="class", teacher="expert",
        coefficients="fixed", coefficient_lr=0.0, steps=steps, lr=lr, batch_size=batch_size,
        seed=seed,
    )  # fmt: skip
