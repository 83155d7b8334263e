"""What a suite is: an ordered list of tasks with examples, class names, prompts and splits."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from numbers import Integral
from typing import Literal, NamedTuple

import numpy as np

from mergebook.errors import SuiteError, shown, unknown

SPLITS = ("train", "validation", "test")
MOST_EXAMPLES = 10**6  # of a task that are drawn or read at once


def is_whole(value: object) -> bool:
    """Whether a value is a whole number, NumPy's included."""
    return isinstance(value, Integral) and not isinstance(value, bool)


class Split(NamedTuple):
    """A split of a task.

    Attributes
    ----------
    inputs : ndarray
        Images, uint8 [N, H, W, 3]; or texts, objects [N].
    labels : ndarray of int64, shape [N]
    """

    inputs: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Task:
    """One task: to classify images, or texts.

    Parameters
    ----------
    name : str
        Identifier, e.g. ``"house_numbers"``.
    title : str
        Name for people.
    class_names : tuple of str
        One per label, in label order.
    templates : tuple of str
        Prompts with ``{}`` for the class name; the head averages over them.
    load : callable
        ``load(split, size, seed) -> Split``.
    sizes : dict
        Default number of examples of each split.
    counterpart : str
        The data set of the CLIP suite that this task stands in for (may be empty).
    description : str
        One or two sentences on what is asked, or how images are made.
    limits : dict
        Largest number of examples of each split, where they are stored; empty where images are
        drawn on the spot and never run out.
    fingerprint : callable
        ``fingerprint() -> str``, a digest of stored examples and of all that is read with them;
        empty where the code alone decides.
    modality : {"image", "text"}
        What the examples are.
    """

    name: str
    title: str
    class_names: tuple[str, ...]
    templates: tuple[str, ...]
    load: Callable[[str, int, int], Split] = field(repr=False)
    sizes: dict[str, int] = field(default_factory=dict, repr=False)
    counterpart: str = ""
    description: str = ""
    limits: dict[str, int] = field(default_factory=dict, repr=False)
    fingerprint: Callable[[], str] = field(default=lambda: "", repr=False)
    modality: Literal["image", "text"] = "image"

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not isinstance(self.title, str):
            raise SuiteError(f"a task's name and title must be texts, got {shown(self.name)}")
        for part in ("class_names", "templates"):
            values = getattr(self, part)
            is_list = isinstance(values, list | tuple)
            if not is_list or not all(isinstance(each, str) for each in values):
                raise SuiteError(f"task {self.name!r}: {part} must be texts, is {shown(values)}")
        if len(set(self.class_names)) != len(self.class_names) or len(self.class_names) < 2:
            raise SuiteError(f"task {self.name!r}: needs two or more distinct class names")
        for name in self.class_names:
            if not name.strip():
                raise SuiteError(f"task {self.name!r}: class name {name!r} is empty")
        for template in self.templates:
            before, gap, after = template.partition("{}")
            if not gap or set("{}") & {*before, *after}:
                raise SuiteError(
                    f"task {self.name!r}: template {template!r} needs one '{{}}' and no other brace"
                )
        if not self.templates:
            raise SuiteError(f"task {self.name!r}: needs at least one template")
        for text in (self.title, self.description, *self.class_names, *self.templates):
            try:
                text.encode()
            except UnicodeEncodeError:
                raise SuiteError(f"task {self.name!r}: {text!r} is not UTF-8") from None

    def examples(self, split: str, size: int | None = None, seed: int = 0) -> Split:
        """Return the examples of a split.

        Parameters
        ----------
        split : {"train", "validation", "test"}
        size : int, optional
            Number of examples; the split's default size if not given. A smaller size gives the
            first examples of a larger one.
        seed : int, default 0
            Seed of the data: another seed gives other images of the same task; where examples
            are stored, another order of them.

        Returns
        -------
        Split

        Raises
        ------
        SuiteError
            Unknown split, or a size that the split cannot give.
        """
        if split not in SPLITS:
            raise SuiteError(f"task {self.name!r}: " + unknown("split", split, SPLITS))
        size = self.sizes[split] if size is None else size
        if not is_whole(size) or not 1 <= size <= MOST_EXAMPLES:
            raise SuiteError(
                f"task {self.name!r}: {split} size must be positive, a whole number up to "
                f"{MOST_EXAMPLES:,}, got {shown(size)}"
            )
        if not is_whole(seed) or seed < 0:
            raise SuiteError(
                f"task {self.name!r}: seed must be a whole number that is not negative, "
                f"got {shown(seed)}"
            )
        examples = self.load(split, size, seed)
        if len(examples) != size:
            raise SuiteError(
                f"task {self.name!r}: {split} has {len(examples)} {self.modality}s, "
                f"{size} were asked for"
            )
        return examples

    def at_most(self, split: str, size: int) -> int:
        """Return `size`, or the number of examples of the split if it has fewer."""
        return min(size, self.limits.get(split, size))

    def samples(self, per_class: int = 1, seed: int = 0) -> Split:
        """Return the first test examples of each class, class by class in rounds.

        Parameters
        ----------
        per_class : int, default 1
        seed : int, default 0

        Returns
        -------
        Split
            All classes once, then again, `per_class` times.

        Raises
        ------
        SuiteError
            If the test split has too few examples of a class.
        """
        drawn = min(self.sizes["test"], 8 * per_class * len(self.class_names))
        enough = self.limits.get("test", drawn)  # stored classes may be rare
        inputs, labels = self.examples("test", enough, seed)
        found = [np.flatnonzero(labels == c)[:per_class] for c in range(len(self.class_names))]
        for name, index in zip(self.class_names, found, strict=True):
            if len(index) < per_class:
                raise SuiteError(
                    f"task {self.name!r}: {len(index)} test {self.modality}s of {name!r}, "
                    f"needs {per_class}"
                )
        index = np.stack(found, 1).reshape(-1)
        return Split(inputs[index], labels[index])


