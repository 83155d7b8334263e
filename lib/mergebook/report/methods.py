"""Pages of the methods, written from the registry: one a method, one a family, the list of all."""

from __future__ import annotations

import inspect
from pathlib import Path

import mergebook
from mergebook.registry import FAMILIES, Method, get_method, list_methods
from mergebook.report.board import BLOCKS, boards, in_block
from mergebook.report.board import at as rows_at
from mergebook.report.docstrings import minus, sections, to_markdown
from mergebook.report.method_figure import Pictures
from mergebook.report.method_numbers import (
    costs_table,
    formula,
    numbers_table,
    places,
)

FOLDER = "executed/methods"  # of the pages, seen from the book's root
REPOSITORY = "https://github.com/mergebook/companion/blob/main"
LEADERBOARD = "/executed/atlas/leaderboard"
CODE_WIDTH = 62  # characters that fit beside both sidebars
STATUS = {
    "paper": "the paper's text or released code",
    "our reading": "our reading of an incomplete description, see the notes below",
    "analogue": "an analogue: the paper's method is for another kind of model; this is our "
    "counterpart for image encoders",
    "common knowledge": "common knowledge",
}
NEEDS = {
    (): "nothing but weights",
    ("images",): "unlabelled images",
    ("images", "labels"): "labelled images",
}
TOLD = {
    "no": "No: one encoder serves all tasks",
    "yes": "Yes: the encoder differs by task",
    "guessed": "No: the encoder guesses from the image",
}
FAMILY_TEXTS = {
    "reference": ("References", "The two ends, zero-shot and fine-tuned, that everything is "
        "compared with."),
    "data-free": ("Data-free merging", "One model from the weights alone. Where there is a "
        "coefficient, it is chosen on validation images."),
    "statistics": ("Merging with statistics", "One model; a forward or backward pass over a few "
        "images without labels weights the experts."),
    "adapted": ("Adapted merging", "One model whose merging coefficients are learned from "
        "unlabelled images."),
    "training": ("Training", "Labelled images and gradient steps on the weights: what merging "
        "tries to avoid, for comparison."),
    "compression": ("Compression", "Something is kept for each task, less than a whole model. The "
        "task of an image must be known."),
    "routing": ("Routing", "Something is kept for each task, and the input decides how it is "
        "used."),
    "intervention": ("Interventions", "One merged model, and for each task a small module that "
        "edits its representation. The task of an image must be known."),
}  # fmt: skip


def _literal(value: object) -> str:
    return f'"{value}"' if isinstance(value, str) else repr(value)


def _called(function: str, arguments: list[str]) -> str:
    """Return a call, on one line if it fits, else an argument a line."""
    line = f"{function}({', '.join(arguments)})"
    if len(line) <= CODE_WIDTH:
        return line
    return "\n".join([f"{function}(", *(f"    {each}," for each in arguments), ")"])


def call(method: Method) -> str:
    """Return a few lines of Python that run the method."""
    values = [f"{each.name}={_literal(each.default)}" for each in method.parameters[:3]]
    if not method.needs:
        arguments = [f'"{method.name}"', "experts", *values]
        tasks = '{task: f"{task}.safetensors" for task in "abc"}'
        setup = _called("experts = mb.Experts", ['"base.safetensors"', tasks])
    else:
        arguments = [f'"{method.name}"', "bench.experts", "bench.calibration()", *values]
        setup = 'bench = mb.Benchmark("mini", num_tasks=8)'
    lines = ["import mergebook as mb", "", setup, _called("merged = mb.merge", arguments)]
    told = ' "a" ' if not method.needs else " bench.suite.names[0] "
    if method.told == "yes":
        lines += [f"encoder = merged.encoder({told.strip()})  # of one task"]
    else:
        lines += ["encoder = merged.encoder()  # of all tasks"]
    if not method.needs and method.told == "no":
        lines[-1] = "weights = merged.state_dict()  # of all tasks"
    lines += ['merged.save("merged.safetensors")', "print(merged.storage().formula())"]
    return "\n".join(lines)


def _parameters(method: Method) -> list[str]:
    if not method.parameters:
        return ["None."]
    rows = ["| parameter | default | meaning | valid | searched here |", "| --- " * 5 + "|"]
    for each in method.parameters:
        grid = minus(", ".join(map(str, method.grid.get(each.name, ())))) or "no"
        valid = to_markdown(each.valid).replace("|", "\\|")
        meaning = to_markdown(each.doc).replace("|", "\\|")
        rows.append(f"| `{each.name}` | `{each.default}` | {meaning} | {valid} | {grid} |")
    return rows


def source_of(method: Method) -> str:
    """Return the module that defines a method, seen from the project's folder."""
    file = Path(inspect.getfile(method.function)).resolve()
    package = Path(mergebook.__file__).resolve().parent
    if not file.is_relative_to(package):
        return file.name  # a reader's own
    return f"lib/mergebook/{file.relative_to(package).as_posix()}"


