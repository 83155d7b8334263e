"""Keep tables of a long run with the book: `keep_run.py full tall_masks/main_table:claims`."""

import argparse
import sys
from pathlib import Path

import pandas as pd


def keep(root: Path, run: str, notebook: str, tables: list[str]) -> list[Path]:
    """Copy result tables to ``data/measured/<run>``; rows of variants follow those of the run.

    Parameters
    ----------
    root : Path
        Folder of the project, whose ``results`` a build has filled.
    run : str
        Name of the run, e.g. its profile.
    notebook : str
        Such as ``"tall_masks/main_table"``.
    tables : list of str
        Names of tables; all of the notebook's if empty.
    """
    folders = [root / "results", *sorted((root / "results/variants").glob("*"))]
    folders = [folder / notebook for folder in folders if (folder / notebook).is_dir()]
    if not folders:
        raise ValueError(f"{root / 'results' / notebook}: no results")
    names = tables or sorted(path.stem for path in folders[0].glob("*.csv"))
    frames = {}
    for name in names:
        paths = [folder / f"{name}.csv" for folder in folders]
        absent = [str(path) for path in paths if not path.is_file()]
        if absent:
            raise ValueError(f"no table {', '.join(absent)}")
        frames[name] = pd.concat(map(pd.read_csv, paths), ignore_index=True)
    kept = []
    for name, frame in frames.items():
        path = root / "data/measured" / run / notebook / f"{name}.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        frame.to_csv(path, index=False, float_format="%.6g")
        kept.append(path)
    return kept


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", help="name of the run, e.g. full")
    parser.add_argument("notebooks", nargs="+", help="NOTEBOOK or NOTEBOOK:TABLE,TABLE")
    args = parser.parse_args()
    try:
        for each in args.notebooks:
            notebook, _, tables = each.partition(":")
            names = [name for name in tables.split(",") if name]
            print(*keep(Path.cwd(), args.run, notebook, names), sep="\n")
    except ValueError as error:
        sys.exit(f"error: {error}")
