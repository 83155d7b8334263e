"""Checkpoints: lazy reading, whole writing, and damaged files."""

import errno
import os
import pickle

import pytest
import torch
from safetensors.torch import save_file

from mergebook.errors import CheckpointError
from mergebook.weights import Checkpoint, checkpoint, save_checkpoint

STATE = {
    "w": torch.randn(3, 4),
    "half": torch.randn(5).to(torch.bfloat16),
    "scalar": torch.tensor(2.5),
    "empty": torch.zeros(0, 3),
    "steps": torch.tensor([1, 2]),
    "flags": torch.tensor([True, False]),
}


@pytest.fixture
def path(tmp_path):
    return save_checkpoint(STATE, tmp_path / "model.safetensors", {"backbone": "mini-small"})


def test_equal_content_gives_equal_bytes(tmp_path):
    metadata = {f"key {i}": f'value "{i}"\n\u00e9\x01' for i in range(12)}
    tensors = {"b": torch.arange(3.0), "a": torch.ones(2, 2)}
    files = [save_checkpoint(tensors, tmp_path / f"{i}.safetensors", metadata) for i in range(4)]
    assert len({file.read_bytes() for file in files}) == 1
    again = Checkpoint(files[0])
    assert again.metadata == metadata
    assert torch.equal(again["b"], tensors["b"]) and torch.equal(again["a"], tensors["a"])


def test_round_trip(path):
    file = Checkpoint(path)
    assert set(file) == set(STATE)
    assert len(file) == len(STATE)
    assert file.metadata == {"backbone": "mini-small"}
    for key, tensor in STATE.items():
        assert torch.equal(file[key], tensor)
        assert (file.shape(key), file.dtype(key)) == (tuple(tensor.shape), tensor.dtype)


def test_travels_to_another_process_by_path(path):
    again = pickle.loads(pickle.dumps(Checkpoint(path)))
    assert torch.equal(again["w"], STATE["w"])


def test_unknown_tensor_is_a_key_error_that_names_the_file(path):
    file = Checkpoint(path)
    assert "nope" not in file
    with pytest.raises(KeyError, match=r"model\.safetensors has no tensor 'nope'"):
        file["nope"]


def test_shared_memory_and_strides_are_written_out(tmp_path):
    weight = torch.arange(6.0).reshape(2, 3)
    state = {"in": weight, "out": weight, "transposed": weight.t()}
    file = Checkpoint(save_checkpoint(state, tmp_path / "tied.safetensors"))
    for key, tensor in state.items():
        assert torch.equal(file[key], tensor)


def test_makes_folders_and_a_file_that_others_may_read(tmp_path):
    path = save_checkpoint(STATE, tmp_path / "a" / "b" / "model.safetensors")
    reference = tmp_path / "reference"
    reference.touch()
    assert path.stat().st_mode == reference.stat().st_mode
    assert [file.name for file in path.parent.iterdir()] == ["model.safetensors"]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda raw: b"", "is empty"),
        (lambda raw: raw[:-3], "truncated"),
        (lambda raw: raw[:20], "truncated"),
        (lambda raw: raw[:4], "truncated"),
        (lambda raw: b"PK\x03\x04 a pickled module " * 9, "not a safetensors file"),
    ],
)
def test_damaged_files_are_named(path, damage, message):
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(CheckpointError, match=message) as caught:
        Checkpoint(path)
    assert str(path) in str(caught.value)


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(CheckpointError, match=r"not found: .*none\.safetensors"):
        Checkpoint(tmp_path / "none.safetensors")
    with pytest.raises(CheckpointError, match="not a checkpoint file"):
        Checkpoint(tmp_path)


def test_unsupported_type_is_named(tmp_path):
    path = tmp_path / "complex.safetensors"
    save_file({"spectrum": torch.zeros(2, dtype=torch.complex64)}, path)
    with pytest.raises(CheckpointError, match=r"'spectrum' of .* type C64; choose from: F64"):
        Checkpoint(path)


