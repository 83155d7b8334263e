"""Suites from folders: what is read, how it is split, what is refused, what is trained again."""

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from mergebook.errors import SuiteError
from mergebook.evaluation import Benchmark
from mergebook.paths import data_dir
from mergebook.suites import SPLITS, load_suite
from mergebook.suites.splits import Cuts, Part, spread
from mergebook.training import FinetuneRecipe, finetune_experts
from mergebook.weights import Checkpoint

TINY = FinetuneRecipe(steps=1, warmup=1, batch_size=4, train_size=16)
CLASSES = ["cat", "dog", "red_fox"]


def numbered(first: int, count: int, shape=(8, 8, 1)) -> np.ndarray:
    """Images that carry their number in their first two pixels, so that they can be told apart."""
    images = np.zeros((count, *shape), np.uint8)
    numbers = np.arange(first, first + count)
    images[:, 0, 0], images[:, 0, 1] = (numbers // 256)[:, None], (numbers % 256)[:, None]
    return images


def numbers(images: np.ndarray) -> list[int]:
    return (256 * images[:, 0, 0, 0].astype(int) + images[:, 0, 1, 0]).tolist()


def write_npz(path, train=40, test=12, **changes):
    """A task of three classes; the label of an image is its number modulo 3."""
    arrays = {
        "train_images": numbered(0, train),
        "train_labels": np.arange(train) % 3,
        "test_images": numbered(1000, test),
        "test_labels": (1000 + np.arange(test)) % 3,
        "class_names": np.array(CLASSES),
    }
    arrays = {key: value for key, value in {**arrays, **changes}.items() if value is not None}
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, **arrays)
    return path


def describe(folder, **settings):
    (folder / "suite.yaml").write_text(yaml.safe_dump(settings, sort_keys=False))
    return load_suite(str(folder))


def paint(path, colour, size=(8, 8), mode="RGB"):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, colour).save(path)


@pytest.fixture
def pets(tmp_path):
    """A folder of two tasks and nothing else."""
    folder = tmp_path / "pets"
    write_npz(folder / "indoors.npz")
    write_npz(folder / "garden.npz", train=200)
    return folder


def test_arrays_need_no_description(pets):
    suite = load_suite(str(pets))
    assert (suite.name, suite.names, suite.source) == ("pets", ("garden", "indoors"), str(pets))
    task = suite["indoors"]
    assert task.title == "Indoors"
    assert task.class_names == ("cat", "dog", "red fox")
    assert task.templates[0] == "a photo of a {}."
    assert task.sizes == {"train": 20, "validation": 20, "test": 12}  # half of 40 at most
    assert suite["garden"].sizes == {"train": 150, "validation": 50, "test": 12}  # 50 at least
    for split in SPLITS:
        images, labels = task.examples(split)
        assert images.shape == (task.sizes[split], 8, 8, 3) and images.dtype == np.uint8
        assert labels.dtype == np.int64
        assert labels.tolist() == [number % 3 for number in numbers(images)]
        assert (images[..., 1:] == images[..., :1]).all()  # grey in three channels
    assert task.samples(2).labels.tolist() == [0, 1, 2] * 2


def test_splits_are_disjoint_and_whole(pets):
    task = load_suite(str(pets))["garden"]
    train, validation, test = (numbers(task.examples(split).inputs) for split in SPLITS)
    assert sorted(train + validation) == list(range(200))
    assert sorted(test) == list(range(1000, 1012))


def test_seed_orders_and_size_takes_the_first(pets):
    task = load_suite(str(pets))["garden"]
    for split in SPLITS:
        whole = numbers(task.examples(split, seed=5).inputs)
        assert numbers(task.examples(split, 7, seed=5).inputs) == whole[:7]
        other = numbers(task.examples(split, seed=6).inputs)
        assert other != whole and sorted(other) == sorted(whole)
    again = load_suite(str(pets))["garden"]
    assert all(
        (a == b).all() for a, b in zip(task.examples("train"), again.examples("train"), strict=True)
    )


