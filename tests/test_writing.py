"""Files that appear whole or not at all, also when a process is killed in mid-write."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from mergebook.writing import whole

KILLED = """
import os, signal, sys
from pathlib import Path
from mergebook.writing import whole

with whole(Path(sys.argv[1])) as partial:
    partial.write_text("half of it")
    (partial.parent / ".tmpXYZ").write_text("what a writer makes for itself")
    print("writing", flush=True)
    signal.pause()
"""


def names(folder: Path) -> list[str]:
    return sorted(os.listdir(folder))


@pytest.fixture
def writer():
    """Starts processes that stop in mid-write, and ends them."""
    started = []

    def start(path: Path) -> subprocess.Popen:
        process = subprocess.Popen(
            [sys.executable, "-c", KILLED, str(path)], stdout=subprocess.PIPE, text=True
        )
        started.append(process)
        assert process.stdout.readline() == "writing\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()


@pytest.mark.parametrize("name", ["a.csv", "x" * 255, ".hidden", "sp[a]ce *.txt"])
def test_a_file_is_replaced_and_readable_like_any_other(name, tmp_path):
    path = tmp_path / "deep" / name
    for text in ("first", "second"):
        with whole(path) as partial:
            partial.write_text(text)
            partial.chmod(0o600)
            assert not path.exists() or path.read_text() == "first"
        assert path.read_text() == text
    reference = tmp_path / "reference"
    reference.touch()
    assert path.stat().st_mode == reference.stat().st_mode
    assert names(path.parent) == [name]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit, GeneratorExit])
@pytest.mark.parametrize("existing", [False, True])
def test_a_failure_leaves_what_was_there(error, existing, tmp_path):
    path = tmp_path / "a.csv"
    if existing:
        path.write_text("before")
    with pytest.raises(error), whole(path) as partial:
        partial.write_text("half")
        raise error
    assert names(tmp_path) == ["a.csv"] * existing
    assert not existing or path.read_text() == "before"


def test_the_next_writer_removes_what_a_killed_one_left(writer, tmp_path):
    path, other = tmp_path / "a.csv", tmp_path / "a.csv.csv"
    killed, alive, elsewhere = writer(path), writer(path), writer(other)
    for process in (killed, elsewhere):
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert len(names(tmp_path)) == 3
    with whole(path) as partial:
        partial.write_text("done")
    left = names(tmp_path)
    assert "a.csv" in left and len(left) == 3  # of the living one, and of the other file
    assert not any(f"-{killed.pid}-" in name for name in left)
    assert any(f"-{alive.pid}-" in name for name in left)
    with whole(other) as partial:
        partial.write_text("done")
    assert not any(f"-{elsewhere.pid}-" in name for name in names(tmp_path))


def test_two_at_once_do_not_disturb_each_other(tmp_path):
    path = tmp_path / "a.csv"
    with whole(path) as first, whole(path) as second:
        assert first != second
        first.write_text("first")
        second.write_text("second")
    assert path.read_text() == "first"  # the last to be complete
    assert names(tmp_path) == ["a.csv"]
