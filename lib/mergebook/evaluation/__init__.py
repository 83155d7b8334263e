"""Evaluation: accuracy, normalised accuracy, search on validation data, intervals, leaderboard."""

from mergebook.evaluation.benchmark import Benchmark, Search
from mergebook.evaluation.comparison import Comparison, Entry
from mergebook.evaluation.corrections import Correction, tuned_correction
from mergebook.evaluation.leaderboard import Setting, budgeted, leaderboard
from mergebook.evaluation.memory import PeakMemory
from mergebook.uncertainty import Estimate, Scores, exact, mean_of, over_subsets

__all__ = [
    "Benchmark",
    "Comparison",
    "Correction",
    "Entry",
    "Estimate",
    "PeakMemory",
    "Scores",
    "Search",
    "Setting",
    "budgeted",
    "exact",
    "leaderboard",
    "mean_of",
    "over_subsets",
    "tuned_correction",
]
