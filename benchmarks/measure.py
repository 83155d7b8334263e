"""How the project stands against its own limits: one table, printed.

What readers see of the notebooks' code, what the command line costs before it works, and how large
files and pages have become. Times are processor seconds, the least of `--repeats` calls. Pages are
those of the last `make book`. The times of `make book` and `make test` are those that they print.
"""

import argparse
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

from layout import code_cells, glue_calls, hidden_share, lines, long_lines
from mergebook.weights import save_checkpoint

ROOT = Path(__file__).resolve().parents[1]
COMMAND = [sys.executable, "-c", "import sys; from mergebook.cli import main; sys.exit(main())"]


def processor_seconds(arguments, repeats, status=0):
    """Least processor time of a call of the command line."""
    times = []
    for _ in range(repeats):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        run = subprocess.run([*COMMAND, *map(str, arguments)], capture_output=True, text=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        times.append(after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime)
        if run.returncode != status:
            raise SystemExit(f"{arguments[0]} ended with {run.returncode}: {run.stderr}")
    return min(times)


def of_notebooks():
    paths = sorted((ROOT / "notebooks").rglob("*.ipynb"))
    shares = {path.stem: hidden_share(code_cells(path)) for path in paths}
    cells = [cell for path in paths for cell in code_cells(path)]
    most = max(shares, key=shares.get)
    yield "notebook code that is hidden", hidden_share(cells), ".0%", 0.30
    yield f"... in one notebook ({most})", shares[most], ".0%", 0.45
    yield (
        f"lines of notebook code over 100 characters, of {len(lines(cells))}",
        len(long_lines(cells)),
        "d",
        0,
    )
    yield "longest line of notebook code, characters", max(map(len, lines(cells))), "d", 100
    yield "calls of glue in notebooks", glue_calls(cells), "d", 0


def of_commands(repeats):
    yield "mergebook methods, processor s", processor_seconds(["methods"], repeats), ".2f", 1
    with tempfile.TemporaryDirectory() as folder:
        # Its base is not there: all that the command does before it reads a file.
        expert = save_checkpoint({"w": torch.ones(3)}, Path(folder) / "one.safetensors")
        files = ["--base", Path(folder) / "base.safetensors", "--expert", f"one={expert}"]
        call = ["merge", "--method", "task_arithmetic", *files, "--out", Path(folder) / "merged"]
        seconds = processor_seconds(call, repeats, status=2)
        yield "mergebook merge before it reads, processor s", seconds, ".2f", 2


def of_files():
    def length(path):
        return len(path.read_text(encoding="utf-8").splitlines())

    library = ROOT / "lib" / "mergebook"
    methods = [path for path in (library / "methods").glob("*.py") if path.name != "__init__.py"]
    longest = max(library.rglob("*.py"), key=length)
    yield "lines of a file of methods, median", statistics.median(map(length, methods)), ".0f", 90
    yield f"lines of the longest file ({longest.relative_to(library)})", length(longest), "d", 300
    pages = list((ROOT / "_build" / "html").rglob("*.html"))
    if pages:
        heaviest = max(pages, key=lambda path: path.stat().st_size)
        size = heaviest.stat().st_size / 1e6
        yield f"heaviest of {len(pages)} pages ({heaviest.stem}), MB", size, ".2f", 1.5


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    rows = [*of_notebooks(), *of_commands(options.repeats), *of_files()]
    width = max(len(name) for name, *_ in rows)
    print(f"{'measured':{width}}  {'now':>7}  {'at most':>7}")
    for name, value, form, limit in rows:
        over = "" if value <= limit else "  over"
        print(f"{name:{width}}  {value:>7{form}}  {limit:>7{form}}{over}")


if __name__ == "__main__":
    main()
