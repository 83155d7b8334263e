"""Surgery after every block of the merged encoder [yang2024surgeryv2]."""

from __future__ import annotations

from mergebook.interventions.imitation import Imitation
from mergebook.interventions.merges import SMALL_SCALES, MergeScale
from mergebook.interventions.surgery import Corrected, CorrectionRank, Training, operate
from mergebook.merged import IntervenedModel
from mergebook.registry import Learning, model_method


@model_method(
    "surgery_v2",
    title="SurgeryV2",
    paper="yang2024surgeryv2",
    family="intervention",
    needs=("images",),
    prepare=Imitation.of,
    grid={"scale": SMALL_SCALES},
)
def surgery_v2(
    imitation: Imitation,
    *,
    merge: Corrected = "task_arithmetic",
    scale: MergeScale = 0.3,
    rank: CorrectionRank = 16,
    learning: Training = Learning(steps=60, lr=3e-3),
) -> IntervenedModel:
    r"""Surgery after every block, on all tokens, and on the features.

    :math:`\hat X_b = X_b - \mathrm{ReLU}(X_b W_{b,\mathrm{down}}^\top) W_{b,\mathrm{up}}^\top` for
    the output :math:`X_b \in R^{L \times d}` of block b; what is corrected enters the next block.
    The loss of a task is the sum over the blocks of the mean absolute difference between the mean
    tokens of :math:`\hat X_b` and of the expert's block, plus that of the features.
    Storage b(P' + F) + 32 T M bits with M = 2 r (B d + D), B the number of blocks.

    Parameters
    ----------
    rank : int, default 16
        Rank r of each correction; the released code uses 16 for ViT-B and 4 for ViT-L/14.
    steps : int, default 60
        Adam steps of each task; 1000 in the paper.
    lr : float, default 3e-3
        Learning rate of Adam; 1e-3 in the released code, which takes more steps.
    seed : int, default 0
        Seed of the start and of the order of the images, the same for each task.

    Notes
    -----
    As released, the code has 12 blocks of width 768 written in; here depth and width are those of
    the backbone. For a comparison at equal size, :data:`mergebook.interventions.surgery.surgery`
    needs rank r (B d + D) / D: 304 against rank 16 on ViT-B, 132 against rank 4 on ViT-L/14.
    """
    return operate(imitation, learning, blocks=True, rank=rank)