def page_of(name: str) -> str:
    """Return the address of a method's page in the book, without an ending."""
    return f"{FOLDER}/{get_method(name).family}/{name}"


def _facts(method: Method) -> list[str]:
    family = FAMILY_TEXTS[method.family][0]
    where = [f"[the leaderboard]({LEADERBOARD})", *places(method.name)]
    rows = [
        ("told the task", TOLD[method.told]),
        ("needs", NEEDS[method.needs]),
        ("stores", formula(method.name)),
        ("family", f"[{family}](/{FOLDER}/{method.family})"),
        ("paper", f"{{cite:t}}`{method.paper}`" if method.paper else "none"),
        ("rests on", STATUS[method.status]),
        ("in this book", ", ".join(where)),
        ("in code", f"`{method.name}`"),
    ]
    return ["| at a glance | |", "| --- | --- |", *(f"| {key} | {text} |" for key, text in rows)]


def method_page(name: str, picture: str = "") -> str:
    """Page of one method, in MyST Markdown.

    Parameters
    ----------
    name : str
        A registered method.
    picture : str
        The directive that shows its picture; nothing if there is none.
    """
    method = get_method(name)
    parts = sections(method.doc)
    summary, _, body = parts[""].partition("\n\n")
    lines = [f"(method-{name})=", f"# {method.title}", "", to_markdown(summary), ""]
    lines += [*_facts(method), "", "## What it does", "", to_markdown(body), ""]
    lines += ["## What it reaches", "", picture, "", *numbers_table(name), ""]
    lines += ["## What it costs", "", *costs_table(name), ""]
    lines += ["## In code", "", "```python", call(method), "```", ""]
    lines += ["## Parameters", "", *_parameters(method), ""]
    if "Notes" in parts:
        lines += ["## Where sources and other libraries differ", "", to_markdown(parts["Notes"])]
        lines += [""]
    source = source_of(method)
    lines += [f"Source: [`{source.removeprefix('lib/')}`]({REPOSITORY}/{source})."]
    return "\n".join(lines) + "\n"


def methods_table(names: list[str]) -> str:
    """Table of some methods, best first, in MyST Markdown that the built page lets readers sort."""
    first = next(iter(boards().values()), None)
    here = None if first is None else rows_at(first, first["num_tasks"].min())
    if here is not None:
        reached = here["normalised"]
        names = sorted(names, key=lambda name: -reached.get(name, 0))
    rows = ["| method | reached, % | storage, % | needs | family | rests on | paper |"]
    rows += ["| --- " * 7 + "|"]
    for name in names:
        method, cells = get_method(name), ["", ""]
        if here is not None and name in here.index:
            cells = [f"{100 * here.loc[name, column]:.1f}" for column in ("normalised", "share")]
        cells = [
            f"[{method.title}](/{page_of(name)})",
            *cells,
            ", ".join(method.needs) or "weights",
            method.family,
            method.status,
            f"{{cite}}`{method.paper}`" if method.paper else "",
        ]
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(["::::{container} sortable", "", *rows, "", "::::"]) + "\n"


def methods_list() -> str:
    """All methods, in MyST Markdown: a section and a table for each block."""
    pieces = []
    for told, block in BLOCKS.items():
        names = in_block(told, list_methods())
        pieces += [f"## {block.title}", "", block.text, "", methods_table(names)]
    return "\n".join(pieces)


def family_page(family: str) -> str:
    """Page of a family: what its methods have in common, and their table."""
    title, text = FAMILY_TEXTS[family]
    names = [name for name in list_methods() if get_method(name).family == family]
    lines = [f"(family-{family})=", f"# {title}", "", text, "", methods_table(names), ""]
    lines += ["*Reached* is the accuracy on the first eight drawn tasks, relative to the experts';"]
    lines += ["*storage* is the share of what the experts need. See"]
    lines += [f"[the methods](/book/methods) and [the leaderboard]({LEADERBOARD})."]
    return "\n".join(lines) + "\n"


def write_pages(folder: Path) -> list[Path]:
    """Write the pages of all methods and families to a folder, with the methods' pictures.

    Parameters
    ----------
    folder : Path
        Made if it is missing: ``<family>.md``, ``<family>/<name>.md``, ``<family>/<name>.png``.
        Pages of methods that are gone are removed.
    """
    pictures, written = Pictures(), []
    for family in FAMILIES:
        (folder / family).mkdir(parents=True, exist_ok=True)
        written.append(folder / f"{family}.md")
        written[-1].write_text(family_page(family), encoding="utf-8")
    for name in list_methods():
        path = folder / get_method(name).family / f"{name}.md"
        picture = pictures.draw(name, path.with_suffix(".png"))
        if picture:
            written.append(path.with_suffix(".png"))
        path.write_text(method_page(name, picture), encoding="utf-8")
        written.append(path)
    for old in folder.rglob("*.*"):
        if old not in written:
            old.unlink()
    return written
