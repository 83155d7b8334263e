"""`mergebook merge`: files in, one file out, nothing left by a failure."""

import hashlib
import json
import pickle
import re
import subprocess
import sys
import weakref
from dataclasses import replace

import pytest
import torch

import mergebook as mb
from commands import TASKS, assert_same, merge, refused, run, save, states
from mergebook.cli.files import suite_calibration
from mergebook.cli.sources import Source
from mergebook.registry import register
from mergebook.towers import clip
from mergebook.weights import Experts, checkpoint, save_checkpoint

WITHOUT_IMAGES = [name for name in mb.list_methods() if not mb.get_method(name).needs]


# ---------------------------------------------------------------------- merging


@pytest.mark.parametrize("method", WITHOUT_IMAGES)
def test_files_merge_as_in_memory(method, inputs, out, capsys):
    base, experts = states()
    assert_same(merge(capsys, inputs, out, method), mb.merge(method, Experts(base, experts)))


def test_parameters_entries_and_backbone_reach_the_method(inputs, out, capsys):
    settings = ["--set", "density=3e-1", "--set", "scale=2", "--set", "keep=k"]
    more = ["--entries", "stored", "--frozen-extra", "40", "--backbone", "mini-small"]
    merged = merge(capsys, inputs, out, "ties", *settings, *more)
    params = {"density": 0.3, "scale": 2.0, "keep": "k"}
    base, experts = states()
    opened = Experts(base, experts, entries="stored", frozen_extra=40, backbone="mini-small")
    expected = mb.merge("ties", opened, **params)
    assert_same(merged, expected)
    assert merged.storage() == expected.storage()
    assert merged.backbone == "mini-small"
    assert merged.recipe["parameters"] == {"combine": "mean"} | params
    assert (merged.recipe["entries"], merged.recipe["frozen_extra"]) == ("stored", 40)


def test_a_value_per_task(inputs, out, capsys):
    threshold = {"a": 0.2, "b": 1.0, "c": 0.5}
    base, experts = states()
    expected = mb.merge("tall_ta", Experts(base, experts), threshold=threshold)
    for text in ("b:1,a:2e-1, c: 0.5", "{a: 0.2, b: 1, c: .5}", json.dumps(threshold)):
        merged = merge(capsys, inputs, out, "tall_ta", "--force", "--set", f"threshold={text}")
        assert merged.recipe["parameters"]["threshold"] == threshold
        assert_same(merged, expected)


def test_the_recipe_has_hashes_and_no_names_of_files(inputs, out, tmp_path, capsys):
    merged = merge(capsys, inputs, out, "averaging")
    digests = {
        path.stem: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in tmp_path.glob("*.safetensors")
    }
    base = digests.pop("base")
    assert merged.recipe == {
        "method": "averaging",
        "parameters": {},
        "entries": "trained",
        "mergebook": mb.__version__,
        "sha256": {"base": base, "experts": digests},
    }
    content = out.read_bytes()
    assert str(tmp_path).encode() not in content
    elsewhere = save(tmp_path / "elsewhere", *states())
    merge(capsys, elsewhere, out, "averaging", "--force")
    assert out.read_bytes() == content


def test_layers_are_let_go_one_by_one(inputs, out, capsys, monkeypatch):
    alive, most = weakref.WeakSet(), 0
    original = Experts._read

    def counted(self, key):
        nonlocal most
        layer = original(self, key)
        if layer is not None:
            alive.add(layer.deltas)
        most = max(most, len(alive))
        return layer

    monkeypatch.setattr(Experts, "_read", counted)
    for dtype in ([], ["--dtype", "float64"], ["--dtype", "float16"]):
        merge(capsys, inputs, out, "ties", "--force", *dtype)
    assert 1 <= most <= 2  # the one at hand, and the one that takes its place


def test_progress_is_shown_on_a_terminal_only(inputs, out, capsys, monkeypatch):
    merge(capsys, inputs, out, "ties")  # says nothing on stderr
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    status, _, err = run(capsys, "merge", "--method", "ties", *inputs, "--out", out, "--force")
    assert status == 0
    assert re.search(r"ties: +0%.* 0/5 ", err)


