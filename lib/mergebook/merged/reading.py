"""What a merged model's file says of itself, read without trust."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import wraps
from typing import Any

from mergebook.errors import CheckpointError, MergebookError, one_line, shown
from mergebook.storage import Sizes
from mergebook.weights.checkpoint import Checkpoint

MOST_ENTRIES = 10**16  # of a model; the papers' have less than 10**12


def read_tasks(file: Checkpoint) -> tuple[str, ...]:
    """The tasks of a merged model.

    Raises
    ------
    CheckpointError
        If they are not a list of different names (names the file and the field).
    """
    tasks = file.described("tasks")
    names = tasks if isinstance(tasks, list) else [None]
    if not names or not all(isinstance(n, str) and n for n in names) or len({*names}) < len(names):
        raise CheckpointError(
            f"{file.path}: metadata field 'tasks' must be a list of different names, "
            f"is {shown(tasks)}"
        )
    return tuple(names)


def read_sizes(file: Checkpoint, facts: object, field: str = "sizes") -> Sizes:
    """Numbers of trained and frozen entries, by width.

    Raises
    ------
    CheckpointError
        If they are no such numbers (names the file and the field).
    """
    try:
        widths = [
            {int(bits): count for bits, count in facts[name].items()}
            for name in ("trained", "frozen")
        ]
        for bits, count in (pair for group in widths for pair in group.items()):
            if bits not in (8, 16, 32, 64) or type(count) is not int:
                raise ValueError(f"{count} of {bits} bits")
            if not 0 <= count <= MOST_ENTRIES:
                raise ValueError(f"{shown(count)} entries")
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise CheckpointError(
            f"{file.path}: metadata field {field!r} does not give numbers of trained and frozen "
            f"entries ({one_line(error)})"
        ) from error
    return Sizes(*widths)


def read_recipe(file: Checkpoint) -> dict[str, Any]:
    """What made a merged model.

    Raises
    ------
    CheckpointError
        If it is no recipe (names the file and the field).
    """
    recipe = file.described("recipe")
    parts = {"parameters": dict, "sha256": dict, "method": str, "entries": str, "mergebook": str}
    good = isinstance(recipe, dict) and all(
        isinstance(recipe.get(name, kind()), kind) for name, kind in parts.items()
    )
    hashes = recipe.get("sha256") if good else None
    if hashes and not (isinstance(hashes.get("base"), str) and _are_texts(hashes.get("experts"))):
        good = False
    if not good or not _are_texts((hashes or {}).get("images", {})):
        raise CheckpointError(
            f"{file.path}: metadata field 'recipe' is not a recipe, but {shown(recipe)}"
        )
    return recipe


def _are_texts(values: object) -> bool:
    return isinstance(values, dict) and all(isinstance(each, str) for each in values.values())


def check_shapes(file: Checkpoint, field: str, shapes: Iterable[tuple[str, Sequence[int]]]) -> None:
    """Refuse shapes in the metadata that are not those of the base's tensors.

    Raises
    ------
    CheckpointError
        If a shape is another (names the file, the field and the tensor).
    """
    for key, shape in shapes:
        stored = f"base/{key}"
        if stored not in file or list(file.shape(stored)) != list(shape):
            raise CheckpointError(
                f"{file.path}: metadata field {field!r} gives tensor {shown(key)} the shape "
                f"{shown(list(shape))}, which is not that of the base"
            )


def naming_file(method: Callable[..., Any]) -> Callable[..., Any]:
    """Have a method of a solution that was read from a file name the file where it does not fit.

    A file may have been changed by anybody in any way; its parts are put together when they are
    asked for, and what then goes wrong in one of many ways is one error.
    """

    @wraps(method)
    def guarded(self, *args: Any, **kwargs: Any) -> Any:
        if self.path is None:
            return method(self, *args, **kwargs)
        with fitting(self.path, self.kind):
            return method(self, *args, **kwargs)

    return guarded


@contextmanager
def fitting(path: object, kind: str) -> Iterator[None]:
    """Errors of putting a file's parts together become one that names the file."""
    try:
        yield
    except CheckpointError as error:
        if str(path) in str(error):
            raise
        raise CheckpointError(f"{path}: {error}") from error
    except MergebookError:
        raise
    except Exception as error:
        raise CheckpointError(
            f"{path}: its parts do not make up a solution of kind {kind!r} "
            f"({type(error).__name__}: {one_line(error)})"
        ) from error
