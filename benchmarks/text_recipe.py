"""How the experts on texts are fine-tuned: rates and steps by validation accuracy, and the tasks.

Writes ``recipe.csv`` (a row for each task, rate and number of steps) and ``tasks.csv`` (what the
encoder knows of each task before training, and how many of its tokens it reads) to a folder,
``data/measured/text8/recipe`` by default. Hours on two cores; `MERGEBOOK_DEVICE=cuda`: minutes.
"""

import argparse
import itertools
from dataclasses import replace
from pathlib import Path

import pandas as pd
import torch
from torch.nn import functional as F
from tqdm import tqdm

from mergebook.paths import data_dir
from mergebook.suites import load_suite
from mergebook.towers.backbones import build_encoder, build_head, load_backbone
from mergebook.training import TextRecipe, finetune
from mergebook.training.finetuning import DATA_SEED

RATES, STEPS = (1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 4e-4), (150, 300)


def validation_accuracy(backbone, task, state):
    """Accuracy of an encoder on all validation texts of a task."""
    texts, labels = task.examples("validation", seed=DATA_SEED)
    tokens, head = backbone.preprocess(texts), build_head(backbone, task)
    encoder, guesses = build_encoder(backbone.name, state), torch.empty(len(labels)).long()
    with torch.inference_mode():
        for rows in backbone.batches(tokens, 64):
            guesses[rows] = (F.normalize(encoder(tokens[rows]), dim=-1) @ head.T).argmax(1)
    return float((guesses == torch.from_numpy(labels)).float().mean())


def search(backbone, suite):
    """Yield a row for each task, rate and number of steps."""
    grid = list(itertools.product(suite, RATES, STEPS))
    for task, lr, steps in tqdm(grid, desc="fine-tuning", unit="run"):
        recipe = replace(TextRecipe(), lr=lr, steps=steps, warmup=steps // 10)
        accuracy = validation_accuracy(backbone, task, finetune(backbone, task, recipe))
        yield {"task": task.name, "lr": lr, "steps": steps, "validation": accuracy}


def describe(backbone, suite):
    """Yield a row for each task: classes, tokens, and accuracy without training."""
    for task in suite:
        texts, _ = task.examples("test", seed=DATA_SEED)
        tokens = (backbone.preprocess(texts) != 0).sum(1).double()
        yield {
            "task": task.name,
            "title": task.title,
            "classes": len(task.class_names),
            "tokens": float(tokens.mean()),
            "cut": backbone.count_cut(texts) / len(texts),
            "zero_shot": validation_accuracy(backbone, task, backbone.weights()),
        }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=data_dir() / "measured/text8/recipe")
    parser.add_argument("--tasks-only", action="store_true", help="leave out the search")
    args = parser.parse_args()
    backbone, suite = load_backbone("minilm"), load_suite("text8")
    args.out.mkdir(parents=True, exist_ok=True)
    tables = {"tasks": describe(backbone, suite)}
    tables |= {} if args.tasks_only else {"recipe": search(backbone, suite)}
    for name, rows in tables.items():
        pd.DataFrame(rows).to_csv(args.out / f"{name}.csv", index=False, float_format="%.6g")
