"""Pages of the methods, written from the registry: one per method, and the table of all."""

from __future__ import annotations

import inspect
import re
import textwrap
from pathlib import Path

import pandas as pd

from mergebook.paths import project_dir
from mergebook.registry import Method, get_method, list_methods
from mergebook.report.measured import list_measured, measured

FOLDER = "executed/methods"  # of the pages, seen from the book's root
BOARD = "atlas/leaderboard/summary"
TABLES = {f"full/{BOARD}": "mini", f"real14/{BOARD}": "real"}
STATUS = {
    "our reading": "Our reading: the description we had is incomplete, see the notes below.",
    "analogue": "An analogue: the paper's method is for another kind of model; this is our "
    "counterpart for image encoders.",
}
EMPTY = pd.DataFrame(columns=["method", "normalised", "storage"])
NEEDS = {
    (): "nothing but weights",
    ("images",): "unlabelled images",
    ("images", "labels"): "labelled images",
}
CITATION = re.compile(r"\[([a-z]+\d{4}[a-z]+)(?:[,;]\s+([^\]]+))?\]_?")
RULE = r"=+(?: +=+)+\n"
TABLE = re.compile(
    rf"^(?P<rule>{RULE})(?P<head>[^\n]+\n){RULE}(?P<body>(?:[^=\n][^\n]*\n)+){RULE}", re.MULTILINE
)
ROLE = re.compile(r":(?:func|data|class|meth|attr|mod):`~?([^`]+)`")
MATH = re.compile(r"^( *)\.\. math::([^\n]*\n(?:\1 +[^\n]*\n|\n)*)", re.MULTILINE)  # also in lists
SECTION = re.compile(r"^(\w[\w ]*)\n-{3,}\n", re.MULTILINE)


def sections(doc: str) -> dict[str, str]:
    """Split a NumPy-style docstring: what precedes the first section is under ``""``."""
    pieces = SECTION.split(doc)
    return {"": pieces[0].strip()} | {
        title: text.strip() for title, text in zip(pieces[1::2], pieces[2::2], strict=True)
    }


def to_markdown(text: str) -> str:
    """Turn the reStructuredText of our docstrings into MyST Markdown."""
    text = TABLE.sub(_table, text + "\n")  # first: its columns go by position
    text = MATH.sub(_formula, text)
    text = re.sub(r":math:`([^`]+)`", r"$\1$", text)
    text = ROLE.sub(lambda role: f"`{role[1].rpartition('.')[2]}`", text)
    text = re.sub(r"``([^`]+)``", r"`\1`", text)
    return CITATION.sub(_citation, text).strip()


def _citation(found: re.Match) -> str:
    where = f" ({' '.join(found[2].split())})" if found[2] else ""
    return f"{{cite}}`{found[1]}`{where}"


def _formula(block: re.Match) -> str:
    return textwrap.indent(f"$$\n{inspect.cleandoc(block[2])}\n$$\n\n", block[1])


def _table(block: re.Match) -> str:
    """A simple table of reStructuredText as one of Markdown."""
    rule, head, body = block["rule"], block["head"], block["body"]
    starts = [column.start() for column in re.finditer("=+", rule)]
    ends = [*starts[1:], None]
    rows = [
        [line[start:end].strip() for start, end in zip(starts, ends, strict=True)]
        for line in [head, *body.splitlines()]
    ]
    rows.insert(1, ["---"] * len(starts))
    return "\n".join(f"| {' | '.join(row)} |" for row in rows) + "\n"


def _literal(value: object) -> str:
    return f'"{value}"' if isinstance(value, str) else repr(value)


def call(method: Method) -> str:
    """A few lines of Python that run the method."""
    knobs = [f"{each.name}={_literal(each.default)}" for each in method.parameters[:3]]
    if not method.needs:
        arguments = [f'"{method.name}"', "experts", *knobs]
        setup = ['experts = mb.Experts("base.safetensors", {"a": "a.safetensors", '
                 '"b": "b.safetensors"})']  # fmt: skip
    else:
        arguments = [f'"{method.name}"', "bench.experts", "bench.calibration()", *knobs]
        setup = ['bench = mb.Benchmark("mini", num_tasks=8)']
    merge = f"merged = mb.merge({', '.join(arguments)})"
    if len(merge) > 80:  # what the page is wide enough for
        merge = f"merged = mb.merge(\n    {', '.join(arguments)}\n)"
    lines = ["import mergebook as mb", "", *setup, merge]
    lines += ['merged.save("merged.safetensors")', "print(merged.storage().formula())"]
    return "\n".join(lines)