def test_more_images_than_there_are(pets):
    task = load_suite(str(pets))["indoors"]
    assert task.at_most("test", 500) == 12 and task.at_most("test", 5) == 5
    with pytest.raises(SuiteError, match="'indoors': test has 12 images, 13 were asked for"):
        task.examples("test", 13)
    assert load_suite("mini", 1).tasks[0].at_most("train", 5000) == 5000


def test_one_array_is_cut_in_three(tmp_path):
    images, labels = numbered(0, 100), np.arange(100) % 3
    parts = {key: None for key in ("train_images", "train_labels", "test_images", "test_labels")}
    write_npz(tmp_path / "all.npz", images=images, labels=labels, **parts)
    assert load_suite(str(tmp_path))["all"].sizes == {"test": 20, "validation": 40, "train": 40}
    task = describe(tmp_path, splits={"validation": 0.1, "test": 30})["all"]
    assert task.sizes == {"test": 30, "validation": 7, "train": 63}
    train, validation, test = (numbers(task.examples(split).inputs) for split in SPLITS)
    assert sorted(train + validation + test) == list(range(100))
    other = describe(tmp_path, splits={"validation": 0.1, "test": 30, "seed": 1})["all"]
    assert set(numbers(other.examples("test").inputs)) != set(test)


def test_own_validation_images_are_kept(tmp_path):
    own = {"validation_images": numbered(2000, 9), "validation_labels": np.arange(9) % 3}
    write_npz(tmp_path / "all.npz", **own)
    task = load_suite(str(tmp_path))["all"]
    assert task.sizes == {"train": 40, "validation": 9, "test": 12}
    assert sorted(numbers(task.examples("validation").inputs)) == list(range(2000, 2009))


sizes = st.none() | st.integers(1, 30) | st.floats(0.05, 0.9)


@given(st.lists(st.integers(0, 4), min_size=3, max_size=60), sizes, sizes, st.integers(0, 9))
def test_cuts_part_the_images(labels, validation, test, seed):
    part = Part(np.array(labels), lambda index: index)
    try:
        found = Cuts(validation, test, seed).apply({"train": part})
    except SuiteError as error:
        assert "no examples are left for" in str(error)
        return
    chosen = [index for _, index in found.values()]
    assert sorted(np.concatenate(chosen)) == list(range(len(labels))) and all(map(len, chosen))
    rest = len(labels)
    for split, asked in (("test", test), ("validation", validation)):
        if asked is not None:
            expected = asked if isinstance(asked, int) else round(asked * rest)
            assert len(found[split][1]) == expected
        rest -= len(found[split][1])


@given(st.lists(st.integers(0, 4), min_size=1, max_size=80), st.integers(0, 9))
def test_first_images_hold_the_classes_in_proportion(labels, seed):
    labels = np.array(labels)
    order = spread(labels, seed)
    assert sorted(order) == list(range(len(labels)))
    classes, counts = np.unique(labels, return_counts=True)
    for size in range(1, len(labels) + 1):
        for label, count in zip(classes, counts, strict=True):
            share = count / len(labels)
            found = (labels[order[:size]] == label).sum()
            assert abs(found - size * share) <= 1 + len(classes) * share


def test_description(tmp_path):
    folder = tmp_path / "given"
    write_npz(tmp_path / "images" / "a.npz")
    write_npz(tmp_path / "images" / "other.npz", class_names=None)
    suite = describe(
        folder_at(folder),
        name="zoo",
        description="what it is",
        images="../images",
        templates="one {}",
        splits={"validation": 4},
        tasks=[
            {"name": "b", "file": "other.npz", "class_names": ["x", 1, "z"], "title": "Bee",
             "templates": ["a {}", "the {}"], "splits": {"validation": 0.25}, "licence": "CC0",
             "source": "here", "description": "Bees.", "counterpart": "Cars"},
            {"name": "a", "class_names": {"dog": "hound", "cat": "tom", "red_fox": "vixen"}},
        ],
    )  # fmt: skip
    assert (suite.name, suite.names) == ("zoo", ("b", "a"))
    one, two = suite
    assert (one.title, one.description, one.counterpart) == ("Bee", "Bees.", "Cars")
    assert one.templates == ("a {}", "the {}") and two.templates == ("one {}",)
    assert one.class_names == ("x", "1", "z") and two.class_names == ("tom", "hound", "vixen")
    assert one.sizes["validation"] == 10 and two.sizes["validation"] == 4
    assert suite.first(1).source == suite.select(["a"]).source == str(folder)


