"""Suites from a folder of stored images, described by a ``suite.yaml``."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import yaml

from mergebook.errors import SuiteError, unknown
from mergebook.suites.base import Suite, Task
from mergebook.suites.splits import Cuts, loader
from mergebook.suites.stored import Stored, read_npz, read_tree

DESCRIPTION = "suite.yaml"
TEMPLATES = ("a photo of a {}.", "a picture of a {}.", "an image of a {}.")
SIDE = 64  # of images from image files, in pixels; twice what the mini backbones see
SHARED = ("templates", "splits", "image_size")  # for all tasks, or for one
SUITE_KEYS = ("name", "description", "images", *SHARED, "tasks")
TASK_KEYS = ("name", "file", "title", "description", "counterpart", "class_names",
             "source", "licence", *SHARED)  # fmt: skip
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
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
    folder = Path(os.path.realpath(folder))  # which a loop of links does not stop
    if not folder.is_dir():
        raise SuiteError(f"suite {str(folder)!r}: no such folder")
    path = folder / DESCRIPTION
    given = _Settings(_load(path), str(path), SUITE_KEYS)
    name = given.name(SUITE_RESERVED, folder.name)
    images = _expand(folder, given)
    listed = given.get("tasks", (list,), "a list of tasks", _found(images))
    if not listed:
        raise SuiteError(f"{given.where}: no tasks, and no .npz files or folders in {images}")
    tasks = []
    for number, entry in enumerate(listed, start=1):
        entry = {"name": entry} if isinstance(entry, str) else entry
        own = _Settings(entry, f"{path}, task {number}", TASK_KEYS)
        own.where = f"{path}, task {own.name(TASK_RESERVED)!r}"
        tasks.append(_task(own, given, images))
    return Suite(name, tasks, source=str(folder))


def _load(path: Path) -> object:
    if not path.is_file():
        return {}
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SuiteError(f"{path}: not readable as YAML ({error})") from error


class _Settings:
    """A mapping from the YAML file whose entries are checked when they are taken."""

    def __init__(self, values: object, where: str, keys: tuple[str, ...]):
        self.where = where
        if not isinstance(values, Mapping):
            raise SuiteError(f"{where}: must be a mapping, is {values!r}")
        for key in values:
            if key not in keys:
                raise SuiteError(f"{where}: {unknown('setting', key, keys)}")
        self.values = values

    def get(self, key: str, types: tuple[type, ...], what: str, default=None):
        value = self.values.get(key)
        if value is None:
            return default
        if not isinstance(value, types) or isinstance(value, bool):
            raise SuiteError(f"{self.where}: {key} must be {what}, is {value!r}")
        return value

    def text(self, key: str, default: str = "") -> str:
        return self.get(key, (str,), "a text", default)

    def name(self, reserved: tuple[str, ...], default: str = "") -> str:
        name = self.text("name", default)
        if not NAME.fullmatch(name) or name in reserved:
            raise SuiteError(
                f"{self.where}: name must be of letters, digits, '_', '.' and '-', and none of "
                f"{', '.join(reserved)}; is {name!r}"
            )
        return name

    def texts(self, key: str, default: tuple[str, ...] | None) -> tuple[str, ...] | None:
        value = self.get(key, (list, str), "a list of texts", default)
        value = [value] if isinstance(value, str) else value
        for each in value or ():
            # YAML reads a bare `no` as false and 1.0 as a number; a name is what was meant
            if not isinstance(each, str | int) or isinstance(each, bool):
                raise SuiteError(f"{self.where}: {key}: {each!r} is no text; put it in quotes")
        return None if value is None else tuple(map(str, value))

    def side(self, default: int) -> int:
        side = self.get("image_size", (int,), "a number of pixels", default)
        if not 8 <= side <= 1024:
            raise SuiteError(f"{self.where}: image_size must be between 8 and 1024, is {side}")
        return side

    def cuts(self, default: Cuts) -> Cuts:
        where = f"{self.where}, splits"
        given = _Settings(self.values.get("splits") or {}, where, tuple(asdict(default)))
        values = asdict(default)
        for split in ("validation", "test"):
            size = given.get(split, (int, float), "a number or a fraction", values[split])
            if size is not None and not (size >= 1 if isinstance(size, int) else 0 < size < 1):
                raise SuiteError(
                    f"{where}: {split} must be a number of images or a fraction between 0 and 1, "
                    f"is {size}"
                )
            values[split] = size
        values["seed"] = given.get("seed", (int,), "a whole number", default.seed)
        if values["seed"] < 0:
            raise SuiteError(f"{where}: seed must not be negative, is {values['seed']}")
        return Cuts(**values)


def _expand(folder: Path, given: _Settings) -> Path:
    text = os.path.expandvars(given.text("images", "."))
    if missing := re.search(r"\$\{?(\w+)", text):
        raise SuiteError(
            f"{given.where}: images is {text!r}, and the environment variable {missing[1]} "
            "is not set; let it name the folder that the images are in"
        )
    images = folder / Path(text).expanduser()
    if not images.is_dir():
        raise SuiteError(f"{given.where}: images: no folder {str(images)!r}")
    return images


def _found(images: Path) -> list[str]:
    """Names of all tasks of a folder."""
    paths = [path for path in images.iterdir() if not path.name.startswith(".")]
    return sorted(
        {p.stem for p in paths if p.suffix == ".npz"} | {p.name for p in paths if p.is_dir()}
    )


def _task(own: _Settings, given: _Settings, images: Path) -> Task:
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


def _open(own: _Settings, images: Path, name: str, side: int) -> Stored:
    choices = [own.text("file")] if own.text("file") else [f"{name}.npz", name]
    for choice in choices:
        path = images / choice
        if path.is_dir():
            return read_tree(path, side)
        if path.is_file():
            return read_npz(path)
    raise SuiteError(f"{own.where}: no {' and no '.join(choices)} in {images}")


def _class_names(own: _Settings, stored: Stored) -> tuple[str, ...]:
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
    given = _Settings({"class_names": given}, own.where, TASK_KEYS).texts("class_names", None)
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
