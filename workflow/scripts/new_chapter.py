"""Start a chapter from the template, or a page of one.

new_chapter.py NAME TITLE PAPER: the claims, the first page and the main table.
new_chapter.py NAME/PAGE TITLE: a further notebook.
"""

import argparse
import json
import keyword
import re
import sys
from pathlib import Path

try:
    from pybtex.database import Entry, parse_file

    from mergebook.claims import load_claims
    from mergebook.errors import MergebookError, unknown
    from mergebook.paths import project_dir
except ModuleNotFoundError as error:
    sys.exit(
        f"error: this Python has no {error.name}. `make book` makes the environment; "
        "`source .venv/bin/activate` enters it"
    )

TEMPLATE = Path(__file__).resolve().parents[1] / "templates/chapter"
NOTEBOOK = "main_table.ipynb"
TARGETS = {
    "claims.py": "lib/mergebook/papers/{name}.py",
    "index.md": "book/{name}/index.md",
    NOTEBOOK: "notebooks/{name}/main_table.ipynb",
}
CONTENTS = """\
  - caption: {title}
    chapters:
      - file: book/{name}/index
        sections:
          - file: executed/{name}/main_table
"""
LAST_PART = "  - caption: Use the book\n"  # new parts come before it
TAKEN = ("methods", "variants")  # folders that the build fills
ENTRY = """@misc{{{key},
  title         = {{...}},
  author        = {{Last, First and Last, First}},
  year          = {{...}},
  eprint        = {{{eprint}}},
  archiveprefix = {{arXiv}}
}}"""


def find_entry(bibliography: Path, paper: str) -> tuple[str, Entry]:
    """Citation key and entry of a paper that is named by its key or its arXiv number."""
    if not bibliography.is_file():
        raise ValueError(f"no {bibliography}; call this in the project's folder")
    entries = parse_file(str(bibliography)).entries
    numbers = {entry.fields.get("eprint"): key for key, entry in entries.items()}
    key = numbers.get(paper, paper)
    if key in entries:
        return key, entries[key]
    number = re.fullmatch(r"\d{4}\.\d{4,5}", paper)
    stub = ENTRY.format(key="author2024word" if number else paper, eprint=paper if number else "")
    problem = unknown("entry", paper, entries).partition(" Choose from")[0]
    raise ValueError(f"{bibliography}: {problem}\nTo add one:\n{stub}")


def authors(entry: Entry) -> str:
    """First author and year of an entry, as the verdicts name their source."""
    people = entry.persons["author"]
    first = " ".join(map(str, people[0].last_names))
    return f"{first}{' et al.' if len(people) > 1 else ''} {entry.fields['year']}"


def check_name(name: str, kind: str = "chapter") -> None:
    """Refuse what cannot be a module and a folder of its own."""
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or keyword.iskeyword(name):
        raise ValueError(
            f"{name!r} is no name of a {kind}: lower-case letters, digits, _, no word of Python"
        )
    if name in TAKEN:
        raise ValueError(f"{name!r} is no name of a {kind}: the build has a folder of that name")


def filled(template: str, words: dict[str, str]) -> str:
    """A template's text with its placeholders replaced; those of a notebook in JSON's spelling."""
    text = (TEMPLATE / template).read_text(encoding="utf-8")
    if template == NOTEBOOK:
        words = {word: json.dumps(new, ensure_ascii=False)[1:-1] for word, new in words.items()}
    # The claims' module has a variable of the name CHAPTER.
    placeholder = re.compile(r"\b(?:" + "|".join(words) + r")\b(?!\.claim|\.printed| =)")
    return placeholder.sub(lambda match: words[match[0]], text)


def write(texts: dict[Path, str], contents: Path, order: str) -> list[Path]:
    """Write new files, then the contents."""
    for path, text in texts.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    contents.write_text(order, encoding="utf-8")
    return [*texts, contents]


def refuse_existing(*paths: Path) -> None:
    for path in paths:
        if path.exists():
            raise ValueError(f"{path} exists")


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
        Its paper in ``book/references.bib``: citation key or arXiv number.
    """
    check_name(name)
    targets = {template: root / path.format(name=name) for template, path in TARGETS.items()}
    refuse_existing(*targets.values(), root / "notebooks" / name)
    key, entry = find_entry(root / "book/references.bib", paper)
    contents = root / "_toc.yml"
    order = contents.read_text(encoding="utf-8")
    if LAST_PART not in order:
        raise ValueError(f"{contents} has no line {LAST_PART.strip()!r}")
    part = CONTENTS.format(name=name, title=json.dumps(title, ensure_ascii=False))
    words = {"CHAPTER": name, "TITLE": title, "PAPER": key, "AUTHORS": authors(entry)}
    words |= {"PAGE": "main_table", "HEADING": "The main table"}
    texts = {path: filled(template, words) for template, path in targets.items()}
    return write(texts, contents, order.replace(LAST_PART, part + LAST_PART))


def new_page(root: Path, chapter: str, page: str, title: str) -> list[Path]:
    """Write a chapter's further notebook and its place in the contents.

    Parameters
    ----------
    root : Path
        Folder of the project.
    chapter : str
        Of which the claims are there.
    page : str
        Name of the notebook, which claims give as ``page``.
    title : str
        Its heading.
    """
    check_name(page, "page")
    path = root / f"notebooks/{chapter}/{page}.ipynb"
    refuse_existing(path)
    paper = load_claims(chapter).paper
    contents = root / "_toc.yml"
    order = contents.read_text(encoding="utf-8")
    *_, last = [None, *re.finditer(rf"^( *- file: )executed/{chapter}/\w+\n", order, re.MULTILINE)]
    if last is None:
        raise ValueError(f"{contents} has no page of {chapter!r} after which to put this one")
    words = {"CHAPTER": chapter, "PAGE": page, "HEADING": title, "PAPER": paper}
    line = f"{last[1]}executed/{chapter}/{page}\n"
    order = order[: last.end()] + line + order[last.end() :]
    return write({path: filled(NOTEBOOK, words)}, contents, order)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("name", help="of its folders, e.g. cart; or of a page, e.g. cart/rank")
    parser.add_argument("title", help="heading of its page")
    parser.add_argument(
        "paper", nargs="?", help="of a chapter: key in book/references.bib, or arXiv number"
    )
    args = parser.parse_args()
    chapter, is_page, page = args.name.partition("/")
    if bool(is_page) == bool(args.paper):
        parser.error("a chapter takes NAME TITLE PAPER, a page NAME/PAGE TITLE")
    try:
        if is_page:
            paths = new_page(project_dir(), chapter, page, args.title)
        else:
            paths = new_chapter(project_dir(), chapter, args.title, args.paper)
    except (ValueError, OSError, MergebookError) as error:
        sys.exit(f"error: {error}")
    print(*paths, sep="\n")
    print(f"Next: python workflow/scripts/check_chapter.py {chapter} lists what is left to write.")
