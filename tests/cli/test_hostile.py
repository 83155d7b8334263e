"""Input that nobody means: one line says what is wrong, and nothing is written or left behind."""

import json
import struct

import pytest

import mergebook as mb
from commands import refused, run, save, states
from mergebook.cli import app, main

# What is no number, or none that a parameter can be.
NO_NUMBER = ["", " ", "2020-13-45", "9" * 5000, "1" + "0" * 400, "-1e400", "1e400", "[" * 5000,
             "{" * 3000, "[" * 900 + "]" * 900, "&a [*a]", "&a [*b, *b]", "*a", "!!python/name:os",
             "nan", "inf", "-inf", "0x10", "1_000", "٣", "1,000", "null", "~", "yes", "[0.2]",
             "{a: 0.2}", '"0.2"', "1e", "--", "\n", "0.2\n0.3", "\x1b[31m", "a:" * 2000,
             "a:0.3,b:{c: 1}", '{"a":0.3', "a:0.3;b:0.2", "\\", "$(id)", "\udcff"]  # fmt: skip
NO_WHOLE_NUMBER = ["", "-1", "1.5", "1e3", "x", "True", str(10**30), "9" * 5000, "٣", "\udcff"]


def line(message):
    """The one line that a refusal is, however long what was given is."""
    assert message.startswith(("mergebook: ", "usage: "))
    text = message.rpartition("error: ")[2]
    assert text.count("\n") == 1 and len(text) < 1500
    return text


@pytest.mark.parametrize("value", NO_NUMBER)
def test_a_value_that_is_none(value, inputs, out, capsys):
    message = line(refused(capsys, inputs, out, "ties", "--set", f"density={value}"))
    assert "density" in message
    message = line(refused(capsys, inputs, out, "tall_ta", "--set", f"threshold={value}"))
    assert "threshold" in message


@pytest.mark.parametrize(
    "value", ["a:1,a:2,b:1,c:1", '{"a": 1, "a": 2, "b": 1, "c": 1}', "a:1, a :2,b:1,c:1", "a:1,b:1",
              "a:1,b:1,c:1,d:1", ",".join(f"t{number}:0.1" for number in range(3000))]
)  # fmt: skip
def test_a_mapping_that_does_not_name_each_task_once(value, inputs, out, capsys):
    refused(capsys, inputs, out, "tall_ta", "--set", f"threshold={value}")


@pytest.mark.parametrize("option", ["--images", "--frozen-extra"])
@pytest.mark.parametrize("value", NO_WHOLE_NUMBER)
def test_a_number_of_a_merge_that_is_none(option, value, inputs, out, capsys):
    assert option in line(refused(capsys, inputs, out, "averaging", option, value))


@pytest.mark.parametrize("option", ["--jobs", "--seed", "--num-tasks", "--steps"])
@pytest.mark.parametrize("value", NO_WHOLE_NUMBER)
def test_a_number_of_a_training_that_is_none(option, value, capsys):
    status, _, err = run(capsys, "experts", option, value)
    assert status == 2
    assert option in line(err)


def test_numbers_larger_than_any_machine_are_refused(inputs, out, capsys):
    """Whole numbers without an end would reach torch, or never end."""
    for name in mb.list_methods():
        method = mb.get_method(name)
        if method.needs:
            continue
        for each in method.parameters:
            if each.type != "int":
                continue
            for value in (2**63, 10**30):
                setting = f"{each.name}={value}"
                assert each.name in line(refused(capsys, inputs, out, name, "--set", setting))
    for name, setting in [("cabs", "m=1000000000000"), ("doge", "steps=1000000000000"),
                          ("awd", "steps=1000000000000"), ("cabs", "n=1000000000000")]:  # fmt: skip
        refused(capsys, inputs, out, name, "--set", setting)


@pytest.mark.parametrize("name", ["", "x\ny", "\udcff", "\u200b", "\x1b[2J", "a\tb", "=", "a=b=c"])
def test_a_name_that_cannot_be_printed_or_read(name, inputs, out, capsys):
    line(refused(capsys, [*inputs, "--expert", f"{name}=x"], out, "fine_tuned"))
    line(refused(capsys, inputs, out, "ties", "--set", f"{name}=1"))


@pytest.mark.parametrize("name", ["self", "experts", "__class__", "x" * 9000, "densité"])
def test_a_parameter_that_is_none(name, inputs, out, capsys):
    message = line(refused(capsys, inputs, out, "ties", "--set", f"{name}=1"))
    assert "unknown parameter" in message


def test_names_that_are_odd_but_fine(tmp_path, out, capsys):
    """Names of tasks are texts: in files, recipes and messages they stay what they are."""
    base, experts = states()
    tasks = ["a/b", "b", "ä ö", "..", "{x}", "__metadata__", "base", "a:b", "😀"]
    files = dict(zip(tasks, [*experts.values()] * 3, strict=True))
    places = {task: str(number) for number, task in enumerate(tasks)}
    options = save(tmp_path, base, {places[task]: state for task, state in files.items()})
    options = options[:2]
    for task in tasks:
        options += ["--expert", f"{task}={tmp_path / places[task]}.safetensors"]
    for method in ("fine_tuned", "tall_ta", "tvq", "averaging"):
        call = ["merge", "--method", method, *options, "--out", out, "--force"]
        assert run(capsys, *call)[0] == 0
        merged = mb.load_merged(out)
        assert merged.tasks == tuple(tasks)
        if method == "fine_tuned":
            for task in tasks:
                assert (merged.state_dict(task)["proj"] == files[task]["proj"]).all()
        status, text, _ = run(capsys, "inspect", out)
        assert status == 0 and "tasks: a/b, b, ä ö" in text


