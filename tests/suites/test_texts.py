"""Suites of stored texts: what is read, and what is refused with file and line."""

import csv
import gzip
import json

import numpy as np
import pytest
import yaml

from mergebook.errors import SuiteError
from mergebook.suites import SPLITS, load_suite
from mergebook.suites import texts as texts_module
from mergebook.suites.texts import read_texts

NAMES = ["cat", "dog", "red fox"]


def example(number, **changes):
    """The label of an example is its number modulo 3; splits are 30, 9 and 12 long."""
    split = "train" if number < 30 else "val" if number < 39 else "test"
    return {"text": f"This is text {number}.", "label": number % 3, "split": split} | changes


def write_json(path, rows=None, packed=False):
    lines = [json.dumps(row) for row in (map(example, range(51)) if rows is None else rows)]
    raw = ("\n".join(lines) + "\n").encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(raw) if packed else raw)
    return path


def write_csv(path, rows):
    with path.open("w", encoding="utf-8-sig", newline="") as file:  # as a spreadsheet saves it
        writer = csv.DictWriter(file, ["split", "text", "label", "remark"])
        writer.writeheader()
        writer.writerows(rows)
    return path


def described(folder, **task):
    settings = {"texts": ".", "tasks": [{"name": "pets", "class_names": NAMES} | task]}
    (folder / "suite.yaml").write_text(yaml.safe_dump(settings))
    return load_suite(str(folder))


@pytest.mark.parametrize("ending", [".jsonl", ".jsonl.gz", ".csv"])
def test_a_file_is_a_task(ending, tmp_path):
    if ending == ".csv":
        write_csv(tmp_path / "pets.csv", map(example, range(51)))
    else:
        write_json(tmp_path / f"pets{ending}", packed=ending.endswith("gz"))
    task = described(tmp_path)["pets"]
    assert (task.modality, task.class_names) == ("text", tuple(NAMES))
    assert task.templates == ("This text is about {}.",)
    assert task.sizes == {"train": 30, "validation": 9, "test": 12}
    for split in SPLITS:
        found, labels = task.examples(split)
        assert found.dtype == object and labels.dtype == np.int64
        numbers = [int(text.split()[-1][:-1]) for text in found]
        assert labels.tolist() == [number % 3 for number in numbers]
        first = {"train": 0, "validation": 30, "test": 39}[split]
        assert sorted(numbers) == list(range(first, first + task.sizes[split]))
    again = described(tmp_path)["pets"].examples("train", seed=4)
    assert set(again.inputs) == set(task.examples("train").inputs)
    assert again.inputs.tolist() != task.examples("train").inputs.tolist()


def test_labels_may_be_names_and_need_no_list(tmp_path):
    rows = [example(n, label=NAMES[n % 3]) for n in range(51)]
    write_json(tmp_path / "pets.jsonl", rows)
    suite = load_suite(str(tmp_path))  # no description at all
    assert suite["pets"].class_names == ("cat", "dog", "red fox")
    _, labels = suite["pets"].examples("test")
    assert sorted(labels.tolist()) == sorted(n % 3 for n in range(39, 51))
    listed = described(tmp_path, class_names=["dog", "red fox", "cat"])["pets"]
    one = listed.examples("test", 1)
    number = int(one.inputs[0].split()[-1][:-1])
    assert listed.class_names[one.labels[0]] == NAMES[number % 3]


def test_splits_are_cut_where_there_are_none(tmp_path):
    rows = [{"text": f"t {n}", "label": n % 2} for n in range(100)]
    write_json(tmp_path / "pets.jsonl", rows)
    task = described(tmp_path, class_names=["a", "b"])["pets"]
    assert task.sizes == {"test": 20, "validation": 40, "train": 40}
    found = [text for split in SPLITS for text in task.examples(split).inputs]
    assert sorted(found) == sorted(row["text"] for row in rows)


