"""What a process of the command line does about streams, locales, signals and lost folders."""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress

import pytest

from mergebook.cli import app, main, process

COMMAND = f"{sys.executable} -m mergebook.cli"


def shell(command, **options):
    """Status, standard output and standard error of a line for the shell."""
    done = subprocess.run(["bash", "-c", command], capture_output=True, timeout=60, **options)
    return done.returncode, done.stdout, done.stderr.decode(errors="replace")


@pytest.mark.parametrize("arguments", ["list", "methods", "describe ties", "--help", "--version"])
@pytest.mark.parametrize(
    ("redirection", "problem"),
    [(">/dev/full", "No space left on device"), (">&-", "Bad file descriptor")],
)
def test_a_standard_output_that_takes_nothing(arguments, redirection, problem, root):
    status, _, err = shell(f"{COMMAND} {arguments} {redirection}", cwd=root)
    assert (status, err) == (2, f"mergebook: cannot write to standard output: {problem}\n")


@pytest.mark.parametrize("redirection", ["2>&-", "2>/dev/full"])
def test_a_standard_error_that_takes_nothing(redirection):
    assert shell(f"{COMMAND} describe tie {redirection}") == (2, b"", "")


def test_no_file_takes_the_number_of_a_closed_stream(tmp_path):
    code = """if True:
        import os
        from mergebook.cli import process
        process.prepare()
        number = os.open(__file__, os.O_RDONLY)
        assert number > 2
    """
    script = tmp_path / "x.py"
    script.write_text(code)
    assert shell(f"{sys.executable} {script} <&- >&- 2>&-")[0] == 0