class Suite:
    """An ordered list of tasks.

    Parameters
    ----------
    name : str
    tasks : sequence of Task
        At least one; names must differ.
    source : str, optional
        What :func:`load_suite` finds the suite by, in another process too; `name` if not given.

    Raises
    ------
    SuiteError
        Empty suite or duplicate task names.
    """

    def __init__(self, name: str, tasks: Sequence[Task], source: str | None = None):
        names = [task.name for task in tasks]
        if not names:
            raise SuiteError(f"suite {name!r} has no tasks; ask for at least one")
        if len(set(names)) != len(names):
            raise SuiteError(f"suite {name!r}: task names repeat: {', '.join(names)}")
        self.name = name
        self.tasks = tuple(tasks)
        self.source = name if source is None else source

    @property
    def names(self) -> tuple[str, ...]:
        """Task names, in order."""
        return tuple(task.name for task in self.tasks)

    def __len__(self) -> int:
        return len(self.tasks)

    def __iter__(self) -> Iterator[Task]:
        return iter(self.tasks)

    def __getitem__(self, name: str) -> Task:
        for task in self.tasks:
            if task.name == name:
                return task
        raise SuiteError(unknown("task", name, self.names))

    def __repr__(self) -> str:
        return f"Suite({self.name!r}, {len(self)} tasks: {', '.join(self.names)})"

    def select(self, names: Sequence[str]) -> Suite:
        """Return the suite of the named tasks, in the order given."""
        return Suite(self.name, [self[name] for name in names], self.source)

    def first(self, num_tasks: int) -> Suite:
        """Return the suite of the first tasks.

        Raises
        ------
        SuiteError
            If ``num_tasks`` is not between 1 and the number of tasks.
        """
        if not is_whole(num_tasks) or not 1 <= num_tasks <= len(self):
            raise SuiteError(
                f"suite {self.name!r} has {len(self)} tasks; num_tasks must be between 1 and "
                f"{len(self)}, got {shown(num_tasks)}"
            )
        return Suite(self.name, self.tasks[:num_tasks], self.source)
