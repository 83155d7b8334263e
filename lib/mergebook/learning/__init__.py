"""Learning by gradient descent: the loop, what it may change, and what it minimises."""

from mergebook.learning.coefficients import clamped, learn_coefficients
from mergebook.learning.combination import Combination, Parts, frozen_weights
from mergebook.learning.descent import minimise
from mergebook.learning.loop import descend, warm_cosine
from mergebook.learning.objectives import (
    Batches,
    entropy,
    entropy_of_all_tasks,
    features,
    image_batches,
    scores,
)
from mergebook.learning.resuming import resumable

__all__ = [
    "Batches",
    "Combination",
    "Parts",
    "clamped",
    "descend",
    "entropy",
    "entropy_of_all_tasks",
    "features",
    "frozen_weights",
    "image_batches",
    "learn_coefficients",
    "minimise",
    "resumable",
    "scores",
    "warm_cosine",
]