def folder_at(path):
    path.mkdir(parents=True, exist_ok=True)
    return path


def test_images_may_lie_where_the_environment_says(tmp_path, monkeypatch):
    write_npz(tmp_path / "far" / "zoo" / "a.npz")
    folder = folder_at(tmp_path / "near")
    monkeypatch.setenv("MERGEBOOK_DATA", str(tmp_path / "far"))
    assert describe(folder, images="$MERGEBOOK_DATA/zoo").names == ("a",)
    monkeypatch.delenv("MERGEBOOK_DATA")
    with pytest.raises(SuiteError, match=r"suite\.yaml: images.*variable MERGEBOOK_DATA is not"):
        load_suite(str(folder))


def test_image_files_with_and_without_splits(tmp_path):
    for number, colour in enumerate(["red", "blue", "green", "black"] * 2):
        paint(tmp_path / "flat" / f"class_{number % 2}" / f"{number}.png", colour, (16, 16))
    for split, count in (("train", 5), ("test", 2)):
        for number in range(count):
            for name, colour in (("dark", 30), ("light", 220)):
                paint(tmp_path / "parted" / split / name / f"{number}.jpg", colour, mode="L")
    (tmp_path / "parted" / "train" / "dark" / ".hidden").write_text("ignored")
    suite = describe(tmp_path, image_size=8, splits={"validation": 1, "test": 2})
    assert suite.names == ("flat", "parted")
    flat, parted = suite
    assert flat.class_names == ("class 0", "class 1")
    assert flat.sizes == {"test": 2, "validation": 1, "train": 5}
    colours = {(255, 0, 0): 0, (0, 0, 255): 1, (0, 128, 0): 0, (0, 0, 0): 1}
    for split in SPLITS:
        images, labels = flat.examples(split)
        assert images.shape[1:] == (8, 8, 3)
        assert [colours[tuple(image[0, 0].tolist())] for image in images] == labels.tolist()
    assert parted.sizes == {"test": 4, "validation": 1, "train": 9}
    images, labels = parted.examples("test")
    assert np.abs(images.astype(int) - np.array([30, 220])[labels][:, None, None, None]).max() <= 2


def test_images_are_padded_to_squares(tmp_path):
    for name in ("wide", "clear"):
        for number in range(3):
            file = tmp_path / "t" / name / f"{number}.png"
            if name == "wide":
                paint(file, (200, 10, 10), (16, 8))
            else:
                paint(file, (9, 9, 9, 0), (4, 4), "RGBA")
    task = describe(tmp_path, image_size=8, splits={"validation": 1, "test": 2})["t"]
    images, labels = task.examples("train")
    wide, clear = images[labels == 1][0], images[labels == 0][0]
    assert (clear == 255).all()  # transparent: white
    assert (wide[[0, 1, 6, 7]] == 0).all() and (wide[2:6] == (200, 10, 10)).all()
    write_npz(tmp_path / "tall" / "t.npz", train_images=np.full((40, 6, 3, 3), 7, np.uint8))
    tall = load_suite(str(tmp_path / "tall"))["t"].examples("train", 1).inputs[0]
    assert tall.shape == (6, 6, 3)
    assert (tall[:, 1:4] == 7).all() and (tall[:, [0, 4, 5]] == 0).all()


