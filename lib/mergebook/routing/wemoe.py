"""Weight-ensembling mixture of experts: each block routes its MLP [tang2024wemoe]."""

from __future__ import annotations

from mergebook.calibration import Calibration
from mergebook.interventions.merges import SMALL_SCALES
from mergebook.merged import RoutedModel, TaskModels
from mergebook.registry import Learning, model_method
from mergebook.registry.types import Scale
from mergebook.routing.block_routers import Depth, Training, train_routers, upscaled
from mergebook.weights import Experts


@model_method(
    "wemoe",
    title="WEMoE",
    paper="tang2024wemoe",
    family="routing",
    needs=("images",),
    grid={"scale": SMALL_SCALES},
)
def wemoe(
    experts: Experts,
    calibration: Calibration,
    *,
    scale: Scale = 0.3,
    depth: Depth = 2,
    learning: Training = Learning(steps=160, lr=1e-3, batch_size=2),
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
    view = upscaled(experts, calibration.tower, scale)
    mlps = {key: view.base[key] for key in view.trained}
    options = {"shared": False, "depth": depth, "scale": scale}
    return train_routers(TaskModels.build(view), experts, calibration, mlps, learning, **options)