def test_a_changed_text_or_name_changes_the_fingerprint(tmp_path):
    write_json(tmp_path / "pets.jsonl")
    first = described(tmp_path)["pets"].fingerprint()
    assert described(tmp_path)["pets"].fingerprint() == first
    assert described(tmp_path, templates=["{}"])["pets"].fingerprint() != first
    rows = [example(n, text="other") if n == 7 else example(n) for n in range(51)]
    write_json(tmp_path / "pets.jsonl", rows)
    assert described(tmp_path)["pets"].fingerprint() != first


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"label": 3}, "label 3 is no class; 3 classes are counted from 0"),
        ({"label": -1}, "label -1 is no class"),
        ({"label": 1.0}, "label 1.0 is no class"),
        ({"label": True}, "label True is no class"),
        ({"label": "wolf"}, "unknown class 'wolf'.*cat, dog, red fox"),
        ({"label": "dgo"}, "unknown class 'dgo'; did you mean 'dog'"),
        ({"label": None}, "has no label"),
        ({"text": ""}, "text is ''; must be a text that is not empty"),
        ({"text": " \n\t"}, "must be a text that is not empty"),
        ({"text": None}, "text is None"),
        ({"text": ["a"]}, r"text is \['a'\]"),
        ({"text": "x" * 100_001}, "longer than 100,000 characters"),
        ({"split": "tets"}, "unknown split 'tets'; did you mean 'test'"),
        ({"split": 3}, "unknown split 3"),
    ],
)
def test_bad_examples_are_named_by_file_and_line(change, message, tmp_path):
    rows = [example(n, **(change if n == 16 else {})) for n in range(51)]
    path = write_json(tmp_path / "pets.jsonl", rows)
    with pytest.raises(SuiteError, match=rf"{path}, line 17: .*{message}"):
        described(tmp_path)


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"", r"pets\.jsonl: holds no texts"),
        (b"\n\n", "holds no texts"),
        (b'{"text": "a", "label": 0}\nnothing\n', "line 2: no JSON"),
        (b"[1]\n", r"line 1: must be an object, is \[1\]"),
        ('{"text": "a", "label": 0}\n{"text": "ä", "label": 0}'.encode("latin-1"),
         "line 2: not UTF-8"),
        (json.dumps(example(0)).encode("utf-16"), "line 1: not UTF-8"),
        (json.dumps(example(0, split="test")).encode(), "has test but no split 'train'"),
        (b"[" * 200_000, "line 1: no JSON"),
    ],
)  # fmt: skip
def test_bad_files_are_named(raw, message, tmp_path):
    (tmp_path / "pets.jsonl").write_bytes(raw)
    with pytest.raises(SuiteError, match=message):
        described(tmp_path)


def test_bad_csv_files_are_named(tmp_path):
    (tmp_path / "pets.csv").write_text("text;label\na;0\n")
    with pytest.raises(SuiteError, match="line 1: no column text and no column label; columns are"):
        described(tmp_path)
    write_csv(tmp_path / "pets.csv", [example(n, label="7" if n == 3 else 0) for n in range(9)])
    with pytest.raises(SuiteError, match="line 5: label 7 is no class"):
        described(tmp_path)
    (tmp_path / "pets.csv").write_text('text,label\n"' + "x" * 140_000 + '",0\n')
    with pytest.raises(SuiteError, match=r"line 1: no CSV|longer than"):
        described(tmp_path)


def test_bad_packing_is_named(tmp_path):
    path = write_json(tmp_path / "pets.jsonl.gz", packed=True)
    whole = path.read_bytes()
    for raw in (b"no gzip", whole[:-30], whole[:40] + b"\0" * 20 + whole[60:]):
        path.write_bytes(raw)
        with pytest.raises(SuiteError, match=r"pets\.jsonl\.gz: cannot be read"):
            described(tmp_path)


def test_files_are_read_within_bounds(tmp_path, monkeypatch):
    write_json(tmp_path / "pets.jsonl")
    monkeypatch.setattr(texts_module, "MOST_BYTES", 1000)
    with pytest.raises(SuiteError, match="more than 1,000 bytes"):
        described(tmp_path)
    monkeypatch.setattr(texts_module, "MOST_BYTES", 10**6)
    monkeypatch.setattr(texts_module, "MOST_EXAMPLES", 20)
    with pytest.raises(SuiteError, match="line 21: more than 20 lines"):
        described(tmp_path)


def test_numbers_need_class_names_and_kinds_are_not_mixed(tmp_path):
    path = write_json(tmp_path / "pets.jsonl")
    with pytest.raises(SuiteError, match=r"line 1: label 0: list the class_names"):
        read_texts(path)
    settings = {"images": ".", "texts": "."}
    (tmp_path / "suite.yaml").write_text(yaml.safe_dump(settings))
    with pytest.raises(SuiteError, match="images and texts; keep one"):
        load_suite(str(tmp_path))
    images = np.zeros((60, 8, 8, 1), np.uint8)
    arrays = {"images": images, "labels": np.arange(60) % 3, "class_names": np.array(NAMES)}
    np.savez(tmp_path / "photos.npz", **arrays)
    tasks = ["photos", {"name": "pets", "class_names": NAMES}]
    (tmp_path / "suite.yaml").write_text(yaml.safe_dump({"tasks": tasks}))
    with pytest.raises(SuiteError, match="some tasks have images and others texts"):
        load_suite(str(tmp_path))


def test_the_texts_that_ship():
    suite = load_suite("text8")
    assert len(suite) == 8 and suite.source == "text8"
    for task in suite:
        sets = {split: task.examples(split) for split in SPLITS}
        assert {split: len(own) for split, own in sets.items()} == task.sizes
        every = [text.lower() for own in sets.values() for text in own.inputs]
        assert len(set(every)) == len(every)  # none stands in two splits
        assert max(map(len, every)) <= 400
        for own in sets.values():
            assert set(own.labels) == set(range(len(task.class_names)))
        assert task.description and task.title
    assert [len(task.class_names) for task in suite] == [77, 150, 7, 14, 5, 5, 3, 2]
    assert suite["clinc150"].class_names.index("no") >= 0  # no false of YAML's