def test_fingerprint_follows_what_matters(pets):
    def prints(**settings):
        return [task.fingerprint() for task in describe(pets, **settings)]

    before = prints()
    assert prints() == before and before[0] != before[1]
    renamed = {"name": "indoors", "title": "Inside", "licence": "none"}
    assert prints(name="other", tasks=["garden", renamed]) == before
    assert prints(splits={"seed": 0}) == before
    for change in ({"templates": ["{}"]}, {"splits": {"seed": 1}}, {"splits": {"validation": 3}}):
        after = prints(**change)
        assert after[0] != before[0] and after[1] != before[1]
    renamed = {"name": "indoors", "class_names": ["a", "b", "c"]}
    assert prints(tasks=["garden", renamed])[0] == before[0]
    assert prints(tasks=["garden", renamed])[1] != before[1]
    assert load_suite("mini", 1).tasks[0].fingerprint() == ""


def test_changed_images_train_their_task_again(pets, tmp_path, monkeypatch):
    monkeypatch.setenv("MERGEBOOK_CHECKPOINTS", str(tmp_path / "checkpoints"))

    def made():
        folder = finetune_experts(load_suite(str(pets)), jobs=1, recipe=TINY)
        assert folder.is_relative_to(tmp_path / "checkpoints" / "pets" / "mini-small")
        return {path.stem: path.stat().st_mtime_ns for path in folder.glob("*.safetensors")}

    before = made()
    assert set(before) == {"base", "garden", "indoors"}
    write_npz(pets / "indoors.npz", train_images=numbered(1, 40))
    after = made()
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {"indoors"}
    assert made() == after


def test_benchmark_takes_the_images_there_are(pets, tmp_path, monkeypatch):
    monkeypatch.setenv("MERGEBOOK_CHECKPOINTS", str(tmp_path / "checkpoints"))
    bench = Benchmark(str(pets), num_tasks=1, steps=1, jobs=1)
    assert len(bench.inputs("garden")[1]) == 12
    assert len(bench.inputs("garden", "validation")[1]) == 50
    path = next((tmp_path / "checkpoints").rglob("garden.safetensors"))
    assert Checkpoint(path).metadata["data"] == bench.suite["garden"].fingerprint()


def test_real_suite_is_described_well(tmp_path, monkeypatch):
    folder = data_dir() / "suites" / "real14"
    described = yaml.safe_load((folder / "suite.yaml").read_text(encoding="utf-8"))["tasks"]
    for task in described:
        classes = task.get("class_names", CLASSES)
        labels = np.arange(60) % len(classes)
        images = numbered(0, 60)
        write_npz(tmp_path / "real14" / f"{task['name']}.npz", class_names=np.array(classes),
                  train_images=images, train_labels=labels, test_images=images,
                  test_labels=labels)  # fmt: skip
        assert task["source"] and task["licence"] and task["description"].endswith(".")
    monkeypatch.setenv("MERGEBOOK_DATA", str(tmp_path))
    suite = load_suite(str(folder))
    assert len(suite) == 14 and suite.names == tuple(task["name"] for task in described)
    assert all(len(task.templates) == 2 for task in suite)
    assert suite["mnist"].class_names[3] == suite["sign_digits"].class_names[3] == "three"


