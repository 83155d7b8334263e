"""Every method on a text encoder, against the same oracles as on images."""

import pytest
import torch

import mergebook as mb
from images.test_image_methods import assert_expected, features, short
from mergebook.errors import MethodError
from mergebook.towers import bert
from mergebook.weights import Experts
from oracles import IMAGE_ORACLES

pytest.importorskip("transformers")

NEEDY = [name for name in mb.list_methods() if mb.get_method(name).needs]
WEIGHTS = [name for name in mb.list_methods() if not mb.get_method(name).needs]


def choices(name):
    """The first set of parameters of the oracle, and all that edit other places or tokens.

    Query, key and value, which BERT stores apart, are taken apart and as one matrix.
    """
    own = IMAGE_ORACLES[name].choices
    own = [choice for number, choice in enumerate(own) if number == 0 or name == "intervmerge"]
    if "qkv" in {parameter.name for parameter in mb.get_method(name).parameters}:
        own = [choice | {"qkv": qkv} for choice in own for qkv in ("split", "fused")]
    return own


CASES = [(name, number) for name in NEEDY for number in range(len(choices(name)))]


@pytest.mark.parametrize(("name", "number"), CASES)
def test_equals_an_independent_computation(name, number, base, states, experts, calibration):
    oracle, given = IMAGE_ORACLES[name], choices(name)[number]
    params = mb.get_method(name).check(**short(name, **given))
    merged = mb.merge(name, experts, calibration, **params)
    expected = oracle.function(base, states, calibration, **params)
    assert set(expected) == set(states)
    # Norms after the additions pass rounding on, so four times the slack of images.
    slack = 4 * oracle.tolerance
    assert_expected(merged, expected, experts, calibration, slack, experts.trained)


@pytest.mark.parametrize(
    ("name", "number"),
    [case for case in CASES if mb.get_method(case[0]).family == "intervention"],
)
def test_corrections_do_not_depend_on_which_texts_pass_together(
    name, number, base, states, experts, calibration, monkeypatch
):
    """The same, where the texts of a step pass in several portions, tasks mixed."""
    monkeypatch.setattr(bert, "BATCH", 4)
    test_equals_an_independent_computation(name, number, base, states, experts, calibration)


@pytest.mark.parametrize("name", [*NEEDY, *WEIGHTS])
def test_the_solution_is_a_state_dict_of_the_model(name, base, states, calibration, tmp_path):
    """With a tensor of whole numbers, as in the published file, and tensors nobody trained."""
    whole = {"embeddings.position_ids": torch.arange(20)[None]}
    experts = Experts(base | whole, {t: s | whole for t, s in states.items()}, backbone="minilm")
    images = [calibration] if mb.get_method(name).needs else []
    merged = mb.merge(name, experts, *images, **short(name))
    again = mb.load_merged(merged.save(tmp_path / "merged.safetensors"))
    for one in (merged, again):
        found = features(one, calibration)
        assert all(torch.isfinite(own).all() for own in found.values())
        if one.told != "guessed":
            state = one.state_dict("two")
            assert {k: (v.dtype, v.shape) for k, v in state.items()} == {
                k: (v.dtype, v.shape) for k, v in experts.base.items()
            }
            for key in set(experts.base) - set(experts.trained):
                assert torch.equal(state[key], experts.base[key])


def test_gradients_of_a_stack_of_three_are_refused(experts, calibration):
    with pytest.raises(MethodError, match=r"mats: objective='fisher'.*take qkv='split'"):
        mb.merge("mats", experts, calibration, objective="fisher", qkv="fused", iterations=1)
    mb.merge("mats", experts, calibration, objective="covariance", qkv="fused", iterations=1)
