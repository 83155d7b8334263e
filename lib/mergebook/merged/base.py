"""What a method returns: a solution for all tasks that can be run, measured, saved and loaded."""

from __future__ import annotations

import json
import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from torch import Tensor

from mergebook.errors import CheckpointError, MethodError, unknown
from mergebook.merged.reading import fitting, naming_file, read_recipe, read_sizes, read_tasks
from mergebook.storage import Sizes, Storage
from mergebook.weights.checkpoint import Checkpoint, save_checkpoint

if TYPE_CHECKING:
    from torch import nn


Told = Literal["no", "yes", "guessed"]


class MergedModel(ABC):
    """A solution for T tasks; each way of storing one is a subclass.

    Attributes
    ----------
    told : {"no", "yes", "guessed"}
        Whether the encoder must be told an image's task: one encoder serves all tasks; there is one
        for each, to be asked for by name; or one encoder guesses the task from the image. (The
        classes to choose among, so the head, are given in all three cases.)
    tasks : tuple of str
        The tasks it serves.
    sizes : Sizes
        Numbers of trained and frozen entries.
    recipe : dict
        Method, parameters and version that made it.
    backbone : str or None
        Architecture, as named by the base's metadata.
    path : Path or None
        The file that it was read from.
    """

    kind: ClassVar[str]  # the name in files
    told: ClassVar[Told] = "yes"
    kinds: ClassVar[dict[str, type[MergedModel]]] = {}

    def __init_subclass__(cls, **kwargs: Any):
        super().__init_subclass__(**kwargs)
        MergedModel.kinds[cls.kind] = cls
        for name in ("state_dict", "storage", "head", "encoder"):
            setattr(cls, name, naming_file(getattr(cls, name)))

    def __init__(self, tasks: tuple[str, ...], sizes: Sizes):
        self.tasks = tuple(tasks)
        self.sizes = sizes
        self.recipe: dict[str, Any] = {}
        self.backbone: str | None = None
        self.path: Path | None = None

    @abstractmethod
    def state_dict(self, task: str | None = None) -> dict[str, Tensor]:
        """Weights for a task, with the names, shapes and types of the base.

        Tensors may share memory with the base: treat them as read-only.

        Parameters
        ----------
        task : str, optional
            The task; may be left out where one state dict serves all.

        Raises
        ------
        MethodError
            If the task is unknown, or needed and not given.
        """

    @abstractmethod
    def storage(self) -> Storage:
        """Bits needed to serve all tasks."""

    @abstractmethod
    def stored(self) -> tuple[dict[str, Tensor], dict[str, str]]:
        """What goes into a file: tensors, and text for the header."""

    @classmethod
    @abstractmethod
    def restore(cls, file: Checkpoint, tasks: tuple[str, ...], sizes: Sizes) -> MergedModel:
        """Undo :meth:`stored`."""

    def encoder(self, task: str | None = None) -> nn.Module:
        """Encoder with the weights for a task.

        Raises
        ------
        MethodError
            As :meth:`state_dict`; also if the backbone is not known.
        """
        weights = self.state_dict(task)
        if self.backbone is None:
            raise MethodError(
                "the backbone is not known: name it in the base's metadata, "
                "in Experts(..., backbone=...), or set .backbone"
            )
        from mergebook.towers.backbones import build_encoder  # only here, and slow to import

        return build_encoder(self.backbone, weights)

    def head(self, task: str) -> Tensor | None:
        """Head ``[C, D]`` of a task if this solution has its own; None for the zero-shot one."""
        self._check_task(task)
        return None

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the solution to one safetensors file, whole or not at all.

        Raises
        ------
        CheckpointError
            If it cannot be written.
        """
        tensors, header = self.stored()
        header |= {
            "kind": self.kind,
            "tasks": json.dumps(self.tasks),
            "recipe": json.dumps(self.recipe),
            "sizes": json.dumps({"trained": self.sizes.trained, "frozen": self.sizes.frozen}),
        }
        if self.backbone is not None:
            header["backbone"] = self.backbone
        return save_checkpoint(tensors, path, header)

    def _check_task(self, task: str | None, *, needed: bool = True) -> None:
        if task is None and needed:
            raise MethodError(
                f"this solution differs by task; choose from: {', '.join(self.tasks)}"
            )
        if task is not None and task not in self.tasks:
            raise MethodError(unknown("task", task, self.tasks))


def load_merged(path: str | os.PathLike[str]) -> MergedModel:
    """Read a solution that :meth:`MergedModel.save` wrote; tensors are read when needed.

    Raises
    ------
    CheckpointError
        If the file cannot be read or holds no solution. What the file says of itself is checked
        here as far as its header shows it; the rest when it is asked for.
    """
    file = Checkpoint(path)
    kind = file.metadata.get("kind")
    if kind not in MergedModel.kinds:
        raise CheckpointError(f"{path} holds no merged model")
    tasks, sizes = read_tasks(file), read_sizes(file, file.described("sizes"))
    with fitting(path, kind):
        merged = MergedModel.kinds[kind].restore(file, tasks, sizes)
    merged.recipe, merged.path = read_recipe(file), file.path
    merged.backbone = file.metadata.get("backbone")
    return merged


class Group(Mapping[str, Tensor]):
    """The tensors of a file whose names start with ``<prefix>/``, without the prefix."""

    def __init__(self, file: Checkpoint, prefix: str):
        self._file = file
        self._prefix = f"{prefix}/"

    def __getitem__(self, key: str) -> Tensor:
        return self._file[self._prefix + key]

    def __iter__(self) -> Iterator[str]:
        start = len(self._prefix)
        return (name[start:] for name in self._file if name.startswith(self._prefix))

    def __len__(self) -> int:
        return sum(1 for _ in self)


def group(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Put ``<prefix>/`` before each name: what :class:`Group` undoes."""
    return {f"{prefix}/{key}": tensor for key, tensor in tensors.items()}