LONG = np.zeros(41, np.int64)
FLOATS = np.zeros((40, 8, 8, 1), np.float32)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train_images": FLOATS}, r"train_images must be uint8 \[N, H, W, 1 or 3\], is float32"),
        ({"train_images": numbered(0, 40)[..., 0]}, r"train_images must be.*is uint8 \[40, 8, 8\]"),
        ({"test_images": numbered(0, 12, (8, 8, 4))}, r"test_images must be.*\[12, 8, 8, 4\]"),
        ({"train_labels": LONG}, "40 train_images but 41 train_labels"),
        ({"train_labels": LONG[:40] + 0.5}, r"train_labels must be integers \[N\], is float64"),
        ({"train_labels": LONG[:40] - 1}, "train has label -1, but there are 3 class names"),
        ({"test_labels": LONG[:12] + 3}, "test has label 3, but there are 3 class names"),
        ({"train_labels": None}, "has 'train_images' but no 'train_labels'"),
        ({"train_images": None}, "needs the array 'train_images' or 'images'"),
        ({"images": numbered(0, 3)}, "has 'images' and '?test_images; keep one"),
        ({"class_names": None}, "has no class_names; list them"),
        ({"class_names": np.arange(3)}, "class_names must be a list of strings, is int64"),
        ({"class_names": np.array(["a", "a", "b"])}, "needs two or more distinct class names"),
        (
            {"class_names": np.array(CLASSES, object)},
            "class_names cannot be read .it holds Python objects",
        ),
        ({"train_images": numbered(0, 1), "train_labels": LONG[:1]}, "no examples are left for"),
    ],
)
def test_bad_arrays_are_named(tmp_path, changes, message):
    path = write_npz(tmp_path / "odd.npz", **changes)
    with pytest.raises(SuiteError, match=message) as caught:
        load_suite(str(tmp_path))
    assert str(path) in str(caught.value) or "task 'odd'" in str(caught.value)


@pytest.mark.parametrize("kept", [0, 100, -400])
def test_damaged_arrays_are_named(tmp_path, kept):
    path = write_npz(tmp_path / "odd.npz")
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(SuiteError, match=r"odd\.npz: the file cannot be read"):
        load_suite(str(tmp_path))


def test_damage_within_is_found_when_read(tmp_path):
    path = write_npz(tmp_path / "odd.npz", train_images=np.full((40, 64, 64, 1), 7, np.uint8))
    whole = bytearray(path.read_bytes())
    whole[whole.index(b"\7" * 64**2) + 60000] = 8  # fails the archive's checksum
    path.write_bytes(whole)
    task = load_suite(str(tmp_path))["odd"]
    with pytest.raises(SuiteError, match=r"odd\.npz: train_images cannot be read"):
        task.examples("train")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"taks": []}, "unknown setting 'taks'; did you mean 'tasks'"),
        ({"tasks": "indoors"}, "tasks must be a list of tasks, is 'indoors'"),
        ({"tasks": []}, "no tasks"),
        ({"tasks": [3]}, "task 1: must be a mapping, is 3"),
        ({"tasks": [{"title": "A"}]}, "task 1: name must be of letters.*is ''"),
        ({"tasks": ["../up"]}, "task 1: name must be of letters"),
        ({"tasks": ["base"]}, "task 1: name must be.*none of base"),
        ({"tasks": ["indoors"] * 2}, "task names repeat"),
        (
            {"tasks": ["cellar"]},
            r"'cellar': no folder cellar and no cellar\.npz or .* in",
        ),
        ({"tasks": [{"name": "indoors", "file": "in.npz"}]}, r"'indoors': no in\.npz in"),
        ({"tasks": [{"name": "indoors", "prompts": []}]}, "task 1: unknown setting 'prompts'"),
        ({"tasks": [{"name": "indoors", "class_names": ["a"]}]}, r"1 class_names for 3.*red_fox"),
        ({"tasks": [{"name": "indoors", "class_names": {"a": "b"}}]}, "renames a; the classes"),
        ({"tasks": [{"name": "indoors", "class_names": ["a", "b", False]}]}, "False is no text"),
        ({"tasks": [{"name": "indoors", "splits": {"test": 3}}]}, "test images are stored apart"),
        ({"name": "mini"}, "name must be.*none of mini"),
        ({"name": 3}, "name must be a text, is 3"),
        ({"images": "nowhere"}, r"suite\.yaml: images: no folder '.*nowhere'"),
        ({"templates": ["no gap"]}, "'garden'.*template 'no gap' needs one"),
        ({"templates": []}, "'garden'.*needs at least one template"),
        ({"templates": 3}, "templates must be a list of texts, is 3"),
        ({"image_size": 4}, "image_size must be between 8 and 1024, is 4"),
        ({"image_size": True}, "image_size must be a number of pixels, is True"),
        ({"splits": [1]}, r"splits: must be a mapping, is \[1\]"),
        ({"splits": {"valid": 1}}, "unknown setting 'valid'; did you mean 'validation'"),
        ({"splits": {"validation": 1.5}}, "validation must be a number of images or a fraction"),
        ({"splits": {"validation": 0}}, "validation must be a number of images or a fraction"),
        ({"splits": {"validation": "many"}}, "validation must be a number or a fraction"),
        ({"splits": {"seed": -1}}, "seed must not be negative, is -1"),
        ({"splits": {"validation": 40}}, "'indoors': no examples are left for train"),
    ],
)
def test_bad_descriptions_are_named(pets, settings, message):
    with pytest.raises(SuiteError, match=message):
        describe(pets, **settings)


