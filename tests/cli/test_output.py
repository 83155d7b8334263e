"""The file that a merge writes: by one process at a time, whole or not at all, and no other."""

import errno
import os
import signal
import subprocess
import sys

import pytest
import torch

import mergebook as mb
from commands import assert_same, merge, refused, save, states
from mergebook.cli.output import claimed
from mergebook.cli.sources import Source
from mergebook.errors import CheckpointError

# A merge that waits with its whole result in mid-write, until somebody ends it.
WAITING = """
import sys, time
from mergebook.merged import MergedModel
save = MergedModel.save

def slowly(self, path):
    save(self, path)
    print("written", flush=True)
    time.sleep(100)

MergedModel.save = slowly
from mergebook.cli import main
sys.exit(main())
"""


def names(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


@pytest.fixture
def waiting(inputs, out):
    """A process in mid-write."""
    command = [sys.executable, "-c", WAITING, "merge", "--method", "averaging", *inputs]
    process = subprocess.Popen(
        [*command, "--out", out], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "written\n"
    yield process
    process.kill()
    process.wait()


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP", "SIGINT"])
def test_a_signal_in_mid_write_leaves_nothing(name, waiting, out):
    number = getattr(signal, name)
    before = names(out.parent.parent)
    assert any("partial" in each for each in before)
    waiting.send_signal(number)
    text, err = waiting.communicate(timeout=20)
    what = "interrupted" if name == "SIGINT" else f"stopped by {name}"
    assert (text, err) == ("", f"mergebook: {what}; what was finished is kept\n")
    assert waiting.returncode == 128 + number
    assert not out.parent.exists()


def test_what_a_killed_merge_left_is_removed_by_the_next(waiting, inputs, out, capsys):
    waiting.kill()
    waiting.wait()
    left = names(out.parent)
    assert len(left) > 1 and not out.exists()
    merge(capsys, inputs, out, "averaging")
    assert names(out.parent) == [out.name]


def test_of_two_merges_into_one_file_the_second_is_refused(waiting, inputs, out, capsys):
    before = names(out.parent)
    message = refused(capsys, inputs, out, "ties")
    assert f"cannot write {out}: another process is writing it right now" in message
    assert message == refused(capsys, inputs, out, "ties", "--force")
    assert names(out.parent) == before
    assert waiting.poll() is None


def test_a_file_that_comes_meanwhile_is_not_replaced(tmp_path):
    path = tmp_path / "new" / "x"
    with pytest.raises(CheckpointError, match="meanwhile"), claimed(path, overwrite=False) as place:
        place.write_text("ours")
        path.write_text("theirs")
    assert path.read_text() == "theirs"
    assert names(tmp_path) == ["new", "new/x"]
    with claimed(path, overwrite=True) as place:
        place.write_text("ours")
    assert path.read_text() == "ours"
    assert names(tmp_path) == ["new", "new/x"]


def test_without_hard_links_the_file_is_moved(tmp_path, monkeypatch):
    def link(source, target):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", link)
    path = tmp_path / "x"
    with claimed(path, overwrite=False) as place:
        place.write_text("ours")
    assert (path.read_text(), names(tmp_path)) == ("ours", ["x"])
    with pytest.raises(CheckpointError, match="exists"), claimed(path, overwrite=False) as place:
        place.write_text("other")
    assert (path.read_text(), names(tmp_path)) == ("ours", ["x"])


def test_the_place_is_claimed_by_one_of_many(tmp_path):
    code = """if True:
        import sys, time
        from pathlib import Path
        from mergebook.cli.output import claimed
        with claimed(Path(sys.argv[1]), overwrite=True) as place:
            place.write_text(sys.argv[2])
            time.sleep(0.01)
    """
    path = tmp_path / "x"
    started = [
        subprocess.Popen([sys.executable, "-c", code, path, str(n)], stderr=subprocess.PIPE)
        for n in range(8)
    ]
    errors = [process.communicate()[1].decode() for process in started]
    winners = [process.returncode == 0 for process in started]
    assert path.read_text() in [str(n) for n in range(8) if winners[n]]
    assert all("another process" in e for e, won in zip(errors, winners, strict=True) if not won)
    assert names(tmp_path) == ["x"]


def test_a_folder_of_somebody_else_is_left_alone(inputs, out, capsys):
    other = out.with_name(f".{out.name}.partial") / "thesis.txt"
    other.parent.mkdir(parents=True)
    other.write_text("years of work")
    assert f"{other.parent} is in the way" in refused(capsys, inputs, out, "ties")


@pytest.mark.parametrize("leads", ["nowhere", "round", "to a file"])
def test_a_link_is_replaced_only_if_asked(leads, inputs, out, tmp_path, capsys):
    out.parent.mkdir()
    target = {"nowhere": tmp_path / "new", "round": out, "to a file": tmp_path / "other"}[leads]
    if leads == "to a file":
        target.write_text("theirs")
    out.symlink_to(target)
    assert f"{out} exists" in refused(capsys, inputs, out, "averaging")
    assert out.is_symlink()
    merge(capsys, inputs, out, "averaging", "--force")
    assert not out.is_symlink()
    assert leads != "to a file" or target.read_text() == "theirs"


@pytest.mark.parametrize("length", [230, 246, 255])
def test_a_long_name(length, inputs, tmp_path, capsys):
    merge(capsys, inputs, tmp_path / "out" / ("x" * length), "averaging")
    assert len(names(tmp_path / "out")) == 1


@pytest.mark.parametrize(
    ("place", "problem"),
    [
        ("x" * 256, "File name too long"),
        ("file/x", "Not a directory"),
        ("loop/x", "Too many levels of symbolic links"),
    ],
)
def test_a_place_that_cannot_be_written_is_named(place, problem, inputs, tmp_path, capsys):
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "file").touch()
    (folder / "loop").symlink_to(folder / "loop")
    message = refused(capsys, inputs, folder / place, "averaging")
    assert message == f"mergebook: cannot write {folder / place}: {problem}\n"


@pytest.mark.parametrize("step", ["mkdir", "open", "link"])
def test_what_the_system_forbids_is_named(step, inputs, out, capsys, monkeypatch):
    real = getattr(os, step)

    def forbidden(path, *arguments, **options):
        if str(out.parent) in str(path):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return real(path, *arguments, **options)

    monkeypatch.setattr(os, step, forbidden)
    if step == "link":  # nor can it be moved
        monkeypatch.setattr(os, "replace", forbidden)
    message = refused(capsys, inputs, out, "averaging")
    assert message.startswith(f"mergebook: cannot write {out}: ")
    assert "Permission denied" in message
    assert message.count("\n") == 1
    assert not out.parent.exists()


# ---------------------------------------------------------------------- inputs that do not fit


def test_an_expert_of_another_type_says_how_to_merge_it(tmp_path, out, capsys):
    base, experts = states()
    experts["b"] = {k: t.half() if t.is_floating_point() else t for k, t in experts["b"].items()}
    inputs = save(tmp_path, base, experts)
    message = refused(capsys, inputs, out, "averaging")
    assert f"{tmp_path / 'b.safetensors'}: tensor " in message
    assert "is float16, but float32 in the base" in message
    assert "--dtype float32" in message
    merged = merge(capsys, inputs, out, "averaging", "--dtype", "float32")
    wide = {k: t.float() if t.is_floating_point() else t for k, t in experts["b"].items()}
    expected = mb.merge("averaging", mb.Experts(base, experts | {"b": wide}))
    for key, tensor in expected.state_dict().items():
        assert torch.equal(merged.state_dict()[key], tensor)


def test_counters_of_batch_normalisation_can_be_taken_from_the_base(tmp_path, out, capsys):
    base, experts = states()
    for number, state in enumerate((base, *experts.values())):
        state["bn1.num_batches_tracked"] = torch.tensor(10 * number)
        state["layer.bn2.num_batches_tracked"] = torch.tensor(20 * number)
    inputs = save(tmp_path, base, experts)
    message = refused(capsys, inputs, out, "averaging")
    assert "bn1.num_batches_tracked" in message
    assert "--from-base" in message
    assert "no tensor of" in refused(capsys, inputs, out, "averaging", "--from-base", "bn3.*")
    merged = merge(capsys, inputs, out, "averaging", "--from-base", "*num_batches_tracked")
    counters = ["bn1.num_batches_tracked", "layer.bn2.num_batches_tracked"]
    assert merged.recipe["from_base"] == counters
    state = merged.state_dict()
    assert [int(state[key]) for key in counters] == [0, 0]
    same = {key: base[key] for key in counters}
    others = {task: expert | same for task, expert in experts.items()}
    assert_same(merged, mb.merge("averaging", mb.Experts(base, others)))


def test_a_head_of_another_shape_can_be_taken_from_the_base(tmp_path, out, capsys):
    base, experts = states()
    base["head"] = torch.ones(4, 2)
    experts["a"]["head"] = torch.ones(4, 9)
    experts["b"]["head"] = torch.ones(4, 2).half()
    inputs = save(tmp_path, base, experts)  # and c has none
    assert "head" in refused(capsys, inputs, out, "averaging")
    for method in ("averaging", "tall_ta"):
        merged = merge(capsys, inputs, out, method, "--force", "--from-base", "head")
        assert torch.equal(merged.state_dict("a")["head"], base["head"])
        digest = merged.recipe["sha256"]["experts"]["a"]
        assert digest == Source(tmp_path / "a.safetensors").sha256()
