"""Which method should I use? A tree of questions whose leaves the leaderboard fills."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import get_args

import pandas as pd

from mergebook.errors import ReportError
from mergebook.merged import Told
from mergebook.registry import Need, get_method
from mergebook.report.board import FIRST, RUN_TITLES, at, boards
from mergebook.report.methods import page_of
from mergebook.report.numbers import EMPTY, shown

NAMED = 2  # methods of a leaf
SIZES = (8, 20)  # "few" and "many" tasks
NO_RIVALS = ("reference",)  # a family that is shown for comparison
NOTHING, IMAGES, LABELS = (), ("images",), get_args(Need)


@dataclass(frozen=True)
class Leaf:
    """A situation, and so the methods that can be used in it.

    Attributes
    ----------
    key, title : str
        Label of its section, and its heading.
    told : {"no", "yes", "guessed"}
        What may be said to the model.
    given : tuple of {"images", "labels"}
        What there is beyond weights.
    models : float
        How many models' worth of storage there is for all tasks together.
    num_tasks : int
        The suite size whose storage and accuracy count.
    """

    key: str
    title: str
    told: Told
    given: tuple[Need, ...]
    models: float
    num_tasks: int

    def allows(self, name: str, storage: float) -> bool:
        """Whether a method that takes so many models' storage can be used."""
        method = get_method(name)
        return (
            method.family not in NO_RIVALS
            and method.told == self.told
            and set(method.needs) <= set(self.given)
            and storage <= self.models
        )


@dataclass(frozen=True)
class Question:
    """A question and where its answers lead."""

    text: str
    answers: Mapping[str, Question | Leaf]


FEW, MANY = SIZES
ONE, TWO, THREE = 1.1, 2.1, 3.1  # models; a tenth more counts as the same
TREE = Question(
    "Is the task of each image known when it is classified?",
    {
        "Yes": Question(
            "Are there unlabelled images of each task?",
            {
                "No": Question(
                    "How much may be stored?",
                    {
                        f"two models for {FEW} tasks": Leaf(
                            "told-two-few", f"Task known, no images, two models for {FEW} tasks",
                            "yes", NOTHING, TWO, FEW,
                        ),
                        f"two models for {MANY} tasks": Leaf(
                            "told-two-many", f"Task known, no images, two models for {MANY} tasks",
                            "yes", NOTHING, TWO, MANY,
                        ),
                        f"three models for {MANY} tasks": Leaf(
                            "told-three", f"Task known, no images, three models for {MANY} tasks",
                            "yes", NOTHING, THREE, MANY,
                        ),
                    },
                ),
                "Yes": Question(
                    "How much may be stored?",
                    {
                        "hardly more than one model": Leaf(
                            "told-one-images", "Task known, images, hardly more than one model",
                            "yes", IMAGES, ONE, MANY,
                        ),
                        f"two models for {FEW} tasks": Leaf(
                            "told-two-few-images", f"Task known, images, two models for {FEW} "
                            "tasks", "yes", IMAGES, TWO, FEW,
                        ),
                        f"two models for {MANY} tasks": Leaf(
                            "told-two-many-images", f"Task known, images, two models for {MANY} "
                            "tasks", "yes", IMAGES, TWO, MANY,
                        ),
                    },
                ),
            },
        ),
        "No": Question(
            "Are there unlabelled images of each task, and may classifying take several times as "
            "long and storing up to four models?",
            {
                "Yes": Leaf(
                    "guessed", "Task unknown, images, slower and larger: let the model guess",
                    "guessed", IMAGES, 4, MANY,
                ),
                "No: one model": Question(
                    "What is there beside the weights?",
                    {
                        "nothing": Leaf(
                            "one-nothing", "One model, nothing but weights", "no", NOTHING, ONE,
                            MANY,
                        ),
                        "unlabelled images": Leaf(
                            "one-images", "One model, unlabelled images", "no", IMAGES, ONE, MANY,
                        ),
                        "labelled images": Leaf(
                            "one-labels", "One model, labelled images", "no", LABELS, ONE, MANY,
                        ),
                    },
                ),
            },
        ),
    },
)  # fmt: skip


def leaves(node: Question | Leaf = TREE) -> Iterator[Leaf]:
    """Return the leaves below a node, from top to bottom."""
    if isinstance(node, Leaf):
        yield node
    else:
        for below in node.answers.values():
            yield from leaves(below)