def full_disk(tensors, path, metadata=None):
    """Write a few bytes, then fail as a full disk does."""
    path.write_bytes(b"half of it")
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("existing", [True, False])
def test_full_disk_leaves_nothing_half_written(tmp_path, monkeypatch, existing):
    path = tmp_path / "model.safetensors"
    if existing:
        save_checkpoint(STATE, path)
    before = {file: file.read_bytes() for file in tmp_path.iterdir()}
    monkeypatch.setattr(checkpoint, "save_file", full_disk)
    with pytest.raises(CheckpointError, match=r"cannot write .*model\.safetensors.*No space left"):
        save_checkpoint({"w": torch.zeros(2)}, path)
    assert {file: file.read_bytes() for file in tmp_path.iterdir()} == before


def test_interruption_leaves_nothing_half_written(tmp_path, monkeypatch):
    def interrupted(tensors, path, metadata=None):
        path.write_bytes(b"half of it")
        raise KeyboardInterrupt

    monkeypatch.setattr(checkpoint, "save_file", interrupted)
    with pytest.raises(KeyboardInterrupt):
        save_checkpoint(STATE, tmp_path / "model.safetensors")
    assert list(tmp_path.iterdir()) == []


def test_target_that_is_a_folder(tmp_path):
    (tmp_path / "model.safetensors").mkdir()
    with pytest.raises(CheckpointError, match="cannot write"):
        save_checkpoint(STATE, tmp_path / "model.safetensors")
    assert [file.name for file in tmp_path.iterdir()] == ["model.safetensors"]


def test_a_file_without_tensors_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match=r"empty\.safetensors: there are no tensors"):
        save_checkpoint({}, tmp_path / "empty.safetensors")
    assert list(tmp_path.iterdir()) == []


UNSTORABLE = [
    ({"__metadata__": torch.ones(1)}, "no tensor may be called '__metadata__'"),
    ({3: torch.ones(1)}, "the name 3 is a int, not a text"),
    ({"w": [1.0]}, "entry 'w' is a list, not a tensor"),
    ({"w": torch.ones(1, device="meta")}, "tensor 'w' has no values"),
    ({"w": torch.ones(2).to_sparse()}, r"tensor 'w' is not dense \(torch.sparse_coo\)"),
    ({"w": torch.ones(2).to(torch.float8_e4m3fn)}, "'w' has the unsupported element type torch.fl"),
    ({"w": torch.ones(2, dtype=torch.complex64)}, "'w' has the unsupported element type torch.co"),
    ([("w", torch.ones(1))], "must be mappings"),
]


@pytest.mark.parametrize(("tensors", "message"), UNSTORABLE)
def test_what_no_file_can_hold_is_refused(tensors, message, tmp_path):
    path = save_checkpoint(STATE, tmp_path / "model.safetensors")
    before = path.read_bytes()
    with pytest.raises(CheckpointError, match=rf"cannot write .*model\.safetensors: .*{message}"):
        save_checkpoint(tensors, path)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["model.safetensors"]


@pytest.mark.parametrize("metadata", [{"a": 3}, {3: "a"}, ["a"], {"a": "\ud800"}])
def test_metadata_must_be_text(metadata, tmp_path):
    with pytest.raises(CheckpointError, match=r"cannot write .*model\.safetensors"):
        save_checkpoint(STATE, tmp_path / "model.safetensors", metadata)
    assert list(tmp_path.iterdir()) == []


def test_a_device_is_not_replaced(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(CheckpointError, match="no file that could be replaced"):
        save_checkpoint(STATE, pipe)
    assert pipe.is_fifo()


@pytest.mark.parametrize("path", [3, None, "a\0b", "x" * 5000, "/dev/null", "/dev/null/x"])
def test_odd_paths_are_refused_in_one_line(path):
    for call in (Checkpoint, lambda path: save_checkpoint(STATE, path)):
        with pytest.raises(CheckpointError) as caught:
            call(path)
        assert "\n" not in str(caught.value)
