"""`mergebook inspect`: what a file holds, and which files it refuses."""

import json
import re

import pytest
import torch

import mergebook as mb
from commands import merge, run
from mergebook.weights import save_checkpoint


@pytest.mark.parametrize("method", ["averaging", "tall_ta", "magnitude_pruning", "fine_tuned"])
def test_inspect_a_merged_model(method, inputs, out, capsys):
    merged = merge(capsys, inputs, out, method, "--backbone", "mini-small")
    status, text, _ = run(capsys, "inspect", out)
    assert status == 0
    assert f"{out}: a merged model of kind {merged.kind!r}" in text
    assert "tasks: a, b, c\nbackbone: mini-small\n" in text
    assert f"  method: {method}\n" in text
    for name, value in merged.recipe["parameters"].items():
        assert f"  {name} = {value if isinstance(value, str) else json.dumps(value)}\n" in text
    for digest in merged.recipe["sha256"]["experts"].values():
        assert digest in text
    assert f"storage: {merged.storage().formula()}\n" in text
    tensors = dict(mb.Checkpoint(out))
    size = sum(tensor.nbytes for tensor in tensors.values())
    assert f"file: {out.stat().st_size:,} bytes, {size:,} of them tensors" in text
    rows = re.findall(r"^  (\w+) +([\d,]+) tensors +([\d,]+) entries +([\d,]+) bytes$", text, re.M)
    counted = {name: [int(n.replace(",", "")) for n in numbers] for name, *numbers in rows}
    for dtype in {tensor.dtype for tensor in tensors.values()}:
        of_type = [tensor for tensor in tensors.values() if tensor.dtype == dtype]
        assert counted.pop(str(dtype).removeprefix("torch.")) == [
            len(of_type), sum(t.numel() for t in of_type), sum(t.nbytes for t in of_type)
        ]  # fmt: skip
    assert counted == {}
    listed = [line.split()[0] for line in text.partition("\ntensors\n")[2].splitlines()]
    assert listed == []
    _, text, _ = run(capsys, "inspect", out, "--tensors")
    listed = [line.split()[0] for line in text.partition("\ntensors\n")[2].splitlines()]
    assert listed == sorted(tensors)


def test_inspect_a_checkpoint(tmp_path, capsys):
    state = {"w": torch.zeros(2, 3, dtype=torch.bfloat16), "n": torch.tensor(1)}
    path = save_checkpoint(state, tmp_path / "x.safetensors", {"format": "pt", "long": "x" * 999})
    status, text, _ = run(capsys, "inspect", path)
    assert status == 0
    lines = text.splitlines()
    assert lines[:3] == [f"{path}: a checkpoint", "metadata", "  format: pt"]
    assert f"  long: {'x' * 120}... (999 characters)" in lines
    assert lines[-3:] == ["tensors", "  n  int64      []", "  w  bfloat16   [2, 3]"]
    bare = save_checkpoint(state, tmp_path / "bare.safetensors")
    assert "metadata: none" in run(capsys, "inspect", bare)[1]


@pytest.mark.parametrize(
    ("field", "metadata"),
    [
        ("tasks", {}),
        ("tasks", {"tasks": "[3]"}),
        ("sizes", {"sizes": '{"trained": 3}'}),
        ("recipe", {"recipe": "not JSON"}),
        ("recipe", {"recipe": '{"sha256": {"x": 1}}'}),
        ("recipe", {"recipe": '{"sha256": {"base": "x", "experts": {"a": "x"}, "images": 3}}'}),
    ],
)
def test_inspect_refuses_damaged_metadata(field, metadata, tmp_path, capsys):
    path = tmp_path / "x.safetensors"
    good = {"sizes": '{"trained": {}, "frozen": {}}', "tasks": '["a"]', "recipe": "{}"}
    metadata = good | metadata if metadata else {}
    save_checkpoint({"w": torch.zeros(2)}, path, metadata | {"kind": "shared"})
    status, text, err = run(capsys, "inspect", path)
    assert (status, text) == (2, "")
    assert err.startswith(f"mergebook: {path}: ") and f"metadata field {field!r}" in err


def test_inspect_refuses_what_is_no_checkpoint(tmp_path, capsys):
    path = tmp_path / "x.safetensors"
    assert "checkpoint not found" in run(capsys, "inspect", path)[2]
    path.write_bytes(b"x" * 100)
    status, _, err = run(capsys, "inspect", path)
    assert status == 2
    assert str(path) in err
