"""Say what a chapter still needs, one line each with its place: check_chapter.py NAME."""

import re
import sys
from collections.abc import Iterator
from pathlib import Path

try:
    from mergebook.claims import Chapter, load_claims
    from mergebook.errors import MergebookError
    from mergebook.notebooks import find_notebooks
    from mergebook.paths import project_dir
    from mergebook.report.measured import list_measured
except ModuleNotFoundError as error:
    sys.exit(
        f"error: this Python has no {error.name}. `make book` makes the environment; "
        "`source .venv/bin/activate` enters it"
    )

MARK = "TO WRITE"  # what the template leaves to the author


def hints(text: str) -> Iterator[tuple[int, str]]:
    """Number of each line with a hint of the template that still stands, and the hint."""
    for number, line in enumerate(text.splitlines(), start=1):
        if MARK in line:
            yield number, line.partition(MARK)[2].strip(" :|*")


def unwritten(root: Path, name: str, pages: list[str]) -> Iterator[str]:
    """Places where the template's hints still stand."""
    claims = [*root.glob(f"lib/mergebook/papers/{name}.py")]
    claims += sorted(root.glob(f"lib/mergebook/papers/{name}/*.py"))
    for path in (*claims, root / "book" / name / "index.md"):
        for line, hint in hints(path.read_text(encoding="utf-8")):
            yield f"{path.relative_to(root).as_posix()}:{line}: write: {hint}"
    notebooks = find_notebooks(root)
    for page in pages:
        for number, cell in enumerate(notebooks[page].cells, start=1):
            for _, hint in hints(cell["source"]):
                yield f"notebooks/{page}.ipynb, cell {number}: write: {hint}"


def out_of_order(root: Path, chapter: Chapter, pages: list[str]) -> Iterator[str]:
    """Pages, claims and contents that do not know each other."""
    yield from chapter.homeless(pages)
    order = (root / "_toc.yml").read_text(encoding="utf-8")
    tested = {claim.notebook for claim in chapter.values()}
    notebooks = find_notebooks(root)
    for page in pages:
        if not re.search(rf"executed/{page}\s", order):
            yield f"_toc.yml: no line `- file: executed/{page}`, so that nobody finds the page"
        judges = any("page.verdicts(" in c["source"] for c in notebooks[page].cells)
        if judges and page not in tested:
            own = Path(page).name
            yield f'notebooks/{page}.ipynb: shows verdicts, but no claim has page="{own}"'


def left(root: Path, name: str) -> list[str]:
    """All that a chapter still needs."""
    chapter = load_claims(name)
    pages = [page for page in find_notebooks(root) if page.startswith(f"{name}/")]
    return [*unwritten(root, name, pages), *out_of_order(root, chapter, pages)]


def advice(name: str) -> str:
    """What comes after writing."""
    if any(f"/{name}/" in f"/{table}" for table in list_measured()):
        return "Next: `make test`."
    return (
        "Next: `make smoke` shows the page with this build's verdicts. No run is committed yet: "
        f"after `make book PROFILE=full`, `python workflow/scripts/keep_run.py full "
        f"{name}/main_table` keeps one."
    )


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: check_chapter.py NAME")
    try:
        flaws = left(project_dir(), sys.argv[1])
    except (OSError, MergebookError) as error:
        sys.exit(f"error: {error}")
    print(*flaws, sep="\n", end="\n" if flaws else "")
    if flaws:
        sys.exit(f"{len(flaws)} left")
    print("Nothing is left to write.", advice(sys.argv[1]))