def test_bad_yaml_is_named(pets):
    (pets / "suite.yaml").write_text("tasks: [a")
    with pytest.raises(SuiteError, match=r"(?s)suite\.yaml: not readable as YAML.*line 1"):
        load_suite(str(pets))
    (pets / "suite.yaml").write_text("- a\n")
    with pytest.raises(SuiteError, match=r"suite\.yaml: must be a mapping, is \['a'\]"):
        load_suite(str(pets))


def test_bad_folders_are_named(tmp_path, monkeypatch):
    with pytest.raises(SuiteError, match="no such folder"):
        load_suite(str(tmp_path / "absent"))
    with pytest.raises(SuiteError, match=r"no tasks, and no \.npz files, texts or folders"):
        load_suite(str(folder_at(tmp_path / "empty")))
    with pytest.raises(
        SuiteError, match=r"unknown suite 'absent'.*mini, text8, or the path of a folder"
    ):
        load_suite("absent")
    write_npz(tmp_path / "here" / "a.npz")
    monkeypatch.chdir(tmp_path)
    assert load_suite("here").source == load_suite("./here").source == str(tmp_path / "here")


def test_bad_image_folders_are_named(tmp_path):
    task = tmp_path / "t"
    for split in ("train", "test"):
        for name in ("a", "b"):
            for number in range(4):
                paint(task / split / name / f"{number}.png", number)
    assert load_suite(str(tmp_path))["t"].class_names == ("a", "b")

    def refused(message):
        with pytest.raises(SuiteError, match=message):
            load_suite(str(tmp_path))

    (task / "test" / "a").rename(task / "test" / "aa")
    refused(r"has other classes than the other splits \(a, aa\)")
    (task / "test" / "aa").rename(task / "test" / "a")
    (task / "train" / "a" / "notes.txt").write_text("x")
    refused(r"notes\.txt: not an image file \(\.png")
    (task / "train" / "a" / "notes.txt").unlink()
    folder_at(task / "train" / "c")
    refused("c: holds no images")
    (task / "train" / "c").rmdir()
    (task / "train").rename(task / "validation")
    refused("has test, validation but no folder 'train'")
    (task / "validation").rename(task / "train")
    with pytest.raises(SuiteError, match="class_names must map the folders' names"):
        describe(tmp_path, tasks=[{"name": "t", "class_names": ["x", "y"]}])
    (tmp_path / "suite.yaml").unlink()
    folder_at(tmp_path / "u")
    refused("u: has no folders of images")
    (tmp_path / "u").rmdir()
    (task / "test" / "a" / "0.png").write_bytes(b"not a picture")
    with pytest.raises(SuiteError, match=r"0\.png: not a readable image"):
        load_suite(str(tmp_path))["t"].examples("test")
    paint(task / "test" / "a" / "0.png", 70000, mode="I;16")
    with pytest.raises(SuiteError, match=r"0\.png: pixels of mode I;16; save it with 8 bits"):
        load_suite(str(tmp_path))["t"].examples("test")
