"""The book's notebooks: which exist, and which parameters each takes."""

from __future__ import annotations

import ast
import itertools
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from mergebook.errors import ExperimentError, ParameterError, unknown
from mergebook.paths import project_dir
from mergebook.values import Values


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

    @cached_property
    def values(self) -> Values:
        """What it takes: values of the default's type."""
        return Values.like(self.default)

    def describe(self) -> str:
        """Name, type, default and comment, in a line."""
        line = f"{self.name}: {self.values.type} = {self.default!r}"
        return f"{line}  # {self.doc}" if self.doc else line


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
            _, _, doc = lines[node.end_lineno - 1][node.end_col_offset :].partition("#")
            name = targets[0].id
            try:
                parameter = NotebookParameter(name, ast.literal_eval(node.value), doc.strip())
            except ValueError:
                raise ExperimentError(
                    f"{self.path}: parameter {name!r} is not a literal value"
                ) from None
            try:
                _ = parameter.values
            except ValueError as error:
                raise ExperimentError(f"{self.path}: parameter {name!r}: {error}") from None
            yield parameter

    def describe(self) -> str:
        """Name, title and parameters with type, default and comment, one a line."""
        lines = [f"{self.name}: {self.title}"]
        lines += [f"  {parameter.describe()}" for parameter in self.parameters.values()]
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
            If a name is unknown (lists all parameters) or a value is not valid (says what is).
        """
        changed = {}
        for name, value in values.items():
            if name not in self.parameters:
                problem = unknown("parameter", name, self.parameters)
                raise ParameterError(f"{problem}\n{self.describe()}")
            parameter = self.parameters[name]
            try:
                value = parameter.values.read(value)
            except ValueError as error:
                raise ParameterError(f"{self.name}: parameter {name!r}: {error}") from None
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


def as_list(value: object) -> list:
    """The values of a parameter that is one value or a list of them."""
    return list(value) if isinstance(value, list | tuple) else [value]
