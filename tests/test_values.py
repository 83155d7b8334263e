"""The one converter: what is read from a text, what is taken as an object, and what is refused."""

import contextlib
import json
import math
import time

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from mergebook.errors import shown
from mergebook.values import LARGEST, Range, Values

NUMBER = Values("float", Range(0, 3))
COUNT = Values("int", Range(1))
PER_TASK = Values("float", Range(0, 10), shape="per task")
ALL = (
    NUMBER,
    COUNT,
    PER_TASK,
    Values("bool"),
    Values("choice", choices=("mean", "k+1", "on")),
    Values("choice", choices=(0, 1, 2)),
    Values("str"),
    Values.like([1]),
    Values.like([0.5, 1]),
    Values.like(["a"]),
    Values.like([True]),
)
NAMES = st.text(min_size=1, max_size=8)


def valid(values: Values) -> st.SearchStrategy:
    """Valid values, as plain Python objects."""
    one = {
        "bool": st.booleans(),
        "str": st.text(),
        "choice": st.sampled_from(values.choices or (None,)),
        "int": st.integers(values.range.low if values.range else -LARGEST, LARGEST),
        "float": st.floats(values.range.low, values.range.high)
        if values.range
        else st.floats(allow_nan=False, allow_infinity=False),
    }[values.kind]
    if values.shape == "list":
        return st.lists(one, max_size=4)
    return one | st.dictionaries(NAMES, one, max_size=4) if values.shape == "per task" else one


@given(data=st.data())
@pytest.mark.parametrize("values", ALL, ids=lambda values: values.type)
def test_objects_and_their_texts_are_the_same_values(values, data):
    value = data.draw(valid(values))
    assert values.convert(value) == value
    assert type(values.convert(value)) is type(value)
    text = value if isinstance(value, str) else json.dumps(value)
    assert values.parse(text) == values.read(text) == value
    assert values.read(value) == (values.parse(value) if isinstance(value, str) else value)


@given(value=st.dictionaries(st.from_regex(r"\w+", fullmatch=True), st.floats(0, 10), min_size=1))
def test_values_per_task_need_no_brackets(value):
    text = ",".join(f"{task}:{number!r}" for task, number in value.items())
    assert PER_TASK.parse(text) == PER_TASK.parse(f"{{{text}}}") == value
    twice = f"{text},{next(iter(value))}: 1"
    with pytest.raises(ValueError, match=r"gives task .* twice"):
        PER_TASK.parse(twice)


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=4))
def test_lists_need_no_brackets_and_a_single_item_is_one(numbers):
    values = Values("float", shape="list")
    text = ",".join(map(repr, numbers))
    assert values.parse(text) == values.parse(f"[{text}]") == numbers
    assert values.parse(repr(numbers[0])) == values.convert(numbers[0]) == numbers[:1]
    assert values.read([repr(number) for number in numbers]) == numbers


@given(data=st.data())
@pytest.mark.parametrize("values", ALL, ids=lambda values: values.type)
def test_any_text_is_read_or_refused_in_one_line(values, data):
    text = data.draw(st.text() | st.text(alphabet="[]{},:\"'\\ 1.e-+ab&*", max_size=30))
    try:
        value = values.parse(text)
    except ValueError as problem:
        assert "\n" not in str(problem)
        assert len(str(problem)) < 300
    else:
        assert values.convert(value) == value


@given(value=st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=6,
))  # fmt: skip
@pytest.mark.parametrize("values", ALL, ids=lambda values: values.type)
def test_any_object_is_taken_or_refused_in_one_line(values, value):
    try:
        found = values.convert(value)
    except ValueError as problem:
        assert "\n" not in str(problem)
        assert len(str(problem)) < 400
    else:
        assert values.convert(found) == found


@pytest.mark.parametrize(
    "text",
    [
        "nan", "inf", "-inf", "1e400", "-1", "3.01", "2020-13-45", "0x1", "1_000", "", " ", "true",
        "null", "[1]", "{}", "1 2", "1,2", "&a [*a]", "!!int 1", "٣", "9" * 5000, "1" + "0" * 400,
        "[" * 100_000, "'1", '"', "1e", "1e99999999999999999999", "-" * 9999,
    ],
    ids=shown,
)  # fmt: skip
def test_texts_that_are_no_number_of_the_range(text):
    with pytest.raises(ValueError, match="is not a number from 0 to 3") as caught:
        NUMBER.parse(text)
    assert len(str(caught.value)) < 150


