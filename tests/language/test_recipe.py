"""The recipe of the experts on texts is the one that the committed search chooses."""

import math

import pandas as pd

from mergebook.paths import data_dir
from mergebook.suites import load_suite
from mergebook.training import TextRecipe


def test_the_smallest_rate_within_one_standard_error_of_the_best():
    table = pd.read_csv(data_dir() / "measured/text8/recipe/recipe.csv")
    sizes = {task.name: task.sizes["validation"] for task in load_suite("text8")}
    assert set(table["task"]) == set(sizes)
    table = table[table["steps"] == TextRecipe().steps]
    means = table.groupby("lr")["validation"].mean()
    best = table[table["lr"] == means.idxmax()]
    variances = [p * (1 - p) / sizes[t] for t, p in zip(best["task"], best["validation"])]  # noqa: B905
    error = math.sqrt(sum(variances)) / len(best)
    chosen = min(rate for rate, mean in means.items() if mean >= means.max() - error)
    assert TextRecipe().lr == chosen
