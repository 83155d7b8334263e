"""Learning by gradient descent: the loop, what it may change, and what it minimises."""

from mergebook.learning.combination import Combination, frozen_weights
from mergebook.learning.loop import Optimizer, descend, minimise, warm_cosine
from mergebook.learning.objectives import entropy, entropy_of_all_tasks, features, scores

__all__ = [
    "Combination",
    "Optimizer",
    "descend",
    "entropy",
    "entropy_of_all_tasks",
    "features",
    "frozen_weights",
    "minimise",
    "scores",
    "warm_cosine",
]
