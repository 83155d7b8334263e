"""Merged models: per task or shared, saved and loaded, and asked for what they do not have."""

import errno
import json

import pytest
import torch

import mergebook as mb
from mergebook.errors import CheckpointError, MethodError
from mergebook.merged import MaskedModel, SharedModel, SparseModel, TaskModels
from mergebook.weights import Checkpoint, Experts, checkpoint, save_checkpoint

KINDS = {
    "task_arithmetic": SharedModel,
    "tall_ta": MaskedModel,
    "magnitude_pruning": SparseModel,
    "fine_tuned": TaskModels,
}
PER_TASK = [name for name in KINDS if name != "task_arithmetic"]


@pytest.fixture
def experts() -> Experts:
    torch.manual_seed(0)
    base = {"a": torch.randn(3, 5), "b": torch.randn(()), "frozen": torch.randn(2)}
    tasks = {
        task: base | {key: base[key] + torch.randn_like(base[key]) for key in "ab"}
        for task in ("cars", "odd/name: 2", "digits")
    }
    return Experts(base, tasks, frozen_extra=10, backbone="mini-small")


@pytest.mark.parametrize("name", KINDS)
def test_save_and_load(name, experts, tmp_path):
    merged = mb.merge(name, experts)
    path = merged.save(tmp_path / "solution.safetensors")
    again = mb.load_merged(path)
    assert type(again) is type(merged) is KINDS[name]
    assert (again.tasks, again.recipe, again.backbone) == (
        experts.tasks, merged.recipe, "mini-small",
    )  # fmt: skip
    assert again.storage().formula() == merged.storage().formula()
    for task in experts.tasks:
        left, right = merged.state_dict(task), again.state_dict(task)
        assert left.keys() == right.keys()
        assert all(torch.equal(left[key], right[key]) for key in left)
    header = Checkpoint(path).metadata
    assert json.loads(header["recipe"])["method"] == name


def test_saving_what_was_loaded_over_its_own_file(experts, tmp_path):
    path = mb.merge("tall_ta", experts).save(tmp_path / "solution.safetensors")
    loaded = mb.load_merged(path)
    before = loaded.state_dict("cars")
    loaded.save(path)
    after = mb.load_merged(path).state_dict("cars")
    assert all(torch.equal(before[key], after[key]) for key in before)


def test_file_of_a_shared_model_is_a_plain_checkpoint(experts, tmp_path):
    path = mb.merge("averaging", experts).save(tmp_path / "average.safetensors")
    file = Checkpoint(path)
    assert set(file) == {"a", "b", "frozen"}
    assert Experts(path, {"one": path}).backbone == "mini-small"


@pytest.mark.parametrize("name", KINDS)
def test_unknown_task_lists_the_tasks(name, experts):
    merged = mb.merge(name, experts)
    with pytest.raises(MethodError, match=r"unknown task 'car'; did you mean 'cars'\?.*digits"):
        merged.state_dict("car")


@pytest.mark.parametrize("name", PER_TASK)
def test_a_task_is_needed_where_solutions_differ(name, experts):
    with pytest.raises(MethodError, match=r"differs by task; choose from: cars, odd/name: 2"):
        mb.merge(name, experts).state_dict()


def test_encoder_needs_a_backbone(experts):
    merged = mb.merge("averaging", experts)
    merged.backbone = None
    with pytest.raises(MethodError, match="backbone is not known"):
        merged.encoder()


def test_encoder_asks_for_the_backbone_with_the_weights_of_the_task(experts, monkeypatch):
    from mergebook.towers import clip

    monkeypatch.setattr(clip, "visual_encoder", lambda name, state: (name, state))
    merged = mb.merge("tall_ta", experts)
    name, state = merged.encoder("digits")
    assert name == "mini-small"
    assert torch.equal(state["a"], merged.state_dict("digits")["a"])


def test_files_that_hold_no_solution(tmp_path):
    path = save_checkpoint({"w": torch.zeros(2)}, tmp_path / "plain.safetensors")
    with pytest.raises(CheckpointError, match=r"plain.safetensors holds no merged model"):
        mb.load_merged(path)
    with pytest.raises(CheckpointError, match="not found"):
        mb.load_merged(tmp_path / "none.safetensors")