@pytest.mark.parametrize(
    "locale", [{"LC_ALL": "C"}, {"PYTHONIOENCODING": "ascii"}, {"PYTHONUTF8": "0", "LC_ALL": "C"},
               {"LC_ALL": "POSIX", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"},
               {"PYTHONIOENCODING": "latin-1"}, {"PYTHONIOENCODING": "utf-16"}]
)  # fmt: skip
@pytest.mark.parametrize("arguments", ["list", "methods", "describe lata", "describe dogé"])
def test_titles_and_names_print_in_any_locale(locale, arguments, root):
    status, out, err = shell(f"{COMMAND} {arguments}", cwd=root, env=os.environ | locale)
    assert status == (2 if "é" in arguments else 0)
    assert "Traceback" not in err
    assert out or "é" in arguments


def test_a_working_folder_that_was_removed(tmp_path):
    folder = tmp_path / "gone"
    for arguments in ("list", "run x/y", "describe ties", "inspect x"):
        folder.mkdir()
        status, _, err = shell(f"rmdir {folder} && {COMMAND} {arguments}", cwd=folder)
        assert err.count("\n") <= 1
        assert "Traceback" not in err
        assert status == (0 if not err else 2)


def test_an_error_of_the_system_is_a_line_that_names_the_path(monkeypatch, capsys):
    for error, line in [
        (PermissionError(13, "Permission denied", "/a/b"), "/a/b: Permission denied"),
        (OSError(18, "Invalid cross-device link", "/a", None, "/b"),
         "/a -> /b: Invalid cross-device link"),
        (OSError("no route"), "no route"),
        (MemoryError(), "not enough memory"),
    ]:  # fmt: skip

        def fail(options, error=error):
            raise error

        monkeypatch.setattr(app.methods, "_methods", fail)
        assert main(["methods"]) == 2
        assert capsys.readouterr() == ("", f"mergebook: {line}\n")


def test_signals_that_the_caller_ignores_stay_ignored():
    code = "from mergebook.cli import process as p; import signal; p.prepare(); "
    code += "print(signal.getsignal(signal.SIGHUP) is p._stop)"
    for line, expected in (("", b"True\n"), ("trap '' HUP; ", b"False\n")):
        assert shell(f'{line}{sys.executable} -c "{code}"')[1] == expected


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP", "SIGINT"])
def test_a_signal_in_a_callback_of_asyncio_ends_its_loop(name, tmp_path):
    """As when a run is stopped while it takes a message of its kernel."""
    script = tmp_path / "loop.py"
    script.write_text(
        "import asyncio, os, signal, sys\n"
        "from mergebook.cli import app, notebooks\n"
        "async def wait():\n"
        f"    stop = os.kill, os.getpid(), signal.{name}\n"
        "    asyncio.get_running_loop().call_soon(*stop)\n"
        "    await asyncio.sleep(50)\n"
        "def listing(options):\n"
        "    asyncio.new_event_loop().run_until_complete(wait())\n"
        "notebooks._list = listing\n"
        "sys.argv = ['mergebook', 'list']\n"
        "sys.exit(app.main())\n"
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=30)
    assert done.returncode == 128 + getattr(signal, name)
    assert done.stderr.endswith("what was finished is kept\n")


def test_a_call_from_python_leaves_signals_and_streams_alone(capsys):
    before = signal.getsignal(signal.SIGTERM), sys.stdout
    assert main(["describe", "ties"]) == 0
    assert before == (signal.getsignal(signal.SIGTERM), sys.stdout)
    assert process.Stopped(signal.SIGHUP).number == signal.SIGHUP


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP", "SIGINT"])
def test_workers_end_with_the_process_that_started_them(name, tmp_path):
    """As `mergebook experts`, but with workers that would go on for long."""
    script = tmp_path / "pool.py"
    script.write_text(
        "import multiprocessing, os, sys, time\n"
        "from concurrent.futures import ProcessPoolExecutor\n"
        "from mergebook.cli import app, process, training\n"
        "def work(seconds):\n"
        "    os.write(1, f'{os.getpid()}\\n'.encode())\n"
        "    time.sleep(seconds)\n"
        "def experts(options):\n"
        "    context = multiprocessing.get_context('spawn')\n"
        "    with ProcessPoolExecutor(2, mp_context=context) as pool:\n"
        "        list(pool.map(work, [100] * 6))\n"
        "if __name__ == '__main__':\n"
        "    training._experts = experts\n"
        "    sys.argv = ['mergebook', 'experts']\n"
        "    sys.exit(app.main())\n"
    )
    started = subprocess.Popen(
        [sys.executable, script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    workers = [int(started.stdout.readline()) for _ in range(2)]
    started.send_signal(getattr(signal, name))
    _, err = started.communicate(timeout=20)
    assert started.returncode == 128 + getattr(signal, name)
    assert err.splitlines()[-1].endswith("what was finished is kept")
    assert "Traceback" not in err
    deadline = time.monotonic() + 10
    while any(map(alive, workers)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(alive, workers))


def alive(number):
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP", "SIGINT"])
def test_a_run_that_is_stopped_leaves_no_kernel_and_no_folder(name, notebook, tmp_path):
    text = notebook.path.read_text().replace(
        "print(num_tasks)",
        "import os, time; open('kernel', 'w').write(f'{os.getpid()} '); time.sleep(100)",
    )
    notebook.path.write_text(text)
    before = {path for path in tmp_path.rglob("*")}
    number = getattr(signal, name)
    command = [sys.executable, "-m", "mergebook.cli", "run", notebook.name, "--no-page"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as started:
        there = tmp_path / "kernel"
        while not (there.exists() and there.read_text().endswith(" ")):
            assert started.poll() is None
            time.sleep(0.05)
        assert any(path.name.endswith(".partial") for path in tmp_path.rglob("*"))
        kernel = int(there.read_text())
        started.send_signal(number)
        _, err = started.communicate(timeout=30)
    assert started.returncode == 128 + number
    assert "Traceback" not in err
    deadline = time.monotonic() + 10
    while alive(kernel) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not alive(kernel)
    assert {path for path in tmp_path.rglob("*")} == before | {there}


def test_the_next_run_removes_what_a_killed_one_left(notebook, tmp_path):
    waits = "(open('kernel', 'w').write(f'{os.getpid()} '), time.sleep(100))"
    text = notebook.path.read_text().replace(
        "print(num_tasks)", f"import os, time; os.path.exists('kernel') or {waits}"
    )
    notebook.path.write_text(text)
    command = [sys.executable, "-m", "mergebook.cli", "run", notebook.name, "--no-page"]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as started:
        there = tmp_path / "kernel"
        while not (there.exists() and there.read_text().endswith(" ")):
            assert started.poll() is None
            time.sleep(0.05)
        started.kill()
    with suppress(ProcessLookupError):  # it ends by itself, but not at once
        os.kill(int(there.read_text()), signal.SIGKILL)
    (left,) = tmp_path.rglob(".*.partial")
    assert left.is_dir()
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (left.parent / notebook.path.name).is_file()
    assert not list(tmp_path.rglob(".*.partial"))
