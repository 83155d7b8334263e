"""IntervMerge on slices of the class token: its mini forms [osial2024intervmerge]."""

from __future__ import annotations

from mergebook.interventions.forms import Edit, Edited, Mini
from mergebook.interventions.imitation import Imitation
from mergebook.interventions.intervmerge import Training, intervene
from mergebook.interventions.merges import SMALL_SCALES, MergeScale
from mergebook.merged import IntervenedModel
from mergebook.registry import Learning, model_method


@model_method(
    "intervmerge_mini",
    title="IntervMerge (mini)",
    paper="osial2024intervmerge",
    family="intervention",
    needs=("images",),
    prepare=Imitation.of,
    grid={"scale": SMALL_SCALES},
)
def intervmerge_mini(
    imitation: Imitation,
    *,
    merge: Edited = "task_arithmetic",
    scale: MergeScale = 0.3,
    form: Mini = "mini_best_efficient",
    edit: Edit = Edit(),
    learning: Training = Learning(steps=60, lr=0.1),
) -> IntervenedModel:
    """Edit a slice of the class token in every block: IntervMerge in one of its mini forms.

    The default adds to the class token of block b a constant vector on a slice of its own, so that
    the slices of all blocks tile the width. The forms are in the table of
    :data:`mergebook.interventions.intervmerge.intervmerge`.
    Storage b(P' + F) + 32 T M bits.

    Parameters
    ----------
    form : str, default "mini_best_efficient"
        See the table of IntervMerge.
    biases : {"two", "one"}, default "two"
        Of the forms "mini" and "mini_multi": whether both maps have a bias, or one.
    part : int, default 0
        Slice width m; 0 takes the width over the number of blocks.
    steps : int, default 60
        Adam steps of each task; 1000 in the released scripts.
    lr : float, default 0.1
        Learning rate of Adam; 1e-3 in the released scripts, which take more steps.
    seed : int, default 0
        Seed of the start and of the order of the images, the same for each task.

    Notes
    -----
    What is said of IntervMerge holds here as well. Which of the mini forms the paper's tables
    report is our reading of the released code, which calls the shifted constant one its best.
    """
    return intervene(imitation, learning, form=form, edit=edit)
