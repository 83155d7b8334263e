"""Suites from folders that nobody means well with: one line, no hang, bounded memory."""

import os
import struct
import tracemalloc
import zipfile
import zlib

import numpy as np
import pytest
from PIL import Image

from mergebook.errors import SuiteError
from mergebook.suites import Task, load_suite

COUNT = 40
ARRAYS = {
    "images": np.zeros((COUNT, 8, 8, 3), np.uint8),
    "labels": np.arange(COUNT) % 3,
    "class_names": np.array(["a", "b", "c"]),
}


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "pets"
    folder.mkdir()
    np.savez(folder / "t.npz", **ARRAYS)
    return folder


def use(folder) -> None:
    """Open a suite and read of every task."""
    for task in load_suite(folder):
        for split in ("train", "validation", "test"):
            task.examples(split, 1)
        task.fingerprint()


def refused(folder) -> str:
    with pytest.raises(SuiteError) as caught:
        use(folder)
    message = str(caught.value)
    assert "\n" not in message and len(message) < 700
    return message


BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{new}: &{new} [{','.join(['*' + old] * 9)}]\n"
    for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("templates: ['a {} {x}']", "template 'a {} {x}' needs one '{}' and no other brace"),
        ("templates: ['{} {']", "no other brace"),
        ("templates: ['}{}']", "no other brace"),
        ("templates: ['{0}']", "no other brace"),
        ("templates: ['{{}}']", "no other brace"),
        ("tasks: [{name: t, class_names: {a: '', b: b, c: c}}]", "class name '' is empty"),
        ("tasks: [{name: t, class_names: {a: ' ', b: b, c: c}}]", "class name ' ' is empty"),
        ('tasks: [{name: t, title: "\\ud800"}]', "suite.yaml"),
        ("images: ~nouser", "images is '~nouser': "),
        ('images: "a\\0b"', "images: no folder"),
        ("images: " + "x" * 5000, "cannot be read"),
        ("tasks: [{name: " + "n" * 300 + "}]", "name must be of letters"),
        ("tasks: [{name: t, file: /dev/zero}]", "no /dev/zero in"),
        (BOMB + "tasks: *i", "more than 100000 values"),
        ("tasks: &a [*a]", "'a' contains itself"),
        ("a: &a {b: [*a]}", "'a' contains itself"),
        ("name: a\nname: b", "'name' is given twice"),
        ("[" * 20_000, "nested too deeply"),
        ("name: " + "1" * 5000, "not readable as YAML"),
        ("name: 2020-13-45", "not readable as YAML"),
        ("name: !!timestamp x", "not readable as YAML"),
        ("name: !!python/object/apply:os.system [ls]", "not readable as YAML"),
        ("# " + "x" * 2_000_000, "longer than 1048576 bytes"),
        ("splits: {seed: 1" + "0" * 400 + "}", "seed must be below 2^63"),
        ("splits: {validation: .nan}", "validation must be a number of images or a fraction"),
        ("image_size: 1" + "0" * 400, "image_size must be between"),
    ],
)
def test_descriptions(text, message, folder):
    (folder / "suite.yaml").write_text(text)
    assert message in refused(folder)


def test_aliases_that_people_write_are_fine(folder):
    (folder / "suite.yaml").write_text(
        "tasks:\n- &t {name: t, templates: &p ['one {}']}\n- {<<: *t, name: u, file: t.npz}\n"
    )
    suite = load_suite(folder)
    assert suite.names == ("t", "u") and suite["u"].templates == ("one {}",)
    use(folder)


@pytest.mark.parametrize("raw", [b"\xff\xfe", b"name: \xe9", bytes(range(128, 128 + 50)) + b"\xff"])
def test_descriptions_that_are_not_utf8(raw, folder):
    (folder / "suite.yaml").write_bytes(raw)
    assert "suite.yaml: not readable as YAML" in refused(folder)


# ------------------------------------------------------------------ arrays


