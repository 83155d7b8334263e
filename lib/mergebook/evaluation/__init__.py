"""Evaluation: accuracy, normalised accuracy, search on validation data, intervals, leaderboard."""

from mergebook.evaluation.benchmark import Benchmark, Search
from mergebook.evaluation.bootstrap import Scores
from mergebook.evaluation.comparison import Comparison, Entry
from mergebook.evaluation.leaderboard import Setting, leaderboard
from mergebook.evaluation.memory import PeakMemory

__all__ = [
    "Benchmark",
    "Comparison",
    "Entry",
    "PeakMemory",
    "Scores",
    "Search",
    "Setting",
    "leaderboard",
]
