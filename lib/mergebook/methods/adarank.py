"""AdaRank: choose singular components by minimising entropy [lee2026adarank]."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

import torch
from torch import Tensor

from mergebook.calibration import Calibration
from mergebook.learning import entropy_of_all_tasks, frozen_weights, minimise
from mergebook.merged import SharedModel
from mergebook.methods.adamerging import INITS
from mergebook.methods.cart_adamerging import CENTRED_INITS
from mergebook.registry import Qkv, Range, model_method
from mergebook.weights import Experts
from mergebook.weights.qkv import named_like
from mergebook.weights.spectral import factors, is_chosen, resolve

Learn = Literal["both", "masks", "coefficients"]
START = 0.1  # distance of a fresh logit from the threshold at 0
TEMPERATURE = 10.0


class Components:
    """Merged weights as a function of coefficients and of masks on singular components.

    Holds the singular vectors of all experts: for a square matrix twice the size of its task
    vectors.

    Parameters
    ----------
    experts : Experts
        Base and experts.
    centred : bool
        Whether vectors start, and are added, at the average of the experts, as in CART, or at the
        base.
    qkv : {"fused", "split"}
        Query, key and value as one matrix or as three.

    Attributes
    ----------
    names : tuple of str
        The K tensors that are merged.
    ranks : dict of str to int
        Full rank r of each decomposed matrix.
    """

    def __init__(self, experts: Experts, centred: bool, qkv: Qkv):
        view = experts.arranged(qkv)
        self.names, self.tasks, self.dtype = view.trained, experts.tasks, experts.dtype
        self._base, self._frozen = experts.base, frozen_weights(view)
        self._origins: list[Tensor] = []
        self._whole: dict[str, Tensor] = {}
        self._factors: dict[str, tuple[Tensor, Tensor]] = {}
        chosen = resolve(view, "blocks")
        for layer in view:
            shift = layer.total / layer.num_tasks if centred else torch.zeros_like(layer.base)
            self._origins.append(layer.base + shift)
            if is_chosen(layer.name, layer.base, chosen):
                pairs = [factors(delta - shift) for delta in layer.deltas]
                left, right = (
                    torch.cat(side, 1).to(self.dtype) for side in zip(*pairs, strict=True)
                )
                self._factors[layer.name] = left, right.mT.contiguous()
            else:
                self._whole[layer.name] = layer.deltas - shift
        self.ranks = {k: left.shape[1] // len(self.tasks) for k, (left, _) in self._factors.items()}

    def __call__(self, coefficients: Tensor, masks: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """State dict for coefficients ``[K, T]`` and masks ``[T, r]`` of decomposed matrices."""
        merged = dict(self._frozen)
        rows = coefficients.unbind(0)
        for name, origin, row in zip(self.names, self._origins, rows, strict=True):
            if (
                name in self._factors
            ):  # the components of all tasks, side by side: [m, T r] [T r, n]
                left, right = self._factors[name]
                merged[name] = origin + left * (row[:, None] * masks[name]).flatten() @ right
            else:
                merged[name] = origin + torch.tensordot(row, self._whole[name], 1)
        return named_like(merged, self._base)


def kept(logits: Tensor) -> Tensor:
    """Mask of the components with positive logits, with the gradient of sigmoid(logits / 10)."""
    soft = torch.sigmoid(logits / TEMPERATURE)
    return (logits > 0).to(soft.dtype) + (soft - soft.detach())


def learn_components(
    components: Components,
    calibration: Calibration,
    *,
    rank: float,
    init: float,
    learn: Learn,
    steps: int,
    lr: float,
    batch_size: int,
    seed: int,
) -> tuple[Tensor, dict[str, Tensor], list[float]]:
    """Masks and coefficients that make the predictions of the merged model certain.

    Parameters
    ----------
    components : Components
        Merged weights as a function of both.
    calibration : Calibration
        Images of the same tasks, in the same order.
    rank, init, learn, steps, lr, batch_size, seed
        As in :data:`adarank`.

    Returns
    -------
    coefficients : Tensor, shape [K, T]
        One for each tensor and task.
    masks : dict of str to Tensor, shape [T, r]
        Zeros and ones: the kept components of each decomposed matrix, largest first.
    curve : list of float
        The loss before each step.
    """
    num_tasks, dtype = len(components.tasks), components.dtype
    coefficients = torch.full((len(components.names), num_tasks), init, dtype=dtype)
    logits = {}
    for name, full in components.ranks.items():
        logits[name] = torch.full((num_tasks, full), -START, dtype=dtype)
        logits[name][:, : int(rank * full)] = START
    learned = ([coefficients] if learn != "masks" else []) + (
        list(logits.values()) if learn != "coefficients" else []
    )
    for tensor in learned:
        tensor.requires_grad_()
    objective = entropy_of_all_tasks(calibration, batch_size, 1, seed)

    def loss(step: int) -> Tensor:
        masks = {name: kept(values) for name, values in logits.items()}
        return objective(components(coefficients, masks))

    curve = minimise(
        learned,
        loss,
        steps=steps if components.names else 0,  # experts equal to the base: nothing to learn
        lr=lr,
        what="masks and coefficients",
    )
    masks = {name: kept(values).detach() for name, values in logits.items()}
    return coefficients.detach(), masks, curve


def _merge(
    experts: Experts, calibration: Calibration, centred: bool, qkv: Qkv, **learning
) -> SharedModel:
    components = Components(experts, centred, qkv)
    coefficients, masks, _ = learn_components(components, calibration, **learning)
    merged = components(coefficients, masks)
    return SharedModel.build(experts, lambda layer: merged[layer.name])


@model_method(
    "adarank",
    title="AdaRank",
    paper="lee2026adarank",
    family="adapted",
    needs=("images",),
    grid={"init": INITS},
)
def adarank(
    experts: Experts,
    calibration: Calibration,
    *,
    rank: Annotated[float, Range(0, 1)] = 1.0,
    init: Annotated[float, Range(0, 10)] = 0.3,
    learn: Learn = "both",
    qkv: Qkv = "fused",
    steps: Annotated[int, Range(0)] = 60,
    lr: Annotated[float, Range(0, 1)] = 3e-3,
    batch_size: Annotated[int, Range(1)] = 16,
    seed: Annotated[int, Range(0)] = 0,
) -> SharedModel:
    r"""Task arithmetic with learned masks on the singular components of the task vectors.

    With :math:`\tau_t^l = U_t^l \Sigma_t^l V_t^{l\top}` for the matrices of attention and MLPs,

    .. math:: \theta^l = \theta_0^l
        + \sum_t \lambda_t^l\, U_t^l \big(\mathrm{diag}(B_t^l)\, \Sigma_t^l\big) V_t^{l\top}, \qquad
        \min_{B, \lambda} \sum_t \frac1B \sum_{x \in B_t} H(p_\theta(y \mid x)),

    over masks :math:`B_t^l \in \{0, 1\}^r` and one coefficient per task and tensor, also for
    tensors that are not decomposed. A mask entry is 1 if its logit b is positive; the gradient is
    that of :math:`\mathrm{sigmoid}(b / 10)` (straight-through). H is the entropy of the prediction
    under the task's frozen zero-shot head [lee2026adarank].

    Parameters
    ----------
    experts : Experts
        Base and experts; singular vectors of all task vectors are held in memory.
    calibration : Calibration
        Unlabelled images and the heads.
    rank : float, default 1.0
        Share of the components that are kept at first, the largest: floor(rank * r) of r.
    init : float, default 0.3
        Value that all :math:`\lambda_t^l` start from.
    learn : {"both", "masks", "coefficients"}, default "both"
        What is learned; the rest stays as it starts.
    qkv : {"fused", "split"}, default "fused"
        Query, key and value as one stacked matrix or as three.
    steps : int, default 60
        Steps of Adam; 10 000 in the paper.
    lr : float, default 0.003
        Learning rate; 0.001 in the paper, which takes more steps.
    batch_size : int, default 16
        Images of each task per step.
    seed : int, default 0
        Seed of the order of the images.

    Notes
    -----
    Matrices are those of :data:`mergebook.methods.cart.cart` under "blocks". The released code
    decomposes in float32, and has a soft mask and limits on the coefficients that its
    configurations leave off. It starts task arithmetic at 0.05 for 20 tasks (ViT-B/32), takes
    smaller batches for ViT-L/14, evaluates on the test split along the way, and remembers the best
    result; here the last step counts.

    Papers adapt on the unlabelled test images; here the images come from another split by default
    (:meth:`mergebook.Benchmark.calibration`).
    """
    return _merge(
        experts,
        calibration,
        centred=False,
        qkv=qkv,
        rank=rank,
        init=init,
        learn=learn,
        steps=steps,
        lr=lr,
        batch_size=batch_size,
        seed=seed,
    )


@model_method(
    "cart_adarank",
    title="CART + AdaRank",
    paper="lee2026adarank",
    family="adapted",
    needs=("images",),
    grid={"init": CENTRED_INITS},
)
def cart_adarank(
    experts: Experts,
    calibration: Calibration,
    *,
    rank: Annotated[float, Range(0, 1)] = 0.16,
    init: Annotated[float, Range(0, 10)] = 2.0,
    learn: Learn = "both",
    qkv: Qkv = "fused",
    steps: Annotated[int, Range(0)] = 60,
    lr: Annotated[float, Range(0, 1)] = 3e-3,
    batch_size: Annotated[int, Range(1)] = 16,
    seed: Annotated[int, Range(0)] = 0,
) -> SharedModel:
    r"""AdaRank around the average: learned masks on the components of centred task vectors.

    As :data:`adarank` with :math:`\theta_{avg} = \frac1T \sum_t \theta_t` in place of
    :math:`\theta_0` and the singular components of :math:`\theta_t - \theta_{avg}`. Without a step
    it is :data:`mergebook.methods.cart.cart` (but for its rank, which is at least one component).

    Parameters
    ----------
    experts : Experts
        Base and experts; singular vectors of all centred vectors are held in memory.
    calibration : Calibration
        Unlabelled images and the heads.
    rank : float, default 0.16
        Share of the components that are kept at first, the largest. Released: 0.16 for 8 tasks,
        0.32 for 14 and 20.
    init : float, default 2.0
        Value that all coefficients start from. Released for ViT-B/32: 2.3, 2.8 and 2.4 for 8, 14
        and 20 tasks.
    learn : {"both", "masks", "coefficients"}, default "both"
        What is learned; the rest stays as it starts.
    qkv : {"fused", "split"}, default "fused"
        Query, key and value as one stacked matrix or as three.
    steps : int, default 60
        Steps of Adam; 10 000 in the paper.
    lr : float, default 0.003
        Learning rate; 0.001 in the paper, which takes more steps.
    batch_size : int, default 16
        Images of each task per step.
    seed : int, default 0
        Seed of the order of the images.
    """
    return _merge(
        experts,
        calibration,
        centred=True,
        qkv=qkv,
        rank=rank,
        init=init,
        learn=learn,
        steps=steps,
        lr=lr,
        batch_size=batch_size,
        seed=seed,
    )