def _knobs(method: Method) -> list[str]:
    if not method.parameters:
        return ["None."]
    rows = ["| parameter | default | valid | searched here | meaning |", "| --- " * 5 + "|"]
    for each in method.parameters:
        grid = ", ".join(map(str, method.grid.get(each.name, ()))) or "-"
        valid = to_markdown(each.valid).replace("|", "\\|")
        meaning = to_markdown(each.doc).replace("|", "\\|")
        rows.append(f"| `{each.name}` | `{each.default}` | {valid} | {grid} | {meaning} |")
    return rows


def _measured(method: Method) -> list[str]:
    rows = ["| suite | backbone | tasks | accuracy, % | normalised, % | storage, % of experts | "
            "s | peak MiB | inference, × |", "| --- " * 9 + "|"]  # fmt: skip
    for table, title in TABLES.items():
        if table not in list_measured():
            continue
        frame = measured(table)
        experts = frame[frame["method"] == "fine_tuned"].groupby("num_tasks")
        whole = experts["storage_gigabit"].first()
        mine = frame[(frame["method"] == method.name) & (frame["seed"] == frame["seed"].min())]
        for row in mine.itertuples():
            share = 100 * row.storage_gigabit / whole[row.num_tasks]
            rows.append(
                f"| {title} | `{row.backbone}` | {row.num_tasks} | {100 * row.accuracy:.1f} | "
                f"{100 * row.normalised:.1f} | {share:.1f} | {row.seconds:.2f} | "
                f"{row.peak_mib:.0f} | {row.inference_ratio:.1f} |"
            )
    if len(rows) == 2:
        return ["Not yet run."]
    return [
        *rows,
        "",
        "Measured at mini scale, by [the leaderboard](/executed/atlas/leaderboard), on the suite "
        "of drawn tasks and on 14 real ones; s is seconds of one merge on one core, training "
        "included; peak is of tensors made while merging; inference is relative to one plain "
        "encoder.",
    ]


def _source(method: Method) -> str:
    file = Path(inspect.getfile(method.function)).resolve()
    root = (project_dir() / "lib").resolve()
    return file.relative_to(root).as_posix() if file.is_relative_to(root) else file.name


def method_page(name: str) -> str:
    """Page of one method, in MyST Markdown.

    Parameters
    ----------
    name : str
        A registered method.
    """
    method = get_method(name)
    parts = sections(method.doc)
    summary, _, body = parts[""].partition("\n\n")
    facts = [f"**{method.family}**", f"needs {NEEDS[method.needs]}"]
    facts += [f"`{method.name}`"] + ([f"{{cite}}`{method.paper}`"] if method.paper else [])
    lines = [f"(method-{name})=", f"# {method.title}", "", to_markdown(summary), ""]
    lines += [" · ".join(facts), ""]
    if method.status in STATUS:
        lines += ["```{note}", STATUS[method.status], "```", ""]
    lines += [to_markdown(body), "", "## In code", "", "```python", call(method), "```", ""]
    lines += ["## Knobs", "", *_knobs(method), ""]
    if "Notes" in parts:
        lines += [
            "## Where sources and other libraries differ",
            "",
            to_markdown(parts["Notes"]),
            "",
        ]
    lines += ["## Measured", "", *_measured(method), ""]
    source = _source(method)
    address = f"https://github.com/mergebook/companion/blob/main/lib/{source}"
    lines += [f"Source: [`{source}`]({address}). [All methods](/book/methods)."]
    return "\n".join(lines) + "\n"


def methods_table() -> str:
    """Table of all methods, in MyST Markdown: readers of the built page sort and filter it."""
    frame = pd.concat([measured(table) for table in TABLES if table in list_measured()] or [EMPTY])
    first = frame.drop_duplicates("method").set_index("method")
    rows = [
        "| method | family | needs | reached, % | storage, bits | parameters | rests on | paper |",
        "| --- " * 8 + "|",
    ]
    for name in list_methods():
        method = get_method(name)
        here = first.loc[name] if name in first.index else None
        cells = [
            f"[{method.title}](/{FOLDER}/{name})",
            method.family,
            ", ".join(method.needs),
            "" if here is None else f"{100 * here['normalised']:.1f}",
            "" if here is None else here["storage"],
            ", ".join(each.name for each in method.parameters).replace("_", "\\_"),
            method.status,
            f"{{cite}}`{method.paper}`" if method.paper else "",
        ]
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(["::::{container} sortable", "", *rows, "", "::::"]) + "\n"


def write_pages(folder: Path) -> list[Path]:
    """Write the page of every method to a folder; pages of methods that are gone are removed.

    Parameters
    ----------
    folder : Path
        Made if it is missing.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.md"):
        if old.stem not in list_methods():
            old.unlink()
    written = []
    for name in list_methods():
        path = folder / f"{name}.md"
        path.write_text(method_page(name), encoding="utf-8")
        written.append(path)
    return written
