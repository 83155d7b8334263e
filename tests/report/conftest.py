"""Small synthetic results, shaped like those that the notebooks write."""

import pandas as pd
import pytest

ACCURACIES = {
    "zero_shot": (0.40, 0.60),
    "task_arithmetic": (0.70, 0.80),
    "tall_ta": (0.88, 0.94),
    "fine_tuned": (0.90, 0.96),
}
STORAGE = {"zero_shot": 0.02, "task_arithmetic": 0.02, "tall_ta": 0.042, "fine_tuned": 0.16}


@pytest.fixture
def results() -> pd.DataFrame:
    """Four methods, two tasks, two seeds (the second two points higher), suite sizes 8 and 14."""
    rows = [
        {
            "scale": "mini",
            "backbone": "mini-small",
            "num_tasks": num_tasks,
            "seed": seed,
            "method": method,
            "task": task,
            "accuracy": accuracy + 0.02 * seed,
            "normalised": accuracy / best,
            "storage_gigabit": STORAGE[method],
            "parameters": "{}",
        }
        for num_tasks in (8, 14)
        for seed in (0, 1)
        for method, pair in ACCURACIES.items()
        for task, accuracy, best in zip(
            ("digits", "house_numbers"), pair, ACCURACIES["fine_tuned"], strict=True
        )
    ]
    return pd.DataFrame(rows)