def test_progress_sees_the_names_in_each_pass():
    base, experts = states()
    seen = []

    def note(names):
        seen.append(names)
        return names

    names = [key for key in sorted(base) if key not in ("frozen", "steps")]
    opened = Experts(base, experts, progress=note)
    assert [layer.name for layer in opened] == names
    assert [layer.name for layer in opened] == names
    assert seen == [tuple(sorted(base)), tuple(names)]  # at first nobody knows which are trained
    seen.clear()
    for other in (opened.select(["b"]), opened.arranged("split")):
        assert {layer.name for layer in other} <= set(seen[-1])
    assert seen[0] == tuple(sorted(base)) and len(seen) == 2


def test_a_checkpoint_read_in_a_wider_type_travels_to_other_processes(tmp_path):
    state = {"w": torch.ones(2, dtype=torch.bfloat16), "n": torch.tensor(3)}
    path = save_checkpoint(state, tmp_path / "x.safetensors", {"backbone": "mini-small"})
    source = Source(path)
    source.wide = torch.float64
    again = pickle.loads(pickle.dumps(source))
    assert (again.dtype("w"), again["w"].dtype) == (torch.float64, torch.float64)
    assert (again.dtype("n"), again["n"].item()) == (torch.int64, 3)
    assert again.metadata == {"backbone": "mini-small"}


def test_a_process_of_its_own(inputs, out):
    command = [sys.executable, "-m", "mergebook.cli", "merge", "--method", "averaging"]
    done = subprocess.run([*command, *inputs, "--out", out], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[0] == f"{out}: Weight averaging of a, b, c"
    base, experts = states()
    assert_same(mb.load_merged(out), mb.merge("averaging", Experts(base, experts)))


# ---------------------------------------------------------------------- element types


def floats(state):
    return {key: t.float() if t.is_floating_point() else t for key, t in state.items()}


def check_storage(out, dtype):
    """The closed formula is what the file's tensors take."""
    file, merged = mb.Checkpoint(out), mb.load_merged(out)
    tensors = dict(file)
    assert {t.dtype for t in tensors.values()} <= {dtype, torch.int64, torch.uint8}
    size = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
    assert 0 <= 8 * size - merged.storage().bits <= 7 * len(TASKS) * len(tensors)


def test_a_narrower_type_rounds_the_result_once(inputs, out, capsys):
    merged = merge(capsys, inputs, out, "task_arithmetic", "--dtype", "bfloat16")
    base, experts = states()
    expected = mb.merge("task_arithmetic", Experts(base, experts)).state_dict()
    for key, tensor in merged.state_dict().items():
        wanted = expected[key] if key == "steps" else expected[key].bfloat16()
        assert torch.equal(tensor, wanted)
    assert merged.recipe["dtype"] == "bfloat16"
    check_storage(out, torch.bfloat16)


@pytest.mark.parametrize("method", ["averaging", "tall_ta", "fine_tuned"])
def test_a_wider_type_is_not_rounded_to_the_base_first(method, tmp_path, out, capsys):
    inputs = save(tmp_path, *states(torch.bfloat16))
    merged = merge(capsys, inputs, out, method, "--dtype", "float32")
    base, experts = states(torch.bfloat16)
    wide = {task: floats(state) for task, state in experts.items()}
    assert_same(merged, mb.merge(method, Experts(floats(base), wide)))
    check_storage(out, torch.float32)


def test_the_type_of_the_base_is_the_default(tmp_path, out, capsys):
    inputs = save(tmp_path, *states(torch.bfloat16))
    merged = merge(capsys, inputs, out, "averaging")
    assert "dtype" not in merged.recipe
    check_storage(out, torch.bfloat16)


def test_several_models_in_a_narrower_type_are_refused(inputs, out, capsys):
    message = refused(capsys, inputs, out, "tall_ta", "--dtype", "bfloat16")
    assert "tall_ta keeps more than one set of weights" in message


def test_a_value_beyond_the_type_is_refused(tmp_path, out, capsys):
    base, experts = states()
    for state in (base, *experts.values()):
        state["frozen"] = torch.tensor([1e6])
    message = refused(capsys, save(tmp_path, base, experts), out, "averaging", "--dtype", "float16")
    assert "'frozen' came out beyond the range of torch.float16" in message


# ---------------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("method", "options", "message"),
    [
        ("averagin", [], "unknown method 'averagin'; did you mean 'averaging'?"),
        ("ties", ["--set", "densit=1"], "ties: unknown parameter 'densit'"),
        ("ties", ["--set", "density=2"], "density='2' is not a number from 0 to 1"),
        ("ties", ["--set", "density=NaN"], "density='NaN' is not a number from 0 to 1"),
        ("ties", ["--set", "density=much"], "density='much' is not a number"),
        ("ties", ["--set", "density"], "--set takes NAME=VALUE, not 'density'"),
        ("ties", ["--set", "=1"], "--set takes NAME=VALUE, not '=1'"),
        ("ties", ["--set", "density=[1"], "ties: density='[1' is not a number from 0 to 1"),
        ("ties", ["--set", "density=1", "--set", "density=1"], "--set density is given twice"),
        ("ties", ["--set", "keep=all"], "keep='all' is not one of 'k+1', 'k'"),
        ("tall_ta", ["--set", "threshold=a:1,b:1"], "missing or unknown: c"),
        ("tall_ta", ["--set", "threshold=a:1,a:2"], "threshold='a:1,a:2' gives task 'a' twice"),
        ("averaging", ["--expert", "d"], "--expert takes TASK=FILE, not 'd'"),
        ("averaging", ["--expert", "a=x"], "--expert a is given twice"),
        ("averaging", ["--expert", "d=missing.safetensors"], "checkpoint not found: missing"),
        ("averaging", ["--entries", "all"], "unknown choice of entries 'all'"),
        ("averaging", ["--dtype", "float8"], "unknown dtype 'float8'"),
        ("averaging", ["--suite", "mini"], "--suite: averaging needs no images"),
    ],
)
def test_bad_input_is_refused(method, options, message, inputs, out, capsys):
    assert message in refused(capsys, inputs, out, method, *options)
    assert not out.parent.exists()


