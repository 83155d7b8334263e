"""The registry: what a declaration must have, and what a call may pass."""

import ast
import pickle
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal, get_args

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import mergebook as mb
from mergebook import registry
from mergebook.errors import CheckpointError, MethodError, ParameterError
from mergebook.merged import MergedModel, SharedModel
from mergebook.registry import PerTask, Range, merge_method, model_method
from mergebook.registry import register as catalogue
from mergebook.registry.docs import documented as documented_in
from mergebook.weights import Experts


@pytest.fixture(autouse=True, scope="module")
def own_registry():
    """Methods that these tests register are gone after them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(catalogue, "_METHODS", dict(catalogue._METHODS))
        yield


@pytest.fixture
def experts() -> Experts:
    base = {"w": torch.zeros(3)}
    return Experts(base, {"one": {"w": torch.ones(3)}, "two": {"w": 2 * torch.ones(3)}})


def names_in_the_sources() -> list[str]:
    """First arguments of the decorators that register, read from the files."""
    return [
        decorator.args[0].value
        for path in Path(mb.__file__).parent.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef)
        for decorator in node.decorator_list
        if isinstance(decorator, ast.Call)
        and getattr(decorator.func, "id", "") in ("merge_method", "model_method")
    ]


def test_names_are_sorted_and_those_of_the_sources():
    assert list(mb.list_methods()) == sorted(names_in_the_sources())
    assert len(set(mb.list_methods())) == len(mb.list_methods())


@pytest.mark.parametrize("name", registry.list_methods())
def test_declarations_are_complete(name):
    method = mb.get_method(name)
    assert (method.name, method.check()) == (name, {p.name: p.default for p in method.parameters})
    assert method.title
    assert method.family in registry.FAMILIES
    assert method.doc
    assert method.needs in {(), ("images",), ("images", "labels")}
    assert method.status in get_args(registry.Status)
    for parameter in method.parameters:
        assert parameter.doc
        assert parameter.valid
    for key, values in method.grid.items():
        assert len(values) > 1
        assert all(method.check(**{key: value})[key] == value for value in values)


def test_declaration_is_read_from_the_signature():
    scale, density, combine, keep = mb.get_method("ties").parameters
    assert (scale.name, scale.type, scale.default, scale.range) == (
        "scale", "float", 1.0, Range(0, 3),
    )  # fmt: skip
    assert density.range == Range(0, 1)
    assert (combine.type, combine.choices, combine.default) == ("choice", ("mean", "sum"), "mean")
    assert keep.choices == ("k+1", "k")
    assert combine.doc.startswith("Mean as in the TIES paper; sum as in")
    threshold = mb.get_method("tall_ta").parameters[0]
    assert (threshold.type, threshold.range) == ("float per task", Range(0, 10))


def test_a_method_is_a_short_function(experts):
    @merge_method("double", title="Double", paper=None, grid={"factor": (1, 2)})
    def double(layer, *, factor: Annotated[int, Range(0)] = 2):
        """Add a multiple.

        Parameters
        ----------
        layer : Layer
            Base and task vectors.
        factor : int, default 2
            How often
            the sum is added.
        """
        return layer.base + factor * layer.total

    assert double.parameters[0].doc == "How often the sum is added."
    assert mb.merge("double", experts).state_dict()["w"].tolist() == [6, 6, 6]
    assert double(experts, factor=np.int64(3)).recipe["parameters"] == {"factor": 3}


def test_prepare_runs_once_with_the_parameters_it_names(experts):
    calls = []

    def prepare(experts, shift):
        calls.append(shift)
        return len(experts.tasks)

    @merge_method("shifted", title="Shifted", paper=None, prepare=prepare)
    def shifted(layer, state, *, shift: Annotated[float, Range(-1, 1)] = 0.5, flip: bool = False):
        """Shift.

        Parameters
        ----------
        shift : float
            By how much.
        flip : bool
            Whether the other way.
        """
        return layer.base + state * shift

    assert shifted(experts, shift=-1).state_dict()["w"].tolist() == [-2, -2, -2]
    assert calls == [-1.0]
    merge = shifted.on(experts)
    for params in ({"shift": 1}, {"shift": 1, "flip": True}, {"shift": 0}, {"shift": 1}):
        assert merge(**params).recipe["parameters"] == {"flip": False} | params
    assert calls == [-1.0, 1.0, 0.0, 1.0]


# ---------------------------------------------------------------------- parameters as one


@dataclass(frozen=True)
class Training:
    """Parameters of a made-up method."""

    steps: Annotated[int, Range(0, 50), "Number of steps."]
    lr: Annotated[float, Range(0, 1), "Learning rate."]
    batches: Annotated[int, Range(1), "Batches."] | None = None
    kind: Annotated[Literal["a", "b"], "Kind."] | None = None
    seed: Annotated[int, Range(0), "Seed."] = 0


@st.composite
def trainings(draw) -> Training:
    return Training(
        draw(st.integers(0, 50)),
        draw(st.floats(0, 1)),
        draw(st.none() | st.integers(1, 9)),
        draw(st.none() | st.sampled_from("ab")),
        draw(st.integers(0, 9)),
    )


@given(default=trainings(), given=trainings())
def test_a_dataclass_stands_for_its_fields(default, given):
    got = []

    def learns(experts, *, density: Annotated[float, Range(0, 1)] = 0.5,
               training: Annotated[Training, {"steps": Range(0, 60)}] = default,
               flag: bool = False) -> SharedModel:  # fmt: skip
        """Learn.

        Parameters
        ----------
        density : float
            A number.
        steps : int
            Of this method.
        flag : bool
            A switch.
        """
        got.append((density, training, flag))
        return SharedModel.build(experts, lambda layer: layer.base)

    catalogue._METHODS.pop("learns", None)
    method = model_method("learns", title="Learns", paper=None, family="training")(learns)
    public = [field for field in vars(default) if getattr(default, field) is not None]
    assert [each.name for each in method.parameters] == ["density", *public, "flag"]
    assert {each.name: each.default for each in method.parameters} == {
        "density": 0.5, "flag": False, **{field: getattr(default, field) for field in public},
    }  # fmt: skip
    by_name = {each.name: each for each in method.parameters}
    assert by_name["steps"].doc == "Of this method."
    assert by_name["lr"].doc == "Learning rate."
    assert by_name["steps"].range == Range(0, 60)
    assert by_name["lr"].range == Range(0, 1)

    experts = Experts({"w": torch.zeros(2)}, {"one": {"w": torch.ones(2)}})
    assert method(experts).recipe["parameters"] == method.check()
    params = {field: value for field in public if (value := getattr(given, field)) is not None}
    method(experts, flag=True, **params)
    assert got == [(0.5, default, False), (0.5, replace(default, **params), True)]
    for field in set(vars(default)) - set(public):
        with pytest.raises(ParameterError, match=f"unknown parameter '{field}'"):
            method(experts, **{field: 1})
    with pytest.raises(ParameterError, match="steps=61 is not a whole number from 0 to 60"):
        method(experts, steps=61)


def test_prepare_gets_a_dataclass_as_well():
    calls = []

    def prepare(experts, training):
        calls.append(training)

    @merge_method("whole", title="Whole", paper=None, prepare=prepare)
    def whole(layer, state, *, training: Training = Training(2, 0.5)):
        """Merge."""
        return layer.base

    run = whole.on(Experts({"w": torch.zeros(2)}, {"one": {"w": torch.ones(2)}}))
    for params in ({}, {"seed": 1}, {"seed": 1}):
        run(**params)
    assert calls == [Training(2, 0.5), Training(2, 0.5, seed=1)]


def test_a_parameter_is_declared_once():
    def twice(experts, *, lr: Annotated[float, Range(0, 1), "Rate."] = 0.1,
              training: Training = Training(2, 0.5)) -> SharedModel: ...  # fmt: skip

    with pytest.raises(MethodError, match="twice, parameter 'lr': is declared twice"):
        model_method("twice", title="Twice", paper=None, family="training")(twice)


@pytest.mark.parametrize("name", registry.list_methods())
def test_documentation_names_all_that_a_call_takes(name):
    method = mb.get_method(name)
    described = documented_in(method.doc)
    given = ["experts", *(["calibration"] if method.needs else [])]
    assert list(described) == [*given, *(each.name for each in method.parameters)]
    for each in method.parameters:
        assert described[each.name] == " ".join(each.doc.split())


@pytest.mark.parametrize("name", registry.list_methods())
def test_methods_are_pickled_by_name(name):
    method = mb.get_method(name)
    assert pickle.loads(pickle.dumps(method)) is method


# ---------------------------------------------------------------------- what a result is


DATA_FREE = [name for name in mb.list_methods() if not mb.get_method(name).needs]


@pytest.mark.parametrize("name", DATA_FREE)
def test_a_result_is_of_the_kind_that_is_declared_and_of_a_type_it_supports(name):
    method = mb.get_method(name)
    generator = torch.Generator().manual_seed(0)
    base = {"w": torch.randn(6, 4, generator=generator), "n": torch.tensor(3)}
    expert = {"w": base["w"] + torch.randn(6, 4, generator=generator), "n": base["n"]}
    experts = Experts(base, {"one": expert, "two": {"w": -expert["w"], "n": base["n"]}})
    plain = method(experts)
    assert type(plain) is method.gives
    assert "dtype" not in plain.recipe
    for dtype in ("float64", "float32", "bfloat16", "float16"):
        if method.gives is not SharedModel and dtype != "float32":
            with pytest.raises(ParameterError, match=f"{name} keeps more than one set of weights"):
                method.on(experts, dtype=dtype)
            continue
        merged = method.on(experts, dtype=dtype)()
        assert merged.recipe == {**plain.recipe, "dtype": dtype}
        for task in merged.tasks:
            state, wanted = merged.state_dict(task), plain.state_dict(task)
            assert torch.equal(state["w"], wanted["w"].to(getattr(torch, dtype)))
            assert torch.equal(state["n"], base["n"])
        if method.gives is SharedModel:
            width = 8 * getattr(torch, dtype).itemsize
            assert merged.storage().bits == 24 * width + 64
    with pytest.raises(ParameterError, match="unknown dtype 'float8'"):
        method.on(experts, dtype="float8")


def test_a_value_too_large_for_the_type_is_named():
    big = {"w": torch.full((2,), 1e5)}
    run = mb.get_method("averaging").on(Experts({"w": torch.zeros(2)}, {"a": big}), dtype="float16")
    with pytest.raises(CheckpointError, match="tensor 'w' came out beyond the range"):
        run()


def test_the_recipe_says_what_was_counted():
    experts = Experts({"w": torch.zeros(3)}, {"one": {"w": torch.ones(3)}}, frozen_extra=7)
    recipe = mb.merge("ties", experts.counting("stored"), scale=1).recipe
    assert (recipe["entries"], recipe["frozen_extra"]) == ("stored", 7)
    assert recipe["parameters"] == mb.get_method("ties").check(scale=1.0)


# ---------------------------------------------------------------------- bad declarations


def test_names_are_unique():
    with pytest.raises(MethodError, match="'ties' is registered already, by mergebook"):

        @merge_method("ties", title="TIES again", paper=None)
        def again(layer):
            """Again."""
            return layer.base


def documented(function):
    function.__doc__ = "Do.\n\nParameters\n----------\nx : float\n    A number."
    return function


def no_default(experts, *, x: Annotated[float, Range(0, 1)]) -> SharedModel: ...
def no_range(experts, *, x: float = 0.5) -> SharedModel: ...
def no_type(experts, *, x=0.5) -> SharedModel: ...
def bad_default(experts, *, x: Annotated[float, Range(0, 1)] = 2.0) -> SharedModel: ...
def unsupported(experts, *, x: Annotated[str, Range(0, 1)] = "a") -> SharedModel: ...
def positional(experts, x: Annotated[float, Range(0, 1)] = 0.5) -> SharedModel: ...
def undocumented(experts, *, y: bool = True) -> SharedModel: ...


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (no_default, "has no default"),
        (no_range, "a number with its Range"),
        (no_type, "a number with its Range"),
        (unsupported, "a number with its Range"),
        (bad_default, "default 2.0 is not valid"),
        (positional, "must take 1 positional"),
        (undocumented, "not described in the docstring"),
    ],
)
def test_incomplete_declarations_are_refused(function, message):
    with pytest.raises(MethodError, match=message):
        model_method("new", title="New", paper=None, family="compression")(documented(function))
    assert "new" not in mb.list_methods()


def test_grids_must_be_valid():
    def plain(experts, *, x: Annotated[float, Range(0, 1)] = 0.5) -> SharedModel: ...

    with pytest.raises(ParameterError, match=r"new: x=2 is not a number from 0 to 1"):
        model_method("new", title="New", paper=None, family="compression", grid={"x": (0.5, 2)})(
            documented(plain)
        )


# ---------------------------------------------------------------------- bad calls


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("tie", {"ties", "tall_ties", "dare_ties"}),
        ("tall_masks", {"tall_ta", "tall_ties"}),
        ("TALL", {"tall_ta", "tall_ties"}),
        ("adamergin", {"adamerging_task", "adamerging_layer"}),
        ("qqq", set()),
    ],
)
def test_unknown_method_names_the_near_ones_and_the_command_that_lists_all(name, near):
    with pytest.raises(MethodError) as caught:
        mb.get_method(name)
    message = str(caught.value)
    assert {each for each in mb.list_methods() if repr(each) in message} >= near
    assert message.count("'") <= 2 * 6  # the name, and at most five others
    assert message.startswith(f"unknown method {name!r}")
    assert message.endswith(f"`mergebook methods` lists all {len(mb.list_methods())}")


def test_unknown_parameter_lists_all(experts):
    with pytest.raises(ParameterError, match=r"ties: unknown parameter 'scales'.*scale.*density"):
        mb.merge("ties", experts, scales=1)


@pytest.mark.parametrize(
    ("name", "params", "message"),
    [
        ("ties", {"scale": -0.1}, r"ties: scale=-0.1 is not a number from 0 to 3; parameters of"),
        ("ties", {"scale": 3.5}, "from 0 to 3"),
        ("ties", {"scale": float("nan")}, "scale=nan"),
        ("ties", {"scale": "1"}, "scale='1'"),
        ("ties", {"scale": True}, "scale=True"),
        ("ties", {"scale": None}, "scale=None"),
        ("ties", {"scale": {"one": 1.0, "two": 1.0}}, "is not a number"),
        ("ties", {"density": 20}, "density=20 is not a number from 0 to 1"),
        ("ties", {"combine": "max"}, "combine='max' is not one of 'mean', 'sum'"),
        ("tall_ta", {"strict": 1}, "strict=1 is not True or False"),
        ("consensus_ta", {"k": 1.5}, "k=1.5 is not a whole number from 0 to 1000"),
        ("consensus_ta", {"k": -1}, "k=-1"),
        ("tall_ta", {"threshold": {"one": 0.5, "two": 11.0}}, "or a mapping of task to number"),
        ("tall_ta", {"threshold": {"one": 0.5}}, "each of the tasks one, two; .* unknown: two"),
        ("tall_ta", {"threshold": {"one": 0.5, "two": 0.5, "three": 0.5}}, "unknown: three"),
        ("tall_ta", {"threshold": {}}, "missing or unknown: one, two"),
        ("zero_shot", {"scale": 1.0}, "unknown parameter 'scale'"),
    ],
)
def test_bad_values_name_method_parameter_and_valid_values(experts, name, params, message):
    with pytest.raises(ParameterError, match=message):
        mb.merge(name, experts, **params)


def test_values_are_plain_python_afterwards():
    method = mb.get_method("consensus_ta")
    full = method.check(scale=np.float32(0.5), k=np.int64(3), threshold={"one": 1})
    given = {"scale": 0.5, "k": 3, "threshold": {"one": 1.0}}
    assert full == given | {"shuffled": False, "seed": 0}
    assert [type(full[key]) for key in ("scale", "k")] == [float, int]
    assert type(full["threshold"]["one"]) is float


def test_annotations_that_the_decorators_know():
    @documented
    def choice(experts, *, x: Literal[1, 2] = 1) -> SharedModel: ...

    @documented
    def per_task(experts, *, x: Annotated[PerTask, Range(0)] = 1.0) -> SharedModel: ...

    method = model_method("choice", title="Choice", paper=None, family="compression")(choice)
    assert method.check(x=2) == {"x": 2}
    with pytest.raises(ParameterError, match="x=True is not one of 1, 2"):
        method.check(x=True)
    method = model_method("per_task", title="Per task", paper=None, family="compression")(per_task)
    assert method.check(x={"a": 100}) == {"x": {"a": 100.0}}


def test_sections_after_the_parameters_are_not_parameters():
    @documented
    def noted(experts, *, x: Annotated[float, Range(0, 1)] = 0.5) -> SharedModel: ...

    noted.__doc__ += "\n\nNotes\n-----\nPeers differ.\nx : not this."
    method = model_method("noted", title="Noted", paper=None, family="compression")(noted)
    [parameter] = method.parameters
    assert parameter.doc == "A number."


def test_a_method_of_matrices_says_how_it_sees_query_key_and_value():
    @merge_method("stacked", title="Stacked", paper=None, qkv="fused")
    def stacked(layer):
        """Average the layer, times its number of rows."""
        return layer.base + layer.deltas.mean(0) * len(layer.base)

    [parameter] = stacked.parameters
    assert (parameter.name, parameter.default, parameter.choices) == (
        "qkv", "fused", ("fused", "split"),
    )  # fmt: skip
    base = {"in_proj_weight": torch.zeros(6, 2)}
    experts = Experts(base, {"one": {"in_proj_weight": torch.ones(6, 2)}})
    assert torch.equal(stacked(experts).state_dict()["in_proj_weight"], torch.full((6, 2), 6.0))
    split = stacked(experts, qkv="split").state_dict()["in_proj_weight"]
    assert torch.equal(split, torch.full((6, 2), 2.0))


def test_a_family_must_be_known():
    with pytest.raises(MethodError, match="unknown family 'familly'"):
        model_method("m", title="M", paper=None, family="familly")(undocumented)


@pytest.mark.parametrize("kind", [None, MergedModel, dict])
def test_a_model_method_declares_the_kind_it_returns(kind):
    def vague(experts): ...

    vague.__annotations__ = {} if kind is None else {"return": kind}
    with pytest.raises(MethodError, match="vague: declare the kind of MergedModel that it returns"):
        model_method("m", title="M", paper=None, family="compression")(vague)
