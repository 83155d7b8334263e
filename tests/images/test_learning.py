"""The loop of methods that learn: its batches, its updates, and how it goes on after a stop."""

import warnings
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import mergebook as mb
from mergebook.calibration import random_passes
from mergebook.errors import MethodError
from mergebook.learning import Batches, minimise, resumable
from mergebook.registry import Learning


class Stop(Exception):
    """What a watcher raises to stop a loop."""


def problem(seed=0):
    """A parameter [3], and a loss with another target in each step."""
    targets = torch.randn(100, 3, generator=torch.Generator().manual_seed(seed))
    parameter = torch.zeros(3, requires_grad=True)
    return parameter, lambda step: (parameter - targets[step]).abs().sum()


@given(st.integers(1, 20), st.integers(1, 8), st.lists(st.integers(0, 12), max_size=8))
def test_batches_by_number_are_those_of_the_stream(number, size, asked):
    stream = random_passes(number, size, seed=3)
    wanted = [next(stream) for _ in range(13)]
    batches = Batches(lambda: random_passes(number, size, seed=3))
    for place in asked:
        assert torch.equal(batches[place], wanted[place])


def test_several_updates_are_those_of_a_parameter_that_adam_was_given_as_often():
    own, loss = problem()
    minimise([own], loss, Learning(steps=7, lr=0.1, updates=3))
    other, loss = problem()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        optimizer = torch.optim.Adam([other] * 3, 0.1, foreach=False)
    for step in range(7):
        optimizer.zero_grad()
        loss(step).backward()
        optimizer.step()
    torch.testing.assert_close(own, other)


@given(st.integers(0, 9), st.sampled_from(("adamw", "sgd")), st.booleans())
def test_a_stopped_loop_ends_where_an_unbroken_one_does(tmp_path_factory, stop, kind, cosine):
    folder = tmp_path_factory.mktemp("state")
    learning = Learning(steps=10, lr=0.1, optimizer=kind)

    def run(watch=None):
        parameter, loss = problem()
        taken = []

        def counted(step):
            taken.append(step)
            return loss(step)

        options = {"cosine": cosine, "by_step": True, "after": watch}
        curve = minimise([parameter], counted, learning, **options)
        return parameter.detach(), curve, taken

    def interrupt(step):
        if step == stop:
            raise Stop

    whole, curve, _ = run()
    with pytest.raises(Stop), resumable(folder, every=0):
        run(interrupt)
    with resumable(folder, every=0):
        again, resumed, taken = run()
    assert torch.equal(again, whole)
    assert resumed == curve
    assert taken == [0, *range(max(1, stop), 10)]  # the first to see that it is the same loop
    with resumable(folder, every=0):
        assert run()[2] == [0]


def test_another_loop_starts_anew(tmp_path):
    for seed in (0, 1):
        with resumable(tmp_path, every=0):
            parameter, loss = problem(seed)
            minimise([parameter], loss, Learning(steps=5, lr=0.1), by_step=True)
        fresh, loss = problem(seed)
        minimise([fresh], loss, Learning(steps=5, lr=0.1))
        assert torch.equal(parameter, fresh)
    assert [path.name for path in tmp_path.iterdir()] == ["001-learning-the-parameters.pt"]


@pytest.mark.parametrize("change", [{"lr": 0.2}, {"steps": 8}, {"updates": 2}])
def test_other_settings_start_anew(change, tmp_path):
    """Though the first loss, which says whether it is the same loop, is the same."""
    for learning in (Learning(steps=5, lr=0.1), replace(Learning(steps=5, lr=0.1), **change)):
        with resumable(tmp_path, every=0):
            parameter, loss = problem()
            minimise([parameter], loss, learning, by_step=True)
    fresh, loss = problem()
    minimise([fresh], loss, learning)
    assert torch.equal(parameter, fresh)


def test_a_loop_that_draws_as_it_goes_is_not_kept(tmp_path):
    parameter, loss = problem()
    with resumable(tmp_path, every=0):
        minimise([parameter], loss, Learning(steps=5, lr=0.1))
    assert not list(tmp_path.iterdir())


def test_a_broken_state_is_named(tmp_path):
    (tmp_path / "001-learning-the-parameters.pt").write_bytes(b"nothing")
    parameter, loss = problem()
    with (
        pytest.raises(MethodError, match=r"001-learning-the-parameters\.pt: no state"),
        resumable(tmp_path),
    ):
        minimise([parameter], loss, Learning(steps=5, lr=0.1), by_step=True)


@pytest.mark.parametrize(
    ("name", "params"),
    [
        ("adamerging_layer", {"steps": 4}),
        ("surgery", {"steps": 4, "merge": "averaging"}),
        ("surgery_v2", {"steps": 4, "rank": 2}),
        ("intervmerge", {"steps": 4, "merge": "adamerging_layer"}),
        ("intervmerge_mini", {"steps": 4}),
        ("symerge", {"steps": 2}),
        ("wemoe", {"steps": 3}),
        ("flex_switch", {"steps": 3}),
    ],
)
def test_methods_go_on_where_they_were_stopped(
    name,
    params,
    experts,
    calibration,
    tmp_path,
    monkeypatch,
):
    params |= {"batch_size": 2}  # so that the order of the images counts
    whole = mb.merge(name, experts, calibration, **params)
    step, calls = torch.optim.AdamW.step, []

    def failing(self, *given):
        calls.append(1)
        if len(calls) == 3:
            raise Stop
        return step(self, *given)

    with monkeypatch.context() as patch, pytest.raises(Stop), resumable(tmp_path, every=0):
        patch.setattr(torch.optim.AdamW, "step", failing)
        mb.merge(name, experts, calibration, **params)
    assert list(tmp_path.iterdir())
    with resumable(tmp_path, every=0):
        resumed = mb.merge(name, experts, calibration, **params)
    for (key, value), (other, wanted) in zip(
        sorted(resumed.stored()[0].items()), sorted(whole.stored()[0].items()), strict=True
    ):
        assert key == other
        assert torch.equal(value, wanted), key