def test_an_existing_file_is_replaced_only_if_asked(inputs, out, capsys):
    merge(capsys, inputs, out, "averaging")
    assert "exists; --force" in refused(capsys, inputs, out, "ties")
    assert merge(capsys, inputs, out, "ties", "--force").recipe["method"] == "ties"


@pytest.mark.parametrize("link", ["itself", "symbolic", "hard"])
def test_an_input_is_never_replaced(link, inputs, tmp_path, capsys):
    target = tmp_path / "b.safetensors"
    other = tmp_path / "other" / "link.safetensors"
    other.parent.mkdir()
    if link == "symbolic":
        other.symlink_to(target)
    elif link == "hard":
        other.hardlink_to(target)
    out = target if link == "itself" else other
    message = refused(capsys, inputs, out, "averaging", "--force")
    assert "it is expert 'b'; inputs are never replaced" in message


def test_a_folder_is_no_place_for_a_file(inputs, tmp_path, capsys):
    (tmp_path / "folder").mkdir()
    assert "it is a folder" in refused(capsys, inputs, tmp_path / "folder", "averaging", "--force")


def test_a_value_that_is_not_finite_is_named(tmp_path, out, capsys):
    base, experts = states()
    experts["b"]["proj"][1, 2] = torch.nan
    message = refused(capsys, save(tmp_path, base, experts), out, "ties")
    assert f"expert 'b' ({tmp_path / 'b.safetensors'}): tensor 'proj' holds 1 values" in message


def test_an_expert_of_another_architecture_is_named(tmp_path, out, capsys):
    base, experts = states()
    del experts["c"]["proj"]
    message = refused(capsys, save(tmp_path, base, experts), out, "averaging")
    assert "c.safetensors" in message
    assert "1 missing (proj)" in message


def test_a_full_disk_leaves_the_old_file(inputs, out, capsys, monkeypatch):
    merge(capsys, inputs, out, "averaging")

    def full(tensors, path, metadata):
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, "save_file", full)
    message = refused(capsys, inputs, out, "ties", "--force")
    assert f"cannot write {out}" in message
    assert "No space left" in message