def npy(shape, descr="|u1", data=b"", version=1, fortran=False) -> bytes:
    """An array file whose header says what it is told to say."""
    header = repr({"descr": descr, "fortran_order": fortran, "shape": shape}).encode()
    header += b" " * (64 - (11 + len(header)) % 64) + b"\n"
    size = struct.pack("<H" if version == 1 else "<I", len(header))
    return b"\x93NUMPY" + bytes([version, 0]) + size + header + data


GOOD = {
    "images": npy((COUNT, 8, 8, 3), data=bytes(COUNT * 192)),
    "labels": npy((COUNT,), "<i8", data=(np.arange(COUNT) % 3).tobytes()),
    "class_names": npy((3,), "<U1", data=np.array(["a", "b", "c"]).tobytes()),
}
TERABYTES = 2**45


def write(folder, packing=zipfile.ZIP_STORED, **members) -> None:
    with zipfile.ZipFile(folder / "t.npz", "w", packing) as file:
        for key, value in {**GOOD, **members}.items():
            file.writestr(f"{key}.npy", value)


@pytest.mark.parametrize("packing", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize(
    ("key", "member", "message"),
    [
        ("images", npy((TERABYTES, 8, 8, 3), data=bytes(99)), "announces more or less"),
        ("labels", npy((TERABYTES,), "<i8", data=bytes(99)), "announces more or less"),
        ("class_names", npy((TERABYTES,), "<U1", data=bytes(99)), "announces more or less"),
        ("class_names", npy((3,), "<U999999", data=bytes(99)), "announces more or less"),
        ("images", npy((10**30, 8, 8, 3)), "announces more or less"),
        ("images", npy((-1, 8, 8, 3)), "announces more or less"),
        ("images", npy((COUNT, 8, 8, 3), data=bytes(99)), "announces more or less"),
        ("images", npy((COUNT, 8, 8, 3), version=9), "version (9, 0) of the array format"),
        ("class_names", npy((3,), "|O", data=b"cos\nsystem\n"), "holds Python objects"),
        ("class_names", npy((3,), "<U1", data=b"\xff" * 12), "class_names cannot be read"),
        ("class_names", npy((3,), "<U1", data=b"\x00\xd8\0\0b\0\0\0c\0\0\0"), "is not UTF-8"),
        ("labels", npy((), "<i8", data=bytes(8)), "it has 0 axes"),
        ("images", npy("x"), "images cannot be read"),
        ("images", b"", "images cannot be read"),
        ("images", npy((COUNT, 1, 9999, 3), data=bytes(COUNT * 29997)), "at most 4096 pixels"),
    ],
)
def test_arrays(key, member, message, packing, folder):
    write(folder, packing, **{key: member})
    tracemalloc.start()
    found = refused(folder)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert message in found and ("t.npz" in found or "suite.yaml" in found)
    assert peak < 2**24


@pytest.mark.parametrize("packing", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_other_packings(packing, folder):
    write(folder, packing)
    assert "packed in a way that .npz files are not" in refused(folder)


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [(6, 0x01, "encrypted"), (6, 0x41, "encrypted"), (8, 99, "packed in a way"), (8, 9, "packed")],
)
def test_flags_of_an_archive(place, value, message, folder):
    raw = bytearray((folder / "t.npz").read_bytes())
    for signature, offset in ((b"PK\3\4", place), (b"PK\1\2", place + 2)):
        start = 0
        while (start := raw.find(signature, start)) >= 0:
            raw[start + offset] = value
            start += 4
    (folder / "t.npz").write_bytes(raw)
    assert message in refused(folder)


def test_few_images_of_many_take_little_memory(folder):
    count = 20_000  # 245 MB, which pack into 240 kB
    with zipfile.ZipFile(folder / "t.npz", "w", zipfile.ZIP_DEFLATED) as file:
        with file.open("images.npy", "w", force_zip64=True) as member:
            member.write(npy((count, 64, 64, 3)))
            for _ in range(count // 1000):
                member.write(bytes(1000 * 64 * 64 * 3))
        file.writestr("labels.npy", npy((count,), "<i8", data=(np.arange(count) % 3).tobytes()))
        file.writestr("class_names.npy", GOOD["class_names"])
    task = load_suite(folder)["t"]
    tracemalloc.start()
    images, _ = task.examples("train", 7)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert images.shape == (7, 64, 64, 3) and peak < 2**25


@pytest.mark.parametrize("fortran", [False, True])
def test_rows_are_those_of_the_array(fortran, folder):
    images = np.random.default_rng(0).integers(0, 256, (COUNT, 8, 8, 3), np.uint8)
    stored = np.asfortranarray(images) if fortran else images
    np.savez(folder / "t.npz", **ARRAYS | {"images": stored})
    task = load_suite(folder)["t"]
    for split in ("train", "validation", "test"):
        found, labels = task.examples(split)
        for image, label in zip(found, labels, strict=True):
            (place,) = np.flatnonzero((images == image).all((1, 2, 3)))
            assert ARRAYS["labels"][place] == label


# ------------------------------------------------------------------ image files


@pytest.fixture
def tree(tmp_path):
    for name in "ab":
        (tmp_path / "pets" / "t" / name).mkdir(parents=True)
        for number in range(12):
            Image.new("RGB", (8, 8)).save(tmp_path / "pets" / "t" / name / f"{number}.png")
    return tmp_path / "pets"


def enlarge(path):
    raw = bytearray(path.read_bytes())
    raw[16:24] = struct.pack(">II", 60_000, 60_000)
    raw[29:33] = struct.pack(">I", zlib.crc32(raw[12:29]))
    path.write_bytes(raw)


@pytest.mark.parametrize(
    "change",
    [
        lambda path: (path.unlink(), path.symlink_to(path.name)),
        lambda path: (path.unlink(), path.symlink_to("/nowhere")),
        lambda path: (path.unlink(), os.mkfifo(path)),
        lambda path: (path.unlink(), path.mkdir()),
        lambda path: (path.parent.parent / "loop").symlink_to(path.parent.parent),
        lambda path: os.rename(path.parent, os.fsencode(path.parent.parent) + b"/\xff\xfe"),
    ],
)
def test_image_trees(change, tree):
    change(tree / "t" / "a" / "0.png")
    refused(tree)


def test_an_image_that_claims_to_be_huge(tree):
    for path in (tree / "t" / "a").iterdir():
        enlarge(path)
    with pytest.raises(SuiteError, match=r"\.png: .*pixels"):
        load_suite(tree)["t"].examples("train")


def test_files_whose_names_are_not_utf8_are_read(tree):
    os.rename(tree / "t" / "a" / "0.png", os.fsencode(tree / "t" / "a") + b"/\xff.png")
    use(tree)


# ------------------------------------------------------------------ calls


@pytest.mark.parametrize("name", ["", "./nope", "a\0/b", "~nouser/x", "/" + "x" * 5000, 3, None])
def test_names_of_suites(name):
    with pytest.raises(SuiteError) as caught:
        load_suite(name)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 700


@pytest.mark.parametrize("number", [0, -1, 21, 10**30, 1.5, "3", True, float("nan")])
def test_numbers_of_tasks(number):
    with pytest.raises(SuiteError, match="num_tasks must be between 1 and 20"):
        load_suite("mini", number)


@pytest.mark.parametrize("size", [0, -1, 10**12, 1.5, "3", True, float("nan")])
def test_numbers_of_images(size):
    with pytest.raises(SuiteError, match="'shapes': test size must be positive"):
        load_suite()["shapes"].examples("test", size)


@pytest.mark.parametrize("seed", [-1, 1.5, "x", True])
def test_seeds(seed):
    with pytest.raises(SuiteError, match="'shapes': seed must be a whole number"):
        load_suite()["shapes"].examples("test", 2, seed)


@pytest.mark.parametrize(
    "odd",
    [
        {"class_names": ("", "b")}, {"class_names": (1, 2)}, {"class_names": "ab"},
        {"class_names": None}, {"templates": "{}"}, {"templates": (3,)}, {"name": 3},
        {"title": None},
    ],
)  # fmt: skip
def test_tasks(odd):
    usual = {"name": "t", "title": "T", "class_names": ("a", "b"), "templates": ("{}",)}
    with pytest.raises(SuiteError):
        Task(**usual | odd, load=None)
