"""Start a chapter from the template: `python workflow/scripts/new_chapter.py NAME TITLE PAPER`."""

import argparse
import json
import re
import sys
from pathlib import Path

from pybtex.database import parse_file

TEMPLATE = Path(__file__).resolve().parents[1] / "templates/chapter"
TARGETS = {
    "claims.py": "lib/mergebook/papers/{name}.py",
    "index.md": "book/{name}/index.md",
    "main_table.ipynb": "notebooks/{name}/main_table.ipynb",
}
CONTENTS = """\
  - caption: {title}
    chapters:
      - file: book/{name}/index
        sections:
          - file: executed/{name}/main_table
"""
LAST_PART = "  - caption: Use the book\n"  # new parts come before it


def authors(bibliography: Path, key: str) -> str:
    """First author and year of an entry, as the verdicts name their source."""
    entries = parse_file(str(bibliography)).entries
    if key not in entries:
        raise ValueError(f"{bibliography} has no entry {key!r}")
    people = entries[key].persons["author"]
    first = " ".join(map(str, people[0].last_names))
    return f"{first}{' et al.' if len(people) > 1 else ''} {entries[key].fields['year']}"


def new_chapter(root: Path, name: str, title: str, paper: str) -> list[Path]:
    """Write a chapter's first files and its place in the contents; nothing if one exists.

    Parameters
    ----------
    root : Path
        Folder of the project.
    name : str
        Of the chapter's folders: lower-case letters, digits, underscores.
    title : str
        Heading of its page.
    paper : str
        Citation key of its paper in ``book/references.bib``.
    """
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        raise ValueError(f"{name!r} is no name of a chapter: lower-case letters, digits, _")
    source = authors(root / "book/references.bib", paper)
    words = {"CHAPTER": name, "TITLE": title, "PAPER": paper, "AUTHORS": source}
    # The claims' module has a variable of that name.
    placeholder = re.compile(r"\b(?:" + "|".join(words) + r")\b(?!\.claim| =)")
    targets = {template: root / path.format(name=name) for template, path in TARGETS.items()}
    for path in targets.values():
        if path.exists():
            raise ValueError(f"{path} exists")
    contents = root / "_toc.yml"
    order = contents.read_text(encoding="utf-8")
    if LAST_PART not in order:
        raise ValueError(f"{contents} has no line {LAST_PART.strip()!r}")
    part = CONTENTS.format(name=name, title=json.dumps(title, ensure_ascii=False))
    for template, path in targets.items():
        text = (TEMPLATE / template).read_text(encoding="utf-8")
        text = placeholder.sub(lambda match: words[match[0]], text)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    contents.write_text(order.replace(LAST_PART, part + LAST_PART), encoding="utf-8")
    return [*targets.values(), contents]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", help="of its folders, e.g. cart")
    parser.add_argument("title", help="heading of its page")
    parser.add_argument("paper", help="citation key in book/references.bib")
    args = parser.parse_args()
    try:
        paths = new_chapter(Path.cwd(), args.name, args.title, args.paper)
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    print(*paths, sep="\n")
