"""Suites from a folder of stored images or texts, described by a ``suite.yaml``."""

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
from mergebook.suites.texts import ENDINGS, read_texts

DESCRIPTION = "suite.yaml"
TEMPLATES = ("a photo of a {}.", "a picture of a {}.", "an image of a {}.")
TEXT_TEMPLATES = ("This text is about {}.",)
SIDE = 64  # of images from image files, in pixels; twice what the mini backbones see
FILES = (".npz", *ENDINGS)
SHARED = ("templates", "splits", "image_size")  # for all tasks, or for one
SUITE_KEYS = ("name", "description", "images", "texts", *SHARED, "tasks")
TASK_KEYS = ("name", "file", "title", "description", "counterpart", "class_names",
             "source", "licence", "citation", *SHARED)  # fmt: skip
SUITE_RESERVED = ("mini", "text8", "pretraining", "ready")  # other folders under checkpoints/
TASK_RESERVED = ("base",)  # the file of the base among those of the experts


def folder_suite(folder: str | Path, source: str | None = None) -> Suite:
    """Return the suite that a folder holds.

    ``suite.yaml`` in the folder may set, for the suite:

    - ``name``: of the folder of its experts; the folder's name if not given,
    - ``images`` or ``texts``: folder of the tasks, relative to the YAML file; its own folder if
      not given. Environment variables such as ``$MERGEBOOK_DATA`` are replaced,
    - ``tasks``: list of names, or of settings with a ``name`` each, in the order of the suite.
      All tasks in that folder, sorted, if not given,
    - ``templates``, ``splits``, ``image_size``: for tasks without their own;

    and for a task:

    - ``file``: an ``.npz`` file or a folder of image files, or a ``.jsonl`` or ``.csv`` file of
      texts, perhaps packed with gzip (``.gz``); ``<name>`` with one of these endings, or none, if
      not given; see :func:`~mergebook.suites.stored.read_npz`,
      :func:`~mergebook.suites.stored.read_tree` and :func:`~mergebook.suites.texts.read_texts`,
    - ``templates``: prompts with ``{}`` for the class name,
    - ``class_names``: a list in label order, or a mapping from all stored names (for image files
      those of the classes' folders) to the names to use; underscores become spaces if not given,
    - ``splits``: ``validation``, ``test`` and ``seed``, see
      :class:`~mergebook.suites.splits.Cuts`,
    - ``image_size``: side of the squares that image files are scaled to, 64 by default,
    - ``title``, ``description``, ``counterpart``, for people; ``source``, ``licence`` and
      ``citation`` too, which are not read.

    Parameters
    ----------
    folder : str or Path
    source : str, optional
        What the suite is found by, if not by its folder.

    Returns
    -------
    Suite
        Splits are disjoint and do not depend on the seed that examples are asked for with.

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
        return _suite(folder, source)
    except (OSError, ValueError, RuntimeError) as error:  # also a name with \0
        where = getattr(error, "filename", None) or str(folder)
        problem = getattr(error, "strerror", None) or one_line(error)
        raise SuiteError(f"{shown(where)} cannot be read: {problem}") from error


def _suite(folder: Path, source: str | None) -> Suite:
    path = folder / DESCRIPTION
    given = Settings(read(path), str(path), SUITE_KEYS)
    reserved = () if source else SUITE_RESERVED
    name = given.name(reserved, folder.name)
    data = _expand(folder, given)
    listed = given.get("tasks", (list,), "a list of tasks", _found(data))
    if not listed:
        raise SuiteError(f"{given.where}: no tasks, and no .npz files, texts or folders in {data}")
    tasks = []
    for number, entry in enumerate(listed, start=1):
        entry = {"name": entry} if isinstance(entry, str) else entry
        own = Settings(entry, f"{path}, task {number}", TASK_KEYS)
        own.where = f"{path}, task {own.name(TASK_RESERVED)!r}"
        tasks.append(_task(own, given, data))
    if len({task.modality for task in tasks}) > 1:
        raise SuiteError(f"{given.where}: some tasks have images and others texts; keep one kind")
    return Suite(name, tasks, source=source or str(folder))


def _expand(folder: Path, given: Settings) -> Path:
    kinds = [kind for kind in ("images", "texts") if given.values.get(kind) is not None]
    if len(kinds) > 1:
        raise SuiteError(f"{given.where}: images and texts; keep one")
    kind = kinds[0] if kinds else "images"
    text = os.path.expandvars(given.text(kind, "."))
    if missing := re.search(r"\$\{?(\w+)", text):
        raise SuiteError(
            f"{given.where}: {kind} is {shown(text)}, and the environment variable {missing[1]} "
            f"is not set; let it name the folder that the {kind} are in"
        )
    try:
        data = folder / Path(text).expanduser()
    except RuntimeError as error:  # nobody of that name
        raise SuiteError(f"{given.where}: {kind} is {shown(text)}: {one_line(error)}") from error
    if not data.is_dir():
        raise SuiteError(f"{given.where}: {kind}: no folder {str(data)!r}")
    return data


def _found(data: Path) -> list[str]:
    """Names of all tasks of a folder."""
    paths = [path for path in data.iterdir() if not path.name.startswith(".")]
    files = [path.name for path in paths if not path.is_dir()]
    stored = {name.removesuffix(e) for name in files for e in FILES if name.endswith(e)}
    return sorted(stored | {path.name for path in paths if path.is_dir()})


def _task(own: Settings, given: Settings, data: Path) -> Task:
    name = own.text("name")
    side, cuts = own.side(given.side(SIDE)), own.cuts(given.cuts(Cuts()))
    stored = _open(own, data, name, side)
    class_names = _class_names(own, stored)
    usual = TEMPLATES if stored.modality == "image" else TEXT_TEMPLATES
    templates = own.texts("templates", given.texts("templates", usual))
    for split, part in stored.parts.items():
        wrong = part.labels[(part.labels < 0) | (part.labels >= len(class_names))]
        if len(wrong):
            raise SuiteError(
                f"{own.where}: {stored.root}: {split} has label {wrong[0]}, but there are "
                f"{len(class_names)} class names"
            )
    if "test" in stored.parts and "test" in (own.values.get("splits") or {}):
        raise SuiteError(
            f"{own.where}, splits: test {stored.modality}s are stored apart; none are cut"
        )
    settings: dict[str, object] = {
        "classes": class_names,
        "templates": templates,
        "side": side,
        **asdict(cuts),
    }
    try:
        splits = cuts.apply(stored.parts)
        sizes = {split: len(index) for split, (_, index) in splits.items()}
        return Task(
            name, own.text("title", name.replace("_", " ").capitalize()), class_names, templates,
            loader(name, splits), sizes, own.text("counterpart"), own.text("description"),
            limits=sizes, fingerprint=lambda: _fingerprint(stored, settings),
            modality=stored.modality,
        )  # fmt: skip
    except SuiteError as error:
        raise SuiteError(f"{own.where}: {error}") from error


def _open(own: Settings, data: Path, name: str, side: int) -> Stored:
    usual = [f"{name}{ending}" for ending in FILES]
    choices = [own.text("file")] if own.text("file") else [usual[0], name, *usual[1:]]
    for choice in choices:
        path = data / choice
        if path.is_dir():
            return read_tree(path, side)
        if path.is_file() and choice.endswith(ENDINGS):
            names = own.values.get("class_names")
            names = None if isinstance(names, Mapping) else own.texts("class_names", None)
            return read_texts(path, names)
        if path.is_file():
            return read_npz(path)
    wanted = own.text("file") or f"folder {name} and no {' or '.join(usual)}"
    raise SuiteError(f"{own.where}: no {wanted} in {data}")


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
