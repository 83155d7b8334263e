"""The ``suite.yaml`` of a folder: read within bounds, its settings checked when they are taken."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import yaml

from mergebook.errors import SuiteError, one_line, shown, unknown
from mergebook.suites.splits import Cuts

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
LONGEST_NAME = 100  # characters of a suite's or a task's name, which becomes that of a file
MOST_BYTES = 1 << 20  # of a description
MOST_NODES = 100_000  # values in it, counted as often as aliases repeat them


class _Loader(yaml.SafeLoader):
    """Refuses what YAML allows but nobody means: keys given twice, and aliases that explode."""

    def __init__(self, stream: str):
        super().__init__(stream)
        self._sizes: dict[int, int] = {}  # of each value, with all that is in it

    def compose_node(self, parent, index):
        alias = self.peek_event() if self.check_event(yaml.AliasEvent) else None
        node = super().compose_node(parent, index)
        if alias is not None and id(node) not in self._sizes:
            raise yaml.composer.ComposerError(
                None, None, f"{alias.anchor!r} contains itself", alias.start_mark
            )
        if alias is None:
            inside = node.value if isinstance(node, yaml.CollectionNode) else []
            parts = [each for part in inside for each in (part if type(part) is tuple else [part])]
            self._sizes[id(node)] = 1 + sum(self._sizes[id(each)] for each in parts)
        if self._sizes[id(node)] > MOST_NODES:
            raise yaml.composer.ComposerError(
                None, None, f"more than {MOST_NODES} values", node.start_mark
            )
        return node

    def construct_mapping(self, node, deep=False):
        seen = set()
        for name, _ in node.value:
            if isinstance(name, yaml.ScalarNode) and name.tag != "tag:yaml.org,2002:merge":
                if (name.tag, name.value) in seen:
                    raise yaml.constructor.ConstructorError(
                        None, None, f"{shown(name.value)} is given twice", name.start_mark
                    )
                seen.add((name.tag, name.value))
        return super().construct_mapping(node, deep)


def read(path: Path) -> object:
    """What a description holds; an empty mapping if there is none.

    Raises
    ------
    SuiteError
        If it is too long, not UTF-8, or not YAML.
    """
    if not path.is_file():
        return {}
    with path.open("rb") as file:
        raw = file.read(MOST_BYTES + 1)
    if len(raw) > MOST_BYTES:
        raise SuiteError(f"{path}: longer than {MOST_BYTES} bytes")
    try:
        return yaml.load(raw.decode("utf-8"), _Loader) or {}
    except RecursionError:
        raise SuiteError(f"{path}: not readable as YAML (nested too deeply)") from None
    except Exception as error:  # the loader raises others too, on a date or number that is none
        raise SuiteError(f"{path}: not readable as YAML ({one_line(error)})") from error


class Settings:
    """A mapping from the YAML file whose settings are checked when they are taken.

    Parameters
    ----------
    values : object
        What the file has.
    where : str
        What errors call it.
    keys : tuple of str
        Settings that there may be.
    """

    def __init__(self, values: object, where: str, keys: tuple[str, ...]):
        self.where = where
        if not isinstance(values, Mapping):
            raise SuiteError(f"{where}: must be a mapping, is {shown(values)}")
        for key in values:
            if key not in keys:
                raise SuiteError(f"{where}: {unknown('setting', key, keys)}")
        self.values = values

    def get(self, key: str, types: tuple[type, ...], what: str, default=None):
        """A setting, or the default if it is not given or null."""
        value = self.values.get(key)
        if value is None:
            return default
        if not isinstance(value, types) or isinstance(value, bool):
            raise SuiteError(f"{self.where}: {key} must be {what}, is {shown(value)}")
        return value

    def text(self, key: str, default: str = "") -> str:
        """A text."""
        return self.get(key, (str,), "a text", default)

    def name(self, reserved: tuple[str, ...], default: str = "") -> str:
        """The setting `name`, fit to name a file."""
        name = self.text("name", default)
        if not NAME.fullmatch(name) or name in reserved or len(name) > LONGEST_NAME:
            raise SuiteError(
                f"{self.where}: name must be of letters, digits, '_', '.' and '-', at most "
                f"{LONGEST_NAME}, and none of {', '.join(reserved)}; is {shown(name)}"
            )
        return name

    def texts(self, key: str, default: tuple[str, ...] | None) -> tuple[str, ...] | None:
        """A list of texts; a single one counts."""
        value = self.get(key, (list, str), "a list of texts", default)
        value = [value] if isinstance(value, str) else value
        for each in value or ():
            # YAML reads a bare `no` as false and 1.0 as a number; a name is what was meant
            if not isinstance(each, str | int) or isinstance(each, bool):
                raise SuiteError(f"{self.where}: {key}: {shown(each)} is no text; put it in quotes")
        return None if value is None else tuple(map(str, value))

    def side(self, default: int) -> int:
        """The setting `image_size`."""
        side = self.get("image_size", (int,), "a number of pixels", default)
        if not 8 <= side <= 1024:
            raise SuiteError(
                f"{self.where}: image_size must be between 8 and 1024, is {shown(side)}"
            )
        return side

    def cuts(self, default: Cuts) -> Cuts:
        """The setting `splits`."""
        where = f"{self.where}, splits"
        given = Settings(self.values.get("splits") or {}, where, tuple(asdict(default)))
        values = asdict(default)
        for split in ("validation", "test"):
            size = given.get(split, (int, float), "a number or a fraction", values[split])
            if size is not None and not (size >= 1 if isinstance(size, int) else 0 < size < 1):
                raise SuiteError(
                    f"{where}: {split} must be a number of images or a fraction between 0 and 1, "
                    f"is {shown(size)}"
                )
            values[split] = size
        values["seed"] = given.get("seed", (int,), "a whole number", default.seed)
        if not 0 <= values["seed"] < 2**63:
            rule = "must not be negative" if values["seed"] < 0 else "must be below 2^63"
            raise SuiteError(f"{where}: seed {rule}, is {shown(values['seed'])}")
        return Cuts(**values)