def with_models(part: pd.DataFrame) -> pd.DataFrame:
    """Add a column ``models`` to rows of the leaderboard: storage over that of one model."""
    return part.assign(models=part["storage_gigabit"] / part["storage_gigabit"]["zero_shot"])


def best(leaf: Leaf) -> pd.DataFrame:
    """Return the methods that can be used at a leaf, best first, from the committed leaderboard.

    Returns
    -------
    DataFrame
        By method: the leaderboard's columns at the leaf's suite size, ``models``, and ``score``,
        the mean of what it reaches there and in each other committed run, where all of it was
        measured.

    Raises
    ------
    ReportError
        If fewer than two can be used.
    """
    runs = boards()
    here = with_models(at(runs[FIRST], leaf.num_tasks))
    others = [at(board, board["num_tasks"].max()) for run, board in runs.items() if run != FIRST]
    scores = pd.concat([part["normalised"] for part in (here, *others)], axis=1)
    here = here.assign(score=scores.mean(axis=1, skipna=False))
    allowed = [name for name, row in here.iterrows() if leaf.allows(str(name), row["models"])]
    found = here.loc[allowed].dropna(subset="score").sort_values("score", ascending=False)
    if len(found) < NAMED:
        raise ReportError(f"{leaf.title}: {len(found)} methods, expected {NAMED} or more")
    return found


def command(name: str) -> str:
    """Return the three lines of a shell that run a method."""
    suite = " --suite my_images" if get_method(name).needs else ""
    return (
        f"mergebook merge --method {name}{suite} \\\n"
        "    --base base.safetensors --out merged.safetensors \\\n"
        "    --expert cats=cats.safetensors --expert dogs=dogs.safetensors "
        "--expert cars=cars.safetensors"
    )


def _row(name: str) -> str:
    """Return a method's row in a leaf's table: what it reaches and stores, size by size."""
    cells, drawn = [], boards()[FIRST]
    for size in sorted(drawn["num_tasks"].unique()):
        part = at(drawn, size)
        cells.append(shown(part["normalised"].get(name, float("nan")), "cell"))
    for run, board in boards().items():
        if run != FIRST:
            part = at(board, board["num_tasks"].max())
            cells.append(shown(part["normalised"].get(name, float("nan")), "cell"))
    for size in SIZES:
        models = with_models(at(drawn, size))["models"].get(name, float("nan"))
        cells.append(EMPTY if pd.isna(models) else shown(models, ".1f"))
    return f"| [{get_method(name).title}](/{page_of(name)}) | {' | '.join(cells)} |"


def leaf_section(leaf: Leaf) -> str:
    """Return the section of a leaf, in MyST Markdown: two methods with their numbers, a command."""
    names = list(map(str, best(leaf).index[:NAMED]))
    sizes = sorted(boards()[FIRST]["num_tasks"].unique())
    heads = [f"{size} drawn" for size in sizes]
    for run, board in boards().items():
        if run != FIRST:
            heads.append(f"{board['num_tasks'].max()} {RUN_TITLES.get(run, run)}")
    heads += [f"models for {size}" for size in SIZES]
    lines = [f"(choice-{leaf.key})=", f"### {leaf.title}", ""]
    lines += [f"| method | {' | '.join(heads)} |", "| --- " * (len(heads) + 1) + "|"]
    lines += [*map(_row, names), "", "```bash", command(names[0]), "```", ""]
    return "\n".join(lines)


def _branch(node: Question | Leaf, depth: int = 0) -> Iterator[str]:
    """Lines of the tree as a nested list, which a style sheet draws as one."""
    pad = "  " * depth
    if isinstance(node, Leaf):
        found = best(node)
        for name in found.index[:NAMED]:
            value = shown(found.loc[name, "normalised"])
            yield f"{pad}- [{get_method(str(name)).title}](choice-{node.key}) {value}"
        return
    yield f"{pad}- *{node.text}*"
    for answer, below in node.answers.items():
        yield f"{pad}  - **{answer}**"
        yield from _branch(below, depth + 2)


def choice_page() -> str:
    """Return the tree and the sections of its leaves, in MyST Markdown."""
    if FIRST not in boards():
        return "No leaderboard is committed, so that no method can be named.\n"
    tree = "\n".join([":::{container} decision-tree", "", *_branch(TREE), "", ":::", ""])
    return "\n".join([tree, "## The leaves", "", *map(leaf_section, leaves())])