@pytest.mark.parametrize("name", KINDS)
def test_full_disk_leaves_the_former_file(name, experts, tmp_path, monkeypatch):
    path = mb.merge("averaging", experts).save(tmp_path / "solution.safetensors")
    before = path.read_bytes()

    def full_disk(tensors, target, metadata=None):
        target.write_bytes(b"half of it")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(checkpoint, "save_file", full_disk)
    with pytest.raises(CheckpointError, match=r"cannot write .*solution.safetensors"):
        mb.merge(name, experts).save(path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


# ------------------------------------------------------------------ files that lie

LIES = (
    "", "null", "3", "[]", "{}", '"x"', '["a"]', '["a", "a"]', "[1, 2]", "NaN", "1" * 5000,
    "[" * 100_000, '{"a":' * 3000, '{"trained": 3}', '{"trained": {"x": 1}, "frozen": {}}',
    '{"trained": {"32": -1}, "frozen": {}}', '{"trained": {"32": 1e400}, "frozen": {}}',
)  # fmt: skip
SAVED = ("tall_ta", "magnitude_pruning", "fine_tuned", "tvq", "t_switch", "impart", "tsv_c",
         "se_merging", "emr", "averaging")  # fmt: skip


def use(path) -> None:
    """What can be asked of a file without an image."""
    merged = mb.load_merged(path)
    merged.storage().formula()
    for task in merged.tasks:
        merged.head(task)
        try:
            merged.state_dict(task)
        except MethodError:  # such as weights that depend on the image
            continue


def leaves(value, path=()):
    """Places of a JSON value."""
    yield path
    if isinstance(value, dict | list):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield from leaves(value[key], (*path, key))


def replaced(text: str, path: tuple, new) -> str:
    """JSON with another value at one of its places."""
    value = json.loads(text)
    if not path:
        return json.dumps(new)
    inner = value
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = new
    return json.dumps(value)


@pytest.fixture(params=SAVED)
def saved(request, tmp_path):
    """Tensors and metadata of a file of each kind."""
    torch.manual_seed(0)
    names = {"attn.in_proj_weight": (12, 4), "mlp.c_fc.weight": (8, 4), "ln_1.weight": (4,)}
    base = {f"blocks.0.{key}": torch.randn(shape) for key, shape in names.items()}
    experts = {
        task: {key: value + torch.randn_like(value) / 9 for key, value in base.items()}
        for task in "ab"
    }
    merged = mb.merge(request.param, Experts(base, experts))
    file = Checkpoint(merged.save(tmp_path / "good.safetensors"))
    return {key: file[key].clone() for key in file}, file.metadata


def one_line_or_fine(tensors, metadata, path) -> None:
    save_checkpoint(tensors, path, metadata)
    try:
        use(path)
    except CheckpointError as error:
        assert str(path) in str(error) and "\n" not in str(error) and len(str(error)) < 600


def test_metadata_that_lie_are_named(saved, tmp_path):
    tensors, metadata = saved
    path = tmp_path / "lie.safetensors"
    for field in metadata:
        for lie in LIES:
            one_line_or_fine(tensors, metadata | {field: lie}, path)
        one_line_or_fine(tensors, {k: v for k, v in metadata.items() if k != field}, path)
        if field in ("kind", "backbone"):
            continue
        places = list(leaves(json.loads(metadata[field])))
        for place in places[:12]:
            for new in (None, -1, 10**20, "zz", [], {}):
                changed = metadata | {field: replaced(metadata[field], place, new)}
                one_line_or_fine(tensors, changed, path)


def test_tensors_that_do_not_fit_are_named(saved, tmp_path):
    tensors, metadata = saved
    path = tmp_path / "lie.safetensors"
    for key, tensor in tensors.items():
        rest = {name: other for name, other in tensors.items() if name != key}
        one_line_or_fine(rest, metadata, path)
        one_line_or_fine({**rest, key: tensor.reshape(-1)[:1]}, metadata, path)
        one_line_or_fine({**rest, key: tensor.to(torch.int64)}, metadata, path)


def test_tasks_and_recipe_of_a_file(experts, tmp_path):
    file = Checkpoint(mb.merge("averaging", experts).save(tmp_path / "good.safetensors"))
    tensors, path = dict(file), tmp_path / "lie.safetensors"
    for field, lie, message in (
        ("tasks", "[1, 2]", "'tasks' must be a list of different names, is [1, 2]"),
        ("sizes", '{"trained": {"32": 1}}', "'sizes' does not give numbers of trained and frozen"),
        ("recipe", '{"parameters": 3}', "'recipe' is not a recipe, but {'parameters': 3}"),
        ("recipe", "[" * 10_000, "'recipe' is not readable (maximum recursion depth"),
    ):
        save_checkpoint(tensors, path, file.metadata | {field: lie})
        with pytest.raises(CheckpointError) as caught:
            mb.load_merged(path)
        assert f"{path}: metadata field {message}" in str(caught.value)
