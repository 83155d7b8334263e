"""Evaluation: accuracy, normalised accuracy, search on validation data, bootstrap intervals."""

from mergebook.evaluation.benchmark import Benchmark, Search
from mergebook.evaluation.bootstrap import Scores
from mergebook.evaluation.comparison import Comparison

__all__ = ["Benchmark", "Comparison", "Scores", "Search"]