def test_an_interruption_leaves_nothing(inputs, out, capsys, monkeypatch):
    def interrupt(self, key):
        raise KeyboardInterrupt

    monkeypatch.setattr(Experts, "_read", interrupt)
    assert run(capsys, "merge", "--method", "ties", *inputs, "--out", out)[0] == 130
    assert not out.parent.exists()


# ---------------------------------------------------------------------- methods that need images


@pytest.fixture
def with_images(monkeypatch):
    """A method that needs images, and the list of the calibrations it was given."""
    given = []
    plain = mb.get_method("averaging")

    def look(experts, calibration, reuse):
        given.append(calibration)
        return plain.start(experts, calibration, reuse)

    method = replace(plain, name="looks", needs=("images", "labels"), start=look)
    monkeypatch.setitem(register._METHODS, "looks", method)
    return given


def test_a_method_that_needs_images_says_where_they_may_come_from(with_images, inputs, out, capsys):
    message = refused(capsys, inputs, out, "looks")
    assert "looks needs images and labels" in message
    assert "--suite" in message
    assert "notebook" in message
    message = refused(capsys, inputs, out, "looks", "--suite", "mini")
    assert "--suite needs --backbone" in message
    options = ["--suite", "mini", "--backbone", "mini-small"]
    assert "unknown task 'a'" in refused(capsys, inputs, out, "looks", *options)
    assert with_images == []


def test_images_come_from_a_suite(with_images, tmp_path, out, capsys):
    base = clip.visual_template("mini-small").state_dict()
    experts = {task: {k: v + 0.01 for k, v in base.items()} for task in ("digits", "land")}
    inputs = save(tmp_path, base, experts, backbone="mini-small")
    merged = merge(capsys, inputs, out, "looks", "--suite", "mini", "--images", "6")
    (calibration,) = with_images
    assert (merged.recipe["images"], merged.recipe["split"]) == ({"digits": 6, "land": 6}, "train")
    digest = hashlib.sha256(calibration.inputs["land"].numpy().tobytes()).hexdigest()
    assert merged.recipe["sha256"]["images"]["land"] == digest
    assert f"  images of land: {digest}\n" in run(capsys, "inspect", out)[1]
    assert calibration.tasks == ("digits", "land")
    assert (calibration.backbone, calibration.split) == ("mini-small", "train")
    suite = mb.load_suite("mini")
    for task in calibration.tasks:
        assert len(calibration.inputs[task]) == len(calibration.labels[task]) == 6
        assert len(calibration.heads[task]) == len(suite[task].class_names)


def test_learning_that_was_through_is_not_repeated(tmp_path, out, capsys, monkeypatch):
    base = clip.visual_template("mini-small").state_dict()
    experts = {
        task: {k: v * (1 + 0.01 * n) for k, v in base.items()}
        for n, task in enumerate(("digits", "land"), 1)
    }
    inputs = save(tmp_path, base, experts, backbone="mini-small")
    options = ["--suite", "mini", "--images", "6", "--set", "steps=2", "--force"]
    options += ["--resume", tmp_path / "state"]
    first = merge(capsys, inputs, out, "adamerging_layer", *options).state_dict()
    assert list((tmp_path / "state").iterdir())

    def refuse(self, *given):
        raise AssertionError("a step was taken again")

    monkeypatch.setattr("torch.optim.AdamW.step", refuse)
    again = merge(capsys, inputs, out, "adamerging_layer", *options).state_dict()
    assert all(again[key].equal(value) for key, value in first.items())


def test_the_images_of_a_benchmark_are_those_of_the_command_line():
    ours = suite_calibration("mini", "mini-small", ["digits"], 5)
    assert ours.inputs["digits"].dtype == torch.float32
    more = suite_calibration("mini", "mini-small", ["land", "digits"], 8)
    assert torch.equal(more.first(5).inputs["digits"], ours.inputs["digits"])
    assert torch.equal(more.labels["digits"][:5], ours.labels["digits"])