@pytest.mark.parametrize(
    "value",
    [
        math.nan, math.inf, -math.inf, 10**400, 10**5000, -0.1, True, None, "1", [1], {"a": 1}, 1j,
        np.float64("nan"), np.array([1.0, 2.0]), type,
    ],
    ids=shown,
)  # fmt: skip
def test_objects_that_are_no_number_of_the_range(value):
    with pytest.raises(ValueError, match="is not a number from 0 to 3"):
        NUMBER.convert(value)


@pytest.mark.parametrize("value", [0, -1, 1.0, 2**63, 10**5000, True, "1"], ids=shown)
def test_objects_that_are_no_count(value):
    with pytest.raises(ValueError, match="is not a whole number of at least 1"):
        COUNT.convert(value)


def test_numbers_of_numpy_become_plain():
    for values, value in ((NUMBER, np.float32(0.5)), (NUMBER, np.int64(1)), (COUNT, np.int8(3))):
        found = values.convert(value)
        assert found == value
        assert type(found) is (float if values is NUMBER else int)
    assert PER_TASK.convert({"a": np.float64(0.5)}) == {"a": 0.5}


def test_names_of_tasks_are_texts_and_come_once():
    assert PER_TASK.convert({1: 0.5}) == {"1": 0.5}
    with pytest.raises(ValueError, match="gives task '1' twice"):
        PER_TASK.convert({1: 0.5, "1": 0.6})
    with pytest.raises(ValueError, match="gives task 'a' twice"):
        PER_TASK.parse('{"a": 0.5, "b": 1, "a": 0.5}')


def test_a_reader_of_yaml_may_write_small_numbers():
    profile = yaml.safe_load("{few: [1e-3, 2], one: 1e-3, tasks: {a: 1e-1, b: 2}}")
    assert Values.like([0.5]).read(profile["few"]) == [1e-3, 2.0]
    assert Values.like(0.5).read(profile["one"]) == 1e-3
    assert PER_TASK.read(profile["tasks"]) == {"a": 0.1, "b": 2.0}


@pytest.mark.parametrize(
    ("default", "type_"),
    [
        ("mini", "str"), (True, "bool"), (3, "int"), (0.5, "float"), ([8, 14], "list of int"),
        ([0.5, 1], "list of float"), (["a"], "list of str"), ([], "list of str"),
        ([False], "list of bool"),
    ],
)  # fmt: skip
def test_values_like_a_default(default, type_):
    values = Values.like(default)
    assert values.type == type_
    assert values.convert(default) == default


@pytest.mark.parametrize("default", [None, {}, [[1]], ["a", 1], [True, 1], 1j, b"a"])
def test_no_values_like_other_defaults(default):
    with pytest.raises(ValueError, match="is no text, number or truth value, nor a list"):
        Values.like(default)


def test_truth_is_written_in_few_ways():
    values = Values("bool")
    assert all(values.parse(text) is True for text in ("true", "True", "YES", "on"))
    assert all(values.parse(text) is False for text in ("false", "False", "no", "OFF"))
    for text in ("1", "0", "y", "", "[true]"):
        with pytest.raises(ValueError, match="is not True or False"):
            values.parse(text)


@pytest.mark.parametrize("values", ALL, ids=lambda values: values.type)
def test_long_texts_are_read_in_one_pass(values):
    start = time.process_time()
    for piece in (" ", "1", ",", "a:1,", "'", '"', "\\", "[", "{", ":", "1.", "e1", "a b "):
        for tail in ("", "!", '"', "'", "]"):
            with contextlib.suppress(ValueError):
                values.parse(piece * 100_000 + tail)
    assert time.process_time() - start < 30  # quadratic time would be hours


def test_what_a_message_shows_is_short():
    class Odd:
        def __repr__(self):
            raise RuntimeError("no")

    deep: list = []
    for _ in range(100_000):
        deep = [deep]
    for value in (
        10**9999,
        "x" * 10**6,
        list(range(10**5)),
        deep,
        Odd(),
        "a\nb",
        np.zeros((50, 9)),
    ):
        text = shown(value)
        assert "\n" not in text
        assert len(text) < 200
    assert shown("ties") == "'ties'"
    assert shown(-0.1) == "-0.1"
