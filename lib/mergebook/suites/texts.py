"""Stored texts: what a ``.jsonl`` or ``.csv`` file holds, perhaps packed with gzip."""

from __future__ import annotations

import csv
import gzip
import io
import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mergebook.errors import SuiteError, one_line, shown, unknown
from mergebook.suites.base import MOST_EXAMPLES, SPLITS
from mergebook.suites.splits import Part
from mergebook.suites.stored import Stored

ENDINGS = (".jsonl", ".jsonl.gz", ".csv", ".csv.gz")
FIELDS = ("text", "label", "split")
SYNONYMS = {"val": "validation", "dev": "validation", "valid": "validation"}
MOST_BYTES = 1 << 30  # of a file, unpacked
LONGEST = 100_000  # characters of a text


class Row(NamedTuple):
    """One example, and what errors call it."""

    where: str
    text: str
    label: object
    split: str


def read_texts(path: Path, class_names: Sequence[str] | None = None) -> Stored:
    """Read a task that is stored as texts.

    Parameters
    ----------
    path : Path
        JSON lines, or comma-separated values with a header, in UTF-8, perhaps packed with gzip;
        of each example ``text``, ``label`` and, if examples are split, ``split`` (``train``,
        ``validation``, also called ``val``, ``dev`` or ``valid``, or ``test``; ``train`` if it is
        not given). Other fields are ignored.
    class_names : sequence of str, optional
        In label order. Labels are their places, counted from 0, or the names themselves. If not
        given, labels must be texts, and are the classes in sorted order.

    Raises
    ------
    SuiteError
        A file that cannot be read, a text that is missing, empty or too long, a label that is no
        class, a split that is none. Names file and line.
    """
    rows = list(_rows(path))
    if not rows:
        raise SuiteError(f"{path}: holds no texts")
    if class_names is None:
        names = sorted({row.label for row in rows if isinstance(row.label, str)})
        odd = next((row for row in rows if not isinstance(row.label, str)), None)
        if odd is not None:
            raise SuiteError(f"{odd.where}: label {shown(odd.label)}: list the class_names")
    else:
        names = list(class_names)
    places = {name: place for place, name in enumerate(names)}
    found: dict[str, tuple[list[str], list[int]]] = {}
    for row in rows:
        texts, labels = found.setdefault(row.split, ([], []))
        texts.append(row.text)
        labels.append(_label(row, places))
    if "train" not in found:
        raise SuiteError(f"{path}: has {', '.join(sorted(found))} but no split 'train'")
    parts = {
        split: Part(np.array(found[split][1], np.int64), _reader(found[split][0]))
        for split in SPLITS
        if split in found
    }
    stored = tuple(names) if class_names is None else None
    return Stored(stored, parts, path, (path,), "text")


def _reader(texts: list[str]):
    array = np.array(texts, object)
    return lambda index: array[index]


def _label(row: Row, places: Mapping[str, int]) -> int:
    label = row.label
    if isinstance(label, str) and label not in places and label.isdecimal():
        label = int(label)  # of a CSV, where all is text
    if isinstance(label, str):
        if label not in places:
            raise SuiteError(f"{row.where}: {unknown('class', label, places)}")
        return places[label]
    if not isinstance(label, int) or isinstance(label, bool) or not 0 <= label < len(places):
        raise SuiteError(
            f"{row.where}: label {shown(label)} is no class; {len(places)} classes are counted "
            "from 0"
        )
    return label


def _rows(path: Path) -> Iterator[Row]:
    read = _json_lines if ".jsonl" in path.suffixes else _csv_lines
    for number, values in read(path, _content(path)):
        where = f"{path}, line {number}"
        if number > MOST_EXAMPLES:
            raise SuiteError(f"{where}: more than {MOST_EXAMPLES:,} lines")
        text, label, split = (values.get(field) for field in FIELDS)
        if not isinstance(text, str) or not text.strip():
            raise SuiteError(f"{where}: text is {shown(text)}; must be a text that is not empty")
        if len(text) > LONGEST:
            raise SuiteError(f"{where}: text is longer than {LONGEST:,} characters")
        if label is None or label == "":
            raise SuiteError(f"{where}: has no label")
        split = "train" if split in (None, "") else split
        split = SYNONYMS.get(split, split) if isinstance(split, str) else split
        if split not in SPLITS:
            raise SuiteError(f"{where}: {unknown('split', split, SPLITS)}")
        yield Row(where, text, label, split)


def _content(path: Path) -> str:
    """The whole text of a file, within bounds."""
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            raw = file.read(MOST_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise SuiteError(f"{path}: cannot be read ({one_line(error)})") from error
    if len(raw) > MOST_BYTES:
        raise SuiteError(f"{path}: more than {MOST_BYTES:,} bytes")
    try:
        return raw.decode("utf-8-sig")  # spreadsheets begin with a mark
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise SuiteError(
            f"{path}, line {line}: not UTF-8; save the file in this encoding"
        ) from None


def _json_lines(path: Path, content: str) -> Iterator[tuple[int, dict]]:
    for number, line in enumerate(content.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            values = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise SuiteError(f"{path}, line {number}: no JSON ({one_line(error)})") from error
        if not isinstance(values, dict):
            raise SuiteError(f"{path}, line {number}: must be an object, is {shown(values)}")
        yield number, values


def _csv_lines(path: Path, content: str) -> Iterator[tuple[int, dict]]:
    reader = csv.DictReader(io.StringIO(content, newline=""))
    missing = [field for field in FIELDS[:2] if field not in (reader.fieldnames or ())]
    if missing:
        raise SuiteError(
            f"{path}, line 1: no column {' and no column '.join(missing)}; columns are "
            f"{', '.join(reader.fieldnames or ['none'])}"
        )
    try:
        for values in reader:
            yield reader.line_num, values
    except csv.Error as error:
        raise SuiteError(f"{path}, line {reader.line_num}: no CSV ({one_line(error)})") from error
