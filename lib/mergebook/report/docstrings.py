"""Docstrings as Markdown: what the methods' pages show of them."""

from __future__ import annotations

import re
from textwrap import dedent, indent

SECTION = re.compile(r"^(\w[\w ]*)\n-{3,}\n", re.MULTILINE)
CITATION = re.compile(r"\[([a-z]+\d{4}[a-z]+)(?:[,;]\s+([^\]]+))?\]_?")
RULE = r"=+(?: +=+)+\n"
TABLE = re.compile(
    rf"^(?P<rule>{RULE})(?P<head>[^\n]+\n){RULE}(?P<body>(?:[^=\n][^\n]*\n)+){RULE}", re.MULTILINE
)
ROLE = re.compile(r":(?:func|data|class|meth|attr|mod):`~?([^`]+)`")
# A block goes on as long as lines are empty or further in than its first.
MATH = re.compile(
    r"^(?P<indent> *)\.\. math::(?P<first>[^\n]*\n)(?P<rest>(?:(?P=indent) +\S[^\n]*\n|[ ]*\n)*)",
    re.MULTILINE,
)
LITERAL = re.compile(r"(\$\$.+?\$\$|\$[^$]+\$|``?[^`]+``?)", re.DOTALL)
# Before a number, or between a closing one and the next: "-1", "(T - 1)", "x - 1".
HYPHEN = re.compile(r"(?<![\w.\-−])-(?=\d)|(?<=\b\w |[\d)'] )-(?= [\w(])")


def sections(doc: str) -> dict[str, str]:
    """Split a NumPy-style docstring: what precedes the first section is under ``""``."""
    pieces = SECTION.split(doc)
    return {"": pieces[0].strip()} | {
        title: text.strip() for title, text in zip(pieces[1::2], pieces[2::2], strict=True)
    }


def to_markdown(text: str) -> str:
    """Turn the reStructuredText of our docstrings into MyST Markdown.

    Formulas, tables, citations such as ``[yadav2023ties, sec. 3]``, roles and literals are
    translated, and hyphens that stand for a minus are made one.
    """
    text = TABLE.sub(_table, text + "\n")  # first: its columns go by position
    text = MATH.sub(_formula, text)
    text = re.sub(r":math:`([^`]+)`", r"$\1$", text)
    text = ROLE.sub(lambda role: f"`{role[1].rpartition('.')[2]}`", text)
    text = re.sub(r"``([^`]+)``", r"`\1`", text)
    text = CITATION.sub(_citation, text)
    return minus(text).strip()


def minus(text: str) -> str:
    """Replace hyphens that stand for a minus, outside of formulas and code."""
    pieces = LITERAL.split(text)
    pieces[::2] = [HYPHEN.sub("−", piece) for piece in pieces[::2]]
    return "".join(pieces)


def _formula(block: re.Match) -> str:
    """Turn a directive into a block of dollars, as far in as the text around it."""
    body = f"{block['first'].strip()}\n{dedent(block['rest'])}".strip("\n")
    lines = [line.strip() for line in body.strip().splitlines()]
    return indent("\n".join(["$$", *lines, "$$", "", ""]), block["indent"])


def _citation(found: re.Match) -> str:
    note = " ".join((found[2] or "").split())
    return f"{{cite}}`{found[1]}`" + (f" ({note})" if note else "")


def _table(block: re.Match) -> str:
    """Turn a simple table of reStructuredText into one of Markdown."""
    rule, head, body = block["rule"], block["head"], block["body"]
    starts = [column.start() for column in re.finditer("=+", rule)]
    ends = [*starts[1:], None]
    rows = [
        [line[start:end].strip() for start, end in zip(starts, ends, strict=True)]
        for line in [head, *body.splitlines()]
    ]
    rows.insert(1, ["---"] * len(starts))
    return "\n".join(f"| {' | '.join(row)} |" for row in rows) + "\n"
