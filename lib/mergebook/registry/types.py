"""Types of parameters that methods share: what a number may be, and what it means.

A method that declares ``scale: Scale = 0.3`` need not describe it; an entry in its docstring says
more. What a method's training takes is one :class:`Learning`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from mergebook.registry.parameters import PerTask
from mergebook.values import Range

Scale = Annotated[float, Range(0, 3), r"The coefficient :math:`\alpha` on the merged task vector."]
Density = Annotated[float, Range(0, 1), "Kept share of the entries."]
Rank = Annotated[float, Range(0, 1), "Kept share of the full rank of each matrix."]
Bits = Annotated[int, Range(1, 8), "Bits per entry."]
Threshold = Annotated[
    PerTask,
    Range(0, 10),
    r"The thresholds :math:`\lambda_t`, chosen for each task on its validation split.",
]
NumImages = Annotated[int, Range(1), "Images per task, the first of the calibration."]
Arrangement = Annotated[
    Literal["fused", "split"], "Query, key and value as one stacked matrix or as three."
]

Steps = Annotated[int, Range(0, 1_000_000), "Steps of Adam."]
LearningRate = Annotated[float, Range(0, 1), "Learning rate of Adam."]
BatchSize = Annotated[int, Range(1), "Images of each task per batch."]
Batches = Annotated[int, Range(1), "Batches of each task per step."]
Seed = Annotated[int, Range(0), "Seed of the order of the images."]
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
    seed : int, default 0
        Seed of what is random, the order of the images first.
    """

    steps: Steps
    lr: LearningRate
    batch_size: BatchSize = 16
    batches: Batches | None = None
    optimizer: Optimizer | None = None
    seed: Seed = 0
