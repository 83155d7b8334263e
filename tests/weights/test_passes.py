"""How often a merge reads a file of an expert, and that what it finds on the way is right."""

import hashlib
import itertools
import tracemalloc
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mergebook.cli.files import merge_files
from mergebook.weights import Checkpoint, Experts, save_checkpoint
from mergebook.weights.digest import Digest
from strategies import cases

BLOCK = {
    "attn.in_proj_weight": (96, 32),
    "attn.out_proj.weight": (32, 32),
    "ln_1.weight": (32,),
    "mlp.c_fc.weight": (64, 32),
}
# Passes over an expert: reading it for the first time finds out what was changed and hashes it.
PASSES = {
    "averaging": 1,
    "cart": 1,
    "consensus_ta": 1,
    "ties": 3,
    "consensus_ties": 3,
    "pcb": 5,  # two for quantiles of magnitudes, two for those of the scores that follow from them
}


@pytest.fixture
def files(tmp_path):
    """A base and three experts on disk."""
    rng = np.random.default_rng(0)

    def tensor(shape):
        return torch.from_numpy(rng.normal(size=shape).astype(np.float32))

    names = {f"blocks.{b}.{name}": shape for b in range(3) for name, shape in BLOCK.items()}
    states = [{key: tensor(shape) for key, shape in names.items()} for _ in range(4)]
    for state in states:
        state["text"] = torch.ones(8, 8)  # frozen
        state["steps"] = torch.tensor(3)
    paths = [
        save_checkpoint(state, tmp_path / f"{i}.safetensors") for i, state in enumerate(states)
    ]
    return paths[0], dict(zip("abc", paths[1:], strict=True))


@pytest.fixture
def read(monkeypatch) -> Counter:
    """Bytes that are read of each file, tensor by tensor or for the hash alone."""
    bytes_read: Counter = Counter()
    get, read_to = Checkpoint.__getitem__, Digest._read_to

    def counted(self, key):
        tensor = get(self, key)
        bytes_read[self.path] += tensor.nbytes
        return tensor

    def counted_for_the_hash(self, stop):
        before = self._done
        read_to(self, stop)
        bytes_read[self.path] += self._done - before

    monkeypatch.setattr(Checkpoint, "__getitem__", counted)
    monkeypatch.setattr(Digest, "_read_to", counted_for_the_hash)
    return bytes_read


@pytest.mark.parametrize("dtype", [None, "float16"])
@pytest.mark.parametrize("method", PASSES)
def test_a_file_is_read_no_more_often_than_the_method_needs(method, dtype, files, read, tmp_path):
    base, experts = files
    merged = merge_files(method, base, experts, tmp_path / "out.safetensors", dtype=dtype)
    for path in experts.values():
        assert 0.9 < read[path] / path.stat().st_size <= PASSES[method] + 0.05
    assert merged.recipe["sha256"] == {
        "base": hashlib.sha256(base.read_bytes()).hexdigest(),
        "experts": {t: hashlib.sha256(p.read_bytes()).hexdigest() for t, p in experts.items()},
    }


def test_iterating_again_reads_the_trained_tensors_alone(files, read):
    base, experts = files
    opened = Experts(base, experts)
    once = [layer.name for layer in opened]
    read.clear()
    assert [layer.name for layer in opened] == once == list(opened.trained)
    trained = sum(opened.base[key].nbytes for key in once)
    assert all(read[path] == trained for path in experts.values())


@given(case=cases(dtypes=(torch.float32, torch.float16)))
def test_what_is_found_while_streaming_is_what_a_comparison_finds(case):
    alone, streamed = case.load(), case.load()
    layers = {layer.name: layer for layer in streamed}
    assert tuple(layers) == streamed.trained == alone.trained
    assert streamed.sizes == alone.sizes
    for name, layer in layers.items():
        assert torch.equal(layer.deltas, alone.layer(name).deltas)
        assert layer.deltas.dtype == alone.dtype


STACKED = {"attn.in_proj_weight": (6, 4), "attn.in_proj_bias": (6,)}
SEPARATE = {f"attn.{x}_proj.weight": (rows, 4) for x, rows in zip("qkv", (4, 2, 2), strict=True)}


@pytest.mark.parametrize("first", [("fused",), ("split",), ("split", "fused"), (None,), ()])
@pytest.mark.parametrize("shapes", [STACKED, SEPARATE])
@pytest.mark.parametrize("changed", [*itertools.product((False, True), repeat=3)])
def test_arrangements_share_what_they_find(changed, shapes, first):
    base = {key: torch.zeros(shape) for key, shape in shapes.items()} | {"w": torch.zeros(2)}
    expert = {key: tensor.clone() for key, tensor in base.items()} | {"w": torch.ones(2)}
    for number, name in enumerate("qkv"):
        if changed[number] and shapes is STACKED:
            expert["attn.in_proj_weight"].tensor_split(3)[number][:] = 1
        elif changed[number]:
            expert[f"attn.{name}_proj.weight"][:] = 1
    plain, shared = Experts(base, {"a": base, "b": expert}), Experts(base, {"a": base, "b": expert})
    for arrangement in first:
        list(shared if arrangement is None else shared.arranged(arrangement))
    for arrangement in ("fused", "split"):
        fresh = Experts(base, {"a": base, "b": expert}).arranged(arrangement)
        again = shared.arranged(arrangement)
        assert [layer.name for layer in again] == list(fresh.trained) == list(again.trained)
        for layer in again:
            assert torch.equal(layer.deltas, fresh.layer(layer.name).deltas)
    assert shared.trained == plain.trained and shared.sizes == plain.sizes


TYPES = (torch.float32, torch.bfloat16, torch.int64, torch.bool, torch.float64)


@given(
    sizes=st.lists(st.tuples(st.integers(0, 40), st.sampled_from(TYPES)), min_size=1, max_size=6),
    order=st.randoms(use_true_random=False),
    gap=st.sampled_from((0, 64, 1 << 20)),
)
def test_the_hash_does_not_depend_on_the_order_of_reading(sizes, order, gap, tmp_path_factory):
    tensors = {f"t{i}": torch.arange(n).to(kind) for i, (n, kind) in enumerate(sizes)}
    path = save_checkpoint(tensors, tmp_path_factory.mktemp("hash") / "w.safetensors")
    file, names = Checkpoint(path), [*tensors, *list(tensors)[:2]]
    order.shuffle(names)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mergebook.weights.digest.GAP", gap)
        file.hash_while_reading()
        for name in names:
            assert torch.equal(file[name], tensors[name])
        expected = hashlib.sha256(path.read_bytes()).hexdigest()
        assert file.sha256() == expected == file.sha256() == Checkpoint(path).sha256()


def test_hashing_does_not_read_a_file_whole(tmp_path):
    path = save_checkpoint({"w": torch.arange(2**21)}, tmp_path / "large.safetensors")
    file = Checkpoint(path)
    tracemalloc.start()
    digest = file.sha256()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < path.stat().st_size / 4
    assert digest == hashlib.sha256(path.read_bytes()).hexdigest()
