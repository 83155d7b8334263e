"""A calibration refuses what does not fit, and says which task and field."""

from collections import OrderedDict

import pytest
import torch

import mergebook as mb
from mergebook.calibration import Calibration
from mergebook.errors import BackboneError, MethodError
from mergebook.weights import Experts

NEEDY = [name for name in mb.list_methods() if mb.get_method(name).needs]


def given(**changes) -> dict:
    """Six images and a head of three classes for each of two tasks, as arguments."""
    generator = torch.Generator().manual_seed(3)
    arguments = {
        "backbone": "mini-small",
        "inputs": {task: torch.randn(6, 3, 32, 32, generator=generator) for task in "ab"},
        "heads": {task: torch.randn(3, 64, generator=generator) for task in "ab"},
        "logit_scale": 20.0,
        "labels": {task: torch.tensor([0, 1, 2, 2, 1, 0]) for task in "ab"},
    }
    for field, value in changes.items():
        arguments[field] = {**arguments[field], "b": value}
    return arguments


IMAGES, HEAD, LABELS = torch.zeros(6, 3, 32, 32), torch.ones(3, 64), torch.zeros(6).long()


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("inputs", IMAGES.byte(), "or whole numbers [N, L], got uint8 [6, 3, 32, 32]"),
        (
            "inputs",
            IMAGES[:, :1],
            "must be floating point [N, 3, S, S], or whole numbers [N, L], got float32 [6, 1",
        ),
        ("inputs", IMAGES[0], "or whole numbers [N, L], got float32 [3, 32, 32]"),
        ("inputs", IMAGES.permute(0, 2, 3, 1), "got float32 [6, 32, 32, 3]"),
        ("inputs", IMAGES.numpy(), "or whole numbers [N, L], got a ndarray"),
        ("inputs", None, "got a NoneType"),
        ("inputs", IMAGES[:0], "calibration: task 'b' has no inputs"),
        ("inputs", IMAGES[:5], "calibration: task 'b' has 6 labels for 5 images"),
        ("heads", HEAD.long(), "must be floating point [C, D], got int64 [3, 64]"),
        ("heads", HEAD[0], "must be floating point [C, D], got float32 [64]"),
        ("heads", HEAD[:0], "calibration: task 'b' has no classes"),
        ("heads", HEAD[:, :8], "heads of task 'b' have width 8, those of task 'a' 64"),
        ("heads", HEAD[:2], "labels of task 'b' are from 0 to 2; its head has the classes 0 to 1"),
        ("labels", LABELS - 1, "labels of task 'b' are from -1 to -1"),
        ("labels", LABELS + 3, "labels of task 'b' are from 3 to 3; its head has the classes 0 to"),
        ("labels", LABELS.float(), "must be whole numbers [N], got float32 [6]"),
        ("labels", LABELS.bool(), "must be whole numbers [N], got bool [6]"),
        ("labels", LABELS[:, None], "must be whole numbers [N], got int64 [6, 1]"),
        ("labels", LABELS[:4], "calibration: task 'b' has 4 labels for 6 images"),
        ("labels", [0] * 6, "must be whole numbers [N], got a list"),
        ("labels", LABELS[:0], "calibration: task 'b' has no labels"),
    ],
)
def test_what_does_not_fit_is_named_by_task_and_field(field, value, message):
    Calibration(**given())
    with pytest.raises(MethodError) as caught:
        Calibration(**given(**{field: value}))
    assert message in str(caught.value)
    assert "task 'b'" in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"inputs": {}, "heads": {}, "labels": {}}, "there are no tasks"),
        ({"inputs": [IMAGES]}, "inputs must be a mapping of task to tensor, not a list"),
        ({"heads": HEAD}, "heads must be a mapping of task to tensor, not a Tensor"),
        ({"labels": LABELS}, "labels must be a mapping of task to tensor, not a Tensor"),
        ({"heads": {"a": HEAD}}, "images and heads differ in the tasks b"),
        ({"labels": {"a": LABELS, "b": LABELS, "c": LABELS}}, "images and labels differ in the"),
        ({"logit_scale": "20"}, "logit_scale must be a number, got '20'"),
        ({"logit_scale": float("nan")}, "logit_scale must be a number, got nan"),
    ],
)
def test_what_is_no_calibration_at_all_is_named(changes, message):
    with pytest.raises(MethodError, match=message):
        Calibration(**given() | changes)


def test_labels_of_every_whole_type_and_other_mappings_are_taken():
    for dtype in (torch.uint8, torch.int8, torch.int32, torch.int64):
        labels = OrderedDict(a=LABELS.to(dtype), b=LABELS.to(dtype))
        assert Calibration(**given() | {"labels": labels}).first(2).labels["a"].dtype == dtype


@pytest.fixture(scope="module")
def experts() -> Experts:
    from mergebook.towers import clip

    base = clip.load_backbone("mini-small").visual.state_dict()
    changed = {key: value * 1.01 for key, value in base.items()}
    return Experts(base, {"a": changed, "b": {**changed, "proj": base["proj"]}})


@pytest.mark.parametrize("name", NEEDY)
def test_every_method_refuses_images_and_heads_for_another_backbone(name, experts):
    small = {task: images[..., :16, :16] for task, images in given()["inputs"].items()}
    narrow = {task: head[:, :32] for task, head in given()["heads"].items()}
    for changes, error, message in (
        (
            {"inputs": small},
            MethodError,
            r"inputs of task 'a' are float32 \[6, 3, 16, 16\]; mini-small takes floating point "
            r"\[N, 3, 32, 32\]",
        ),
        ({"heads": narrow}, MethodError, "heads of task 'a' have width 32; features of mini-small"),
        ({"backbone": "mini"}, BackboneError, "unknown backbone 'mini'; did you mean 'minilm'"),
    ):
        with pytest.raises(error, match=message):
            mb.merge(name, experts, Calibration(**given() | changes))


@pytest.mark.parametrize("name", NEEDY)
def test_every_method_says_what_is_no_calibration(name, experts):
    for wrong in ("mini", given(), torch.zeros(2), experts):
        with pytest.raises(MethodError, match=f"{name} takes a Calibration after the experts, not"):
            mb.merge(name, experts, wrong)


@pytest.mark.parametrize("name", mb.list_methods())
def test_every_method_says_what_are_no_experts(name):
    for wrong in ({"w": torch.zeros(2)}, "experts", None, [1]):
        with pytest.raises(MethodError, match=rf"{name} takes Experts\(base, .*not a"):
            mb.merge(name, wrong)
