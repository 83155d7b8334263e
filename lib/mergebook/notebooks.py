"""The book's notebooks: which exist, and which parameters each takes."""

from __future__ import annotations

import ast
import itertools
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import yaml

from mergebook.errors import ExperimentError, ParameterError, unknown
from mergebook.paths import project_dir


@dataclass(frozen=True)
class NotebookParameter:
    """One assignment of a notebook's cell tagged ``parameters``.

    Attributes
    ----------
    name : str
        Name of the variable.
    default : object
        Its literal value: str, bool, int, float, or a list of these.
    doc : str
        The comment on its line, or an empty string.
    """

    name: str
    default: object
    doc: str = ""

    @property
    def type(self) -> str:
        """The type as a reader would write it, e.g. ``"int"`` or ``"list of float"``."""
        if isinstance(self.default, list):
            kinds = {type(value) for value in self.default}
            kind = float if kinds == {int, float} else next(iter(kinds), None)
            return f"list of {kind.__name__}" if kind else "list"
        return type(self.default).__name__

    def parse(self, text: str) -> object:
        """Value that a reader typed, as YAML or JSON.

        A list may be given as ``[8, 14]``, ``8,14``, or as its only value, ``14``.

        Raises
        ------
        ValueError
            If the text is no value of the parameter's type.
        """
        if isinstance(self.default, str):
            return text
        wants_list = isinstance(self.default, list) and not text.lstrip().startswith("[")
        try:
            value = yaml.safe_load(f"[{text}]" if wants_list else text)
        except yaml.YAMLError:
            raise ValueError(text) from None
        return self.convert(value)

    def convert(self, value: object) -> object:
        """Value in the type of the default: an int becomes a float, a single value a list.

        Raises
        ------
        ValueError
            If the value has another type.
        """
        if not isinstance(self.default, list):
            return _convert(value, type(self.default))
        kind = self.type.removeprefix("list of ")
        kinds = {kind.__name__: kind for kind in (str, bool, int, float)}
        values = list(value) if isinstance(value, list | tuple) else [value]
        return [_convert(each, kinds[kind]) for each in values] if kind in kinds else values