# ---------------------------------------------------------------------- files that lie


def header(content, data=b"\0" * 4):
    text = content if isinstance(content, bytes) else json.dumps(content).encode()
    return struct.pack("<Q", len(text)) + text + data


def tensor(**changes):
    return {"w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]} | changes}


DEEP = "[" * 100_000 + "]" * 100_000
TRUE = {"kind": "shared", "tasks": '["a"]', "sizes": '{"trained":{"32":1},"frozen":{}}',
        "recipe": '{"method":"ties","parameters":{}}'}  # fmt: skip
LIES = [{"tasks": text} for text in ("[1, 2]", "5", "null", '[["a"]]', "[", DEEP)]
LIES += [{"recipe": text} for text in ("[]", "5", "null", '"x"', DEEP, '{"sha256": 5}',
                                       '{"sha256": {"base": {}, "experts": []}}',
                                       '{"parameters": [1]}')]  # fmt: skip
LIES += [{"sizes": text} for text in ("[]", "{}", DEEP, '{"trained": {"x": 1}, "frozen": {}}',
                                      '{"trained": {"32": 1e999}, "frozen": {}}',
                                      '{"trained": {"32": "x"}, "frozen": {}}')]  # fmt: skip


@pytest.mark.parametrize("lie", LIES, ids=lambda lie: "{}={:.30}".format(*next(iter(lie.items()))))
def test_metadata_that_lie(lie, tmp_path, capsys):
    path = tmp_path / "x"
    path.write_bytes(header({"__metadata__": TRUE | lie} | tensor()))
    status, text, err = run(capsys, "inspect", path)
    assert (status, text) == (2, "")
    assert str(path) in line(err)


@pytest.mark.parametrize(
    "content",
    [
        b"", b"hello", b"\0" * 7, struct.pack("<Q", 2**60) + b"{}", header(b""), header(b"{{{{"),
        header(b"{}"), header(tensor(shape=[-1])), header(tensor(shape=[2**40])),
        header(tensor(dtype="F8_E4M3")), header(tensor(data_offsets=[0, 2**42])),
        header(tensor(data_offsets=[4, 0])), header(tensor(), b"\0" * 5), header(tensor(), b"\0"),
        header(tensor() | {"v": tensor()["w"]}), header(DEEP.encode()),
    ],
)  # fmt: skip
def test_a_file_that_is_no_checkpoint(content, inputs, out, tmp_path, capsys):
    path = tmp_path / "x"
    path.write_bytes(content)
    for call in (["--base", path, *inputs[2:]], [*inputs, "--expert", f"d={path}"]):
        assert str(path) in line(refused(capsys, call, out, "averaging"))
    if content != header(b"{}"):  # a checkpoint without tensors
        assert str(path) in line(run(capsys, "inspect", path)[2])


# ---------------------------------------------------------------------- the rest


@pytest.mark.parametrize("name", ["nope", "cuda:99", "meta", "\udcff", "x" * 5000])
def test_a_device_that_is_none_is_refused_before_the_work(name, capsys, monkeypatch):
    monkeypatch.setattr("mergebook.training.pretrain", lambda *given, **options: 1 / 0)
    status, _, err = run(capsys, "pretrain", "mini-small", "--device", name)
    assert status == 2
    assert err.startswith("mergebook: --device ")


@pytest.mark.parametrize("suite", ["loop", "text", "missing", "x" * 300, "text/x", "~nouser", ""])
def test_a_suite_that_is_none(suite, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MERGEBOOK_CHECKPOINTS", str(tmp_path))
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "text").touch()
    for name in (suite, f"./{suite}"):
        status, _, err = run(capsys, "experts", "--suite", name)
        assert status == 2
        line(err)
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize(
    ("problem", "text"),
    [
        ("[enforce fail at alloc.cpp] DefaultCPUAllocator: can't allocate memory: you tried to "
         "allocate 8000 bytes. Error code 12", "you tried to allocate 8000 bytes"),
        ("CUDA out of memory. Tried to allocate 2 GiB", "CUDA out of memory"),
    ],
)  # fmt: skip
def test_memory_that_is_not_there(problem, text, monkeypatch, capsys):
    def fail(options):
        raise RuntimeError(problem)

    monkeypatch.setattr(app.methods, "_methods", fail)
    assert main(["methods"]) == 2
    assert capsys.readouterr().err == f"mergebook: not enough memory ({text})\n"
    problem = "a flaw of ours"
    with pytest.raises(RuntimeError, match="a flaw of ours"):
        main(["methods"])
