"""Suites from a folder of stored images, described by a ``suite.yaml``."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from mergebook.errors import SuiteError, one_line, shown
from mergebook.suites.base import Suite, Task
from mergebook.suites.description import Settings, read
from mergebook.suites.splits import Cuts, loader
from mergebook.suites.stored import Stored, read_npz, read_tree

DESCRIPTION = "suite.yaml"
TEMPLATES = ("a photo of a {}.", "a picture of a {}.", "an image of a {}.")
SIDE = 64  # of images from image files, in pixels; twice what the mini backbones see
SHARED = ("templates", "splits", "image_size")  # for all tasks, or for one
SUITE_KEYS = ("name", "description", "images", *SHARED, "tasks")
TASK_KEYS = ("name", "file", "title", "description", "counterpart", "class_names",
             "source", "licence", *SHARED)  # fmt: skip
SUITE_RESERVED = ("mini", "pretraining", "ready")  # other folders under checkpoints/
TASK_RESERVED = ("base",)  # the file of the base among those of the experts


def folder_suite(folder: str | Path) -> Suite:
    """Return the suite that a folder holds.

    ``suite.yaml`` in the folder may set, for the suite:

    - ``name``: of the folder of its experts; the folder's name if not given,
    - ``images``: folder of the tasks, relative to the YAML file; its own folder if not given.
      Environment variables such as ``$MERGEBOOK_DATA`` are replaced,
    - ``tasks``: list of names, or of settings with a ``name`` each, in the order of the suite.
      All ``.npz`` files and folders of ``images``, sorted, if not given,
    - ``templates``, ``splits``, ``image_size``: for tasks without their own;

    and for a task:

    - ``file``: an ``.npz`` file or a folder of image files, ``<name>.npz`` or ``<name>`` if not
      given; see :func:`~mergebook.suites.stored.read_npz` and
      :func:`~mergebook.suites.stored.read_tree`,
    - ``templates``: prompts with ``{}`` for the class name,
    - ``class_names``: a list in label order, or a mapping from all stored names (for image files
      those of the classes' folders) to the names to use; underscores become spaces if not given,
    - ``splits``: ``validation``, ``test`` and ``seed``, see
      :class:`~mergebook.suites.splits.Cuts`,
    - ``image_size``: side of the squares that image files are scaled to, 64 by default,
    - ``title``, ``description``, ``counterpart``, for people; ``source`` and ``licence`` too,
      which are not read.

    Parameters
    ----------
    folder : str or Path

    Returns
    -------
    Suite
        Splits are disjoint and do not depend on the seed that images are asked for with.

    Raises
    ------
    SuiteError
        A folder or file that is missing or malformed, a setting that is unknown or of the wrong
        type. Names the file and the entry.
    """
    try:
        folder = Path(os.path.realpath(folder))  # which a loop of links does not stop
        if not folder.is_dir():
            raise SuiteError(f"suite {str(folder)!r}: no such folder")
        return _suite(folder)
    except (OSError, ValueError, RuntimeError) as error:  # also a name with \0
        where = getattr(error, "filename", None) or str(folder)
        problem = getattr(error, "strerror", None) or one_line(error)
        raise SuiteError(f"{shown(where)} cannot be read: {problem}") from error


def _suite(folder: Path) -> Suite:
    path = folder / DESCRIPTION
    given = Settings(read(path), str(path), SUITE_KEYS)
    name = given.name(SUITE_RESERVED, folder.name)
    images = _expand(folder, given)
    listed = given.get("tasks", (list,), "a list of tasks", _found(images))
    if not listed:
        raise SuiteError(f"{given.where}: no tasks, and no .npz files or folders in {images}")
    tasks = []
    for number, entry in enumerate(listed, start=1):
        entry = {"name": entry} if isinstance(entry, str) else entry
        own = Settings(entry, f"{path}, task {number}", TASK_KEYS)
        own.where = f"{path}, task {own.name(TASK_RESERVED)!r}"
        tasks.append(_task(own, given, images))
    return Suite(name, tasks, source=str(folder))


def _expand(folder: Path, given: Settings) -> Path:
    text = os.path.expandvars(given.text("images", "."))
    if missing := re.search(r"\$\{?(\w+)", text):
        raise SuiteError(
            f"{given.where}: images is {shown(text)}, and the environment variable {missing[1]} "
            "is not set; let it name the folder that the images are in"
        )
    try:
        images = folder / Path(text).expanduser()
    except RuntimeError as error:  # nobody of that name
        raise SuiteError(f"{given.where}: images is {shown(text)}: {one_line(error)}") from error
    if not images.is_dir():
        raise SuiteError(f"{given.where}: images: no folder {str(images)!r}")
    return images


def _found(images: Path) -> list[str]:
    """Names of all tasks of a folder."""
    paths = [path for path in images.iterdir() if not path.name.startswith(".")]
    return sorted(
        {p.stem for p in paths if p.suffix == ".npz"} | {p.name for p in paths if p.is_dir()}
    )


def _task(own: Settings, given: Settings, images: Path) -> Task:
    name = own.text("name")
    side, cuts = own.side(given.side(SIDE)), own.cuts(given.cuts(Cuts()))
    stored = _open(own, images, name, side)
    class_names = _class_names(own, stored)
    templates = own.texts("templates", given.texts("templates", TEMPLATES))
    for split, part in stored.parts.items():
        wrong = part.labels[(part.labels < 0) | (part.labels >= len(class_names))]
        if len(wrong):
            raise SuiteError(
                f"{own.where}: {stored.root}: {split} has label {wrong[0]}, but there are "
                f"{len(class_names)} class names"
            )
    if "test" in stored.parts and "test" in (own.values.get("splits") or {}):
        raise SuiteError(f"{own.where}, splits: test images are stored apart; none are cut")
    settings = {"classes": class_names, "templates": templates, "side": side, **asdict(cuts)}
    try:
        splits = cuts.apply(stored.parts)
        sizes = {split: len(index) for split, (_, index) in splits.items()}
        return Task(
            name, own.text("title", name.replace("_", " ").capitalize()), class_names, templates,
            loader(name, splits), sizes, own.text("counterpart"), own.text("description"),
            limits=sizes, fingerprint=lambda: _fingerprint(stored, settings),
        )  # fmt: skip
    except SuiteError as error:
        raise SuiteError(f"{own.where}: {error}") from error


def _open(own: Settings, images: Path, name: str, side: int) -> Stored:
    choices = [own.text("file")] if own.text("file") else [f"{name}.npz", name]
    for choice in choices:
        path = images / choice
        if path.is_dir():
            return read_tree(path, side)
        if path.is_file():
            return read_npz(path)
    raise SuiteError(f"{own.where}: no {' and no '.join(choices)} in {images}")


def _class_names(own: Settings, stored: Stored) -> tuple[str, ...]:
    found, given = stored.class_names, own.values.get("class_names")
    if isinstance(given, Mapping):
        names = {str(key): value for key, value in given.items()}
        if set(names) != set(found or ()):
            raise SuiteError(
                f"{own.where}: class_names renames {', '.join(names)}; the classes stored in "
                f"{stored.root} are {', '.join(found or ['not named'])}"
            )
        given = [names[each] for each in found]
    elif given is not None and stored.root.is_dir():  # no list can say which folder it means
        raise SuiteError(f"{own.where}: class_names must map the folders' names to class names")
    given = Settings({"class_names": given}, own.where, TASK_KEYS).texts("class_names", None)
    if given is None and found is None:
        raise SuiteError(f"{own.where}: {stored.root} has no class_names; list them")
    if given is not None and found is not None and len(given) != len(found):
        raise SuiteError(
            f"{own.where}: {len(given)} class_names for {len(found)} classes ({', '.join(found)})"
        )
    return given or tuple(each.replace("_", " ") for each in found)


def _fingerprint(stored: Stored, settings: Mapping[str, object]) -> str:
    text = stored.digest() + json.dumps(settings, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