@dataclass(frozen=True)
class Notebook:
    """A notebook source.

    Attributes
    ----------
    name : str
        Chapter and notebook, e.g. ``"tall_masks/main_table"``.
    path : Path
        The file.
    """

    name: str
    path: Path

    @cached_property
    def cells(self) -> list[dict]:
        """The cells as stored (``cell_type``, ``source``, ``metadata``), sources joined."""
        try:
            cells = json.loads(self.path.read_text(encoding="utf-8"))["cells"]
        except (json.JSONDecodeError, KeyError) as error:
            raise ExperimentError(f"{self.path} is not a notebook: {error!r}") from error
        return [{**cell, "source": "".join(cell["source"])} for cell in cells]

    @property
    def title(self) -> str:
        """The first heading, without its mark."""
        for line in self.cells[0]["source"].splitlines() if self.cells else ():
            if line.startswith("# "):
                return line[2:].strip()
        raise ExperimentError(f"{self.path}: the first cell has no title ('# ...')")

    @cached_property
    def parameters(self) -> dict[str, NotebookParameter]:
        """The notebook's parameters by name, in order; empty without a ``parameters`` cell."""
        sources = [
            cell["source"]
            for cell in self.cells
            if "parameters" in cell.get("metadata", {}).get("tags", ())
        ]
        return {
            parameter.name: parameter for source in sources for parameter in self._declared(source)
        }

    def _declared(self, source: str) -> Iterator[NotebookParameter]:
        lines = source.splitlines()
        for node in ast.parse(source).body:
            targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", 0)]
            if len(targets) != 1 or not isinstance(targets[0], ast.Name):
                continue
            try:
                default = ast.literal_eval(node.value)
            except ValueError:
                raise ExperimentError(
                    f"{self.path}: parameter {targets[0].id!r} is not a literal value"
                ) from None
            _, _, doc = lines[node.end_lineno - 1][node.end_col_offset :].partition("#")
            yield NotebookParameter(targets[0].id, default, doc.strip())

    def describe(self) -> str:
        """Name, title and parameters with type, default and comment, one a line."""
        lines = [f"{self.name}: {self.title}"]
        for parameter in self.parameters.values():
            line = f"  {parameter.name}: {parameter.type} = {parameter.default!r}"
            lines.append(f"{line}  # {parameter.doc}" if parameter.doc else line)
        return "\n".join(lines)

    def resolve(self, values: Mapping[str, object]) -> dict[str, object]:
        """Check values for the notebook's parameters; strings are parsed as a reader's input.

        Parameters
        ----------
        values : mapping of str to object
            Texts (from a command line) or values (from a profile).

        Returns
        -------
        dict
            Those that differ from the notebook's own defaults, converted.

        Raises
        ------
        ParameterError
            If a name is unknown or a value has another type; lists all parameters.
        """
        changed = {}
        for name, value in values.items():
            if name not in self.parameters:
                problem = unknown("parameter", name, self.parameters)
                raise ParameterError(f"{problem}\n{self.describe()}")
            parameter = self.parameters[name]
            try:
                value = (
                    parameter.parse(value) if isinstance(value, str) else parameter.convert(value)
                )
            except ValueError:
                raise ParameterError(
                    f"parameter {name!r} takes {parameter.type}, not {value!r}\n{self.describe()}"
                ) from None
            if value != parameter.default:
                changed[name] = value
        return changed

    def experts(self, values: Mapping[str, object]) -> list[dict[str, object]]:
        """Expert sets that a run works on: one for each of its backbones and seeds.

        The parameters ``seed`` and ``other_seed`` hold seeds.

        Parameters
        ----------
        values : mapping of str to object
            The run's parameters where they differ from the defaults.

        Returns
        -------
        list of dict
            ``backbone``, ``seed``, ``num_tasks`` and ``steps`` (None: the full recipe); empty
            if the notebook has no parameter ``backbone``.
        """
        run = {name: parameter.default for name, parameter in self.parameters.items()} | values
        seeds = as_list(run.get("seed", 0)) + as_list(run.get("other_seed", []))
        sets = itertools.product(as_list(run.get("backbone", [])), dict.fromkeys(seeds))
        rest = {"num_tasks": max(as_list(run.get("num_tasks", 8))), "steps": run.get("steps")}
        return [{"backbone": backbone, "seed": seed, **rest} for backbone, seed in sets]

    def in_profile(
        self, profile: Mapping[str, object], variant: Mapping[str, object] | None = None
    ) -> dict[str, object]:
        """Parameters of the notebook's run in a profile of the pipeline.

        Parameters
        ----------
        profile : mapping
            ``parameters`` holds values for every notebook that has a parameter of that name (a
            list is for those that take a list), ``notebooks`` those of single notebooks, by the
            notebook's name. All optional.
        variant : mapping, optional
            Values that take precedence over ``parameters``.

        Returns
        -------
        dict
            Those that differ from the notebook's own defaults.
        """
        common = {**profile.get("parameters", {}), **(variant or {})}
        own = profile.get("notebooks", {}).get(self.name, {})
        fitting = {
            name: common[name]
            for name, parameter in self.parameters.items()
            if name in common
            and isinstance(common[name], list) <= isinstance(parameter.default, list)
        }
        return self.resolve(fitting | own)


def find_notebooks(root: Path | None = None) -> dict[str, Notebook]:
    """All notebooks of the project by name, sorted.

    Parameters
    ----------
    root : Path, optional
        The project's folder; that of `mergebook.paths.project_dir` by default.
    """
    folder = (root or project_dir()) / "notebooks"
    paths = sorted(
        path for path in folder.rglob("*.ipynb") if ".ipynb_checkpoints" not in path.parts
    )
    names = [path.relative_to(folder).with_suffix("").as_posix() for path in paths]
    return {name: Notebook(name, path) for name, path in zip(names, paths, strict=True)}


def get_notebook(name: str) -> Notebook:
    """The notebook of that name.

    Raises
    ------
    ExperimentError
        If there is none; lists all names.
    """
    notebooks = find_notebooks()
    if name not in notebooks:
        raise ExperimentError(unknown("notebook", name, notebooks))
    return notebooks[name]


def _convert(value: object, kind: type) -> object:
    if kind is float and isinstance(value, str):  # YAML 1.1 reads 1e-3 as a string
        return float(value)
    if kind is float and type(value) is int:
        return float(value)
    if type(value) is not kind:
        raise ValueError(value)
    return value


def as_list(value: object) -> list:
    """The values of a parameter that is one value or a list of them."""
    return list(value) if isinstance(value, list | tuple) else [value]
