"""Start a chapter from the template: `python workflow/scripts/new_chapter.py NAME TITLE PAPER`."""

import argparse
import re
import sys
from pathlib import Path

from pybtex.database import parse_file

TEMPLATE = Path(__file__).resolve().parents[1] / "templates/chapter"
TARGETS = {
    "claims.yaml": "data/claims/{name}.yaml",
    "index.md": "book/{name}/index.md",
    "main_table.ipynb": "notebooks/{name}/main_table.ipynb",
}
CONTENTS = """\
Add to _toc.yml:

      - file: book/{name}/index
        sections:
          - file: executed/{name}/main_table
"""


def authors(bibliography: Path, key: str) -> str:
    """First author and year of an entry, as the verdicts name their source."""
    entries = parse_file(str(bibliography)).entries
    if key not in entries:
        raise ValueError(f"{bibliography} has no entry {key!r}")
    people = entries[key].persons["author"]
    first = " ".join(map(str, people[0].last_names))
    return f"{first}{' et al.' if len(people) > 1 else ''} {entries[key].fields['year']}"


def new_chapter(root: Path, name: str, title: str, paper: str) -> list[Path]:
    """Write a chapter's first files; nothing is written if one of them exists.

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
    targets = {template: root / path.format(name=name) for template, path in TARGETS.items()}
    for path in targets.values():
        if path.exists():
            raise ValueError(f"{path} exists")
    for template, path in targets.items():
        text = (TEMPLATE / template).read_text(encoding="utf-8")
        text = re.sub("|".join(words), lambda match: words[match[0]], text)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return list(targets.values())


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
    print(CONTENTS.format(name=args.name))
