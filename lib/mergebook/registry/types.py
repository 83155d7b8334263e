"""Types of parameters that methods share: what a number may be, and what it means.

A method that declares ``scale: Scale = 0.3`` need not describe it; an entry in its docstring says
more. What a method's training takes is one :class:`Learning`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from mergebook.registry.parameters import PerTask
from mergebook.values import Range
from mergebook.weights import qkv, select, spectral

Scale = Annotated[float, Range(0, 3), r"The coefficient :math:`\alpha`."]
WideScale = Annotated[float, Range(0, 100), r"The coefficient :math:`\lambda`."]
ScalePerTask = Annotated[PerTask, Range(0, 3), r"The coefficients :math:`\lambda_t`."]
Density = Annotated[
    float,
    Range(0, 1),
    "Kept share of the entries that count, see :attr:`mergebook.weights.Experts.num_entries`.",
]
Rank = Annotated[float, Range(0, 1), r"Kept share :math:`\rho` of the full rank of each matrix."]
Bits = Annotated[int, Range(1, 8), "Bits per entry."]
Threshold = Annotated[
    PerTask,
    Range(0, 10),
    r"The thresholds :math:`\lambda_t` of the masks, one for all tasks or one for each.",
]
Keep = Annotated[
    select.Keep,
    "Whether a share of the entries keeps one entry more than k = int(d * density), and all "
    "magnitudes equal to the threshold, as the released code of TIES does, or exactly k.",
]
Qkv = Annotated[
    qkv.Qkv,
    "Query, key and value as one stacked matrix (open_clip's `in_proj_weight`) or as three "
    "(Hugging Face's `q_proj`, `k_proj`, `v_proj`), whichever way the checkpoints store them.",
]
Tensors = Annotated[
    spectral.Tensors,
    "Which tensors are decomposed, see :data:`mergebook.methods.cart.cart`.",
]
NumImages = Annotated[int, Range(1), "Images per task, the first of the calibration."]

Steps = Annotated[int, Range(0, 1_000_000), "Steps of Adam."]
LearningRate = Annotated[float, Range(0, 1), "Learning rate of Adam."]
BatchSize = Annotated[int, Range(1), "Images of each task per batch."]
Batches = Annotated[int, Range(1), "Batches of each task per step."]
Seed = Annotated[int, Range(0), "Seed of what is random."]
Updates = Annotated[int, Range(1, 100), "So many updates of Adam use each gradient."]
Optimizer = Annotated[
    Literal["adamw", "sgd"],
    "Adam with decoupled weight decay, or gradient descent without momentum.",
]


@dataclass(frozen=True)
class Learning:
    """How the free numbers of a method are learned.

    A method declares ``learning: Learning = Learning(steps=30, lr=0.03)``; each field that is not
    None there becomes a parameter of the method, and the method gets the whole.

    Attributes
    ----------
    steps : int
        Number of steps.
    lr : float
        Learning rate.
    batch_size : int, default 16
        Images per step, or of each task in a step.
    batches : int, optional
        Batches of each task per step.
    optimizer : {"adamw", "sgd"}, optional
        Adam with decoupled weight decay, or gradient descent without momentum.
    updates : int, optional
        How many updates use each gradient.
    seed : int, default 0
        Seed of what is random, the order of the images first.
    """

    steps: Steps
    lr: LearningRate
    batch_size: BatchSize = 16
    batches: Batches | None = None
    optimizer: Optimizer | None = None
    updates: Updates | None = None
    seed: Seed = 0
