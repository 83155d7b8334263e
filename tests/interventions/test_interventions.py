"""Surgery and IntervMerge: formulas, sizes, where gradients go, and what is refused."""

import csv
import io
import statistics

import numpy as np
import open_clip
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import mergebook as mb
from mergebook.calibration import Calibration
from mergebook.errors import BackboneError, MethodError, ParameterError
from mergebook.interventions import fitting, forms, imitation, intervmerge, starts, surgery
from mergebook.interventions.correct import correct
from mergebook.interventions.forms import Edit
from mergebook.interventions.imitation import Imitation
from mergebook.interventions.sizes import numbers_per_task
from mergebook.merged import IntervenedModel
from mergebook.merged.intervened import FORMS, READING, Editor, Site
from mergebook.registry import Learning
from mergebook.towers import clip
from mergebook.towers.backbones import build_tower
from mergebook.towers.vit import ImageTower
from mergebook.weights import Experts
from strategies import Case, clones

NAMES = ("surgery", "surgery_v2", "intervmerge", "intervmerge_mini")
REFT = ("noreft", "nodireft", "loreft", "direft", "consreft", "lobireft")
MINI = ("mini", "mini_efficient", "mini_best_efficient", "mini_multi")


def features(merged, calibration) -> dict[str, torch.Tensor]:
    with torch.inference_mode():
        return {task: merged.encoder(task)(calibration.inputs[task]) for task in merged.tasks}


def plain(weights, calibration) -> dict[str, torch.Tensor]:
    with torch.inference_mode():
        return {t: calibration.tower(weights, x) for t, x in calibration.inputs.items()}


# ------------------------------------------------------------------ formulas


def gelu(x: np.ndarray) -> np.ndarray:
    return x * np.vectorize(statistics.NormalDist().cdf)(x)


ACTIVATIONS = {"linear": lambda x: x, "relu": lambda x: np.maximum(x, 0), "gelu": gelu}


def by_hand(form: str, h: np.ndarray, n: dict[str, np.ndarray], activation: str) -> np.ndarray:
    """One representation [m], from the definition."""
    act = ACTIVATIONS[activation]
    if form == "surgery":
        return h - n["up"] @ np.maximum(n["down"] @ h, 0)
    if form == "noreft":
        return h + n["w2"].T @ (act(n["w1"] @ h + n["b1"]) - n["w2"] @ h - n.get("b2", 0))
    if form == "nodireft":
        return h + n["w2"].T @ act(n["w1"] @ h + n["b1"])
    if form == "loreft":
        return h + n["r"] @ (act(n["w"] @ h + n["b"]) - n["r"].T @ h)
    if form == "direft":
        return h + n["r"] @ act(n["w"] @ h + n["b"])
    if form == "consreft":
        return h + n["r"] @ (n["b"] - n["r"].T @ h)
    return h + n["r"] @ n["b"]


SHAPES = {
    "surgery": {"down": "rm", "up": "mr"},
    "noreft": {"w1": "rm", "b1": "r", "w2": "rm", "b2": "r"},
    "nodireft": {"w1": "rm", "b1": "r", "w2": "rm"},
    "loreft": {"r": "mr", "w": "rm", "b": "r"},
    "direft": {"r": "mr", "w": "rm", "b": "r"},
    "consreft": {"r": "mr", "b": "r"},
    "lobireft": {"r": "mr", "b": "r"},
}


def test_every_form_is_listed():
    assert set(SHAPES) == set(FORMS)


@pytest.mark.parametrize("form", FORMS)
@given(data=st.data())
def test_an_edit_is_the_formula_on_its_tokens_and_coordinates(form, data):
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    images, length, width = (data.draw(st.integers(1, 4)) for _ in range(3))
    start = data.draw(st.integers(0, width - 1))
    stop = data.draw(st.integers(start + 1, width))
    sizes = {"r": data.draw(st.integers(1, 3)), "m": stop - start}
    numbers = {
        key: rng.normal(size=tuple(sizes[letter] for letter in shape))
        for key, shape in SHAPES[form].items()
        if key != "b2" or data.draw(st.booleans())
    }
    tokens = data.draw(st.sampled_from(("class", "patches", "all", *range(length))))
    activation = data.draw(
        st.sampled_from(("linear", "relu", "gelu") if form in READING else ("linear",))
    )
    flat = tokens in ("class", "all") and data.draw(
        st.booleans()
    )  # features have no axis of tokens
    x = rng.normal(size=(images, width) if flat else (images, length, width))
    wanted = x.copy()
    for place in np.ndindex(x.shape[:-1]):
        chosen = {"class": [0], "patches": range(1, length), "all": range(length)}
        if flat or place[1] in chosen.get(tokens, [tokens]):
            wanted[place][start:stop] = by_hand(form, x[place][start:stop], numbers, activation)
    site = Site("features", form, tokens, start, stop, activation)
    given_ = torch.from_numpy(x.copy())
    single = {key: torch.from_numpy(value) for key, value in numbers.items()}
    got = site.edit(given_, single)
    np.testing.assert_allclose(got.numpy(), wanted, rtol=1e-12, atol=1e-12)
    assert np.array_equal(given_.numpy(), x)
    each = {key: value.expand(images, *value.shape) for key, value in single.items()}
    np.testing.assert_allclose(site.edit(given_, each).numpy(), wanted, rtol=1e-12, atol=1e-12)


def test_sites_apply_at_their_place_one_after_the_other():
    first = Site("blocks.1", "lobireft", "all", 0, 2), {"r": torch.eye(2), "b": torch.ones(2)}
    second = Site("blocks.1", "consreft", "all", 0, 2), {"r": torch.eye(2), "b": torch.zeros(2)}
    x = torch.full((1, 1, 2), 5.0)
    edit = Editor(*zip(first, second, strict=True))
    assert edit("blocks.1", x).tolist() == [[[0.0, 0.0]]]
    assert Editor(*zip(second, first, strict=True))("blocks.1", x).tolist() == [[[1.0, 1.0]]]
    assert edit("blocks.1.attention", x) is x


@given(st.integers(0, 2**32 - 1), st.integers(1, 6), st.integers(1, 6))
def test_orthonormal_columns(seed, rows, columns):
    columns = min(rows, columns)
    a = torch.from_numpy(np.random.default_rng(seed).normal(size=(3, rows, columns)))
    q = starts.orthonormal(a)
    torch.testing.assert_close(q.mT @ q, torch.eye(columns).double().expand(3, -1, -1))
    torch.testing.assert_close(starts.orthonormal(q), q)
    # The same space, in the same order: a = q r with an upper triangle of positive diagonal.
    r = q.mT @ a
    torch.testing.assert_close(q @ r, a)
    torch.testing.assert_close(r.triu(), r)
    assert (r.diagonal(dim1=1, dim2=2) > 0).all()


# ------------------------------------------------------------------ sizes

# Numbers per task derived from the authors' code, ViT-B/32, B/16 (12 blocks of 768, features of
# 512) and L/14 (24 blocks of 1024, features of 768).
SIZES = """\
backbone,method,rank,numbers
ViT-B-32,intervmerge,1,18456
ViT-B-16,intervmerge,1,18456
ViT-B-32,intervmerge,2,36912
ViT-B-32,intervmerge,4,73824
ViT-B-32,intervmerge,16,295296
ViT-L-14,intervmerge,1,49200
ViT-L-14,intervmerge,4,196800
ViT-L-14,intervmerge of 12 blocks,1,24600
ViT-B-32,mini,1,1560
ViT-B-16,mini,2,3120
ViT-B-32,mini_efficient,1,780
ViT-B-32,mini_best_efficient,1,780
ViT-B-16,mini_best_efficient,4,3120
ViT-B-32,mini_multi,1,1632
ViT-B-32,mini_multi,2,3264
ViT-B-32,surgery,4,4096
ViT-B-16,surgery,16,16384
ViT-B-32,surgery,304,311296
ViT-L-14,surgery,16,24576
ViT-L-14,surgery,132,202752
ViT-B-32,surgery_v2,16,311296
ViT-L-14,surgery_v2,4,202752
"""


class Architecture:
    """Depth and width of a tower, from open_clip's configuration."""

    read = "class"

    def __init__(self, backbone: str):
        config = open_clip.get_model_config(backbone)
        vision = config["vision_cfg"]
        self.num_blocks = vision["layers"]
        self.width = vision["width"]
        self.num_tokens = 1 + (vision["image_size"] // vision["patch_size"]) ** 2
        self.num_features = config["embed_dim"]


def numbers_of(tower, method: str, rank: int) -> list[dict[str, torch.Tensor]]:
    if method.startswith("surgery"):
        sites = surgery.surgery_sites(tower, blocks=method == "surgery_v2")
        return starts.start(sites, rank, 1, surgery.draw_surgery, 0)
    form, _, rest = method.partition(" of ")
    blocks = int(rest.removesuffix(" blocks") or 24)
    form = "noreft" if form == "intervmerge" else form
    sites = forms.intervention_sites(tower, form, Edit(blocks=blocks))
    return starts.start(sites, rank, 1, forms.draw_intervention(), 0)


@pytest.mark.parametrize(
    "row", [*csv.DictReader(io.StringIO(SIZES))], ids=lambda r: " ".join(r.values())
)
def test_sizes_on_the_papers_architectures(row):
    tower = Architecture(row["backbone"])
    numbers = numbers_of(tower, row["method"], int(row["rank"]))
    count = sum(value.numel() for values in numbers for value in values.values())
    assert count == int(row["numbers"])


@pytest.mark.parametrize(
    "row", [*csv.DictReader(io.StringIO(SIZES))], ids=lambda r: " ".join(r.values())
)
def test_sizes_are_known_without_a_model(row):
    method, _, rest = row["method"].partition(" of ")
    params = {"rank": int(row["rank"])}
    if rest:
        params["blocks"] = int(rest.removesuffix(" blocks"))
    if method.startswith("mini"):
        method, params["form"] = "intervmerge_mini", method
    found = numbers_per_task(row["backbone"], method, **params)
    assert found == int(row["numbers"])


def test_sizes_of_what_is_no_intervention_or_no_backbone():
    with pytest.raises(MethodError, match="intervention 'ties'"):
        numbers_per_task("ViT-B-32", "ties")
    with pytest.raises(BackboneError, match="ViT-B-33"):
        numbers_per_task("ViT-B-33", "surgery")


def test_one_bias_less():
    tower = Architecture("ViT-B-32")
    sites = forms.intervention_sites(tower, "noreft")
    numbers = starts.start(sites, 3, 1, forms.draw_intervention("one"), 0)
    assert sum(v.numel() for n in numbers for v in n.values()) == 12 * (2 * 3 * 768 + 3)


def test_interventions_run_in_the_tower_of_vit_b_32():
    tower = build_tower("ViT-B-32")
    weights = clip.visual_template("ViT-B-32").state_dict()
    images = torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    rank = 1
    for method, wanted in (("intervmerge", 18456), ("surgery_v2", 19456)):
        sites = (
            surgery.surgery_sites(tower, blocks=True)
            if method == "surgery_v2"
            else forms.intervention_sites(tower, "noreft")
        )
        numbers = numbers_of(tower, method, rank)
        assert sum(v.numel() for n in numbers for v in n.values()) == wanted
        own = [{k: v[0] for k, v in n.items()} for n in numbers]
        with torch.inference_mode():
            before = tower(weights, images)
            after = tower.with_hooks(edit=Editor(sites, own))(weights, images)
        assert after.shape == (1, 512)
        assert torch.equal(before, after) == (method == "surgery_v2")


def test_slices_of_the_mini_forms():
    tower = Architecture("ViT-B-32")

    def spans(form, **options):
        sites = forms.intervention_sites(tower, form, Edit(**options))
        return [(site.place, site.start, site.stop) for site in sites]

    assert spans("mini_best_efficient") == [
        (f"blocks.{b}.attention", 64 * b, 64 * b + 64) for b in range(12)
    ]
    assert {span[1:] for span in spans("mini")} == {(0, 64)}
    assert {span[1:] for span in spans("mini_efficient", part=10)} == {(0, 10)}
    multi = spans("mini_multi", blocks=1)
    assert [span[1:] for span in multi] == [(0, 16), (184, 200), (568, 584), (752, 768)]
    assert {span[0] for span in multi} == {"blocks.11.attention"}


@given(st.integers(1, 30), st.integers(1, 40), st.integers(0, 29), st.integers(1, 40))
def test_which_blocks_are_edited(depth, blocks, skip, every):
    edit = Edit(blocks=blocks, skip=skip, every=every)
    if skip >= depth:
        with pytest.raises(ParameterError, match=f"skip={skip} leaves none of {depth} blocks"):
            forms.edited_blocks(depth, edit)
        return
    from_the_last = [*range(depth)][::-1][skip:][:blocks]
    wanted = [b for place, b in enumerate(from_the_last) if place % every == 0]
    assert forms.edited_blocks(depth, edit) == sorted(wanted)


def test_every_patch_has_numbers_of_its_own():
    tower = Architecture("ViT-B-32")
    sites = forms.intervention_sites(tower, "noreft", Edit(tokens="each patch"))
    assert len(sites) == 12 * 49
    assert [site.tokens for site in sites[:49]] == [*range(1, 50)]


@given(st.integers(0, 1000), st.integers(1, 768))
def test_random_slices(seed, part):
    tower = Architecture("ViT-B-32")
    edit = Edit(slices="random", part=part)
    sites, again = (forms.intervention_sites(tower, "lobireft", edit, seed) for _ in range(2))
    assert sites == again
    assert all(site.start >= 0 and site.stop - site.start == part for site in sites)
    assert max(site.stop for site in sites) <= 768
    assert part > 700 or len({site.start for site in sites}) > 1


def test_a_form_on_other_slices_is_the_mini_form():
    tower = Architecture("ViT-B-32")
    for mini, (form, kind) in forms.MINI.items():
        same = forms.intervention_sites(tower, form, Edit(slices=kind))
        assert same == forms.intervention_sites(tower, mini)
        assert {site.form for site in same} == {form}


@pytest.mark.parametrize("name", NAMES)
def test_storage_counts_the_numbers_of_all_tasks(name, experts, calibration):
    merged = mb.merge(name, experts, calibration, steps=0)
    width, blocks, dim, rank = 96, 6, 64, 16
    each = {
        "surgery": 2 * rank * dim,
        "surgery_v2": 2 * rank * (blocks * width + dim),
        "intervmerge": blocks * (2 * width + 2),
        "intervmerge_mini": blocks * (width // blocks + 1),
    }[name]
    storage = merged.storage()
    assert storage.expression == "32(P'+F) + 32TM"
    assert (storage.symbols["T"], storage.symbols["M"]) == (3, each)
    assert storage.bits == 32 * (experts.num_trained + experts.num_frozen + 3 * each)


# ------------------------------------------------------------------ where it starts


@pytest.mark.parametrize("name", ("surgery", "surgery_v2"))
@pytest.mark.parametrize("merge", ("averaging", "task_arithmetic", "ties"))
def test_surgery_starts_as_the_merged_model(name, merge, experts, calibration):
    merged = mb.merge(name, experts, calibration, steps=0, merge=merge, scale=0.2)
    options = {
        "averaging": {}, "task_arithmetic": {"scale": 0.2},
        "ties": {"scale": 0.2, "combine": "sum"},
    }  # fmt: skip
    static = mb.merge(merge, experts, **options[merge]).state_dict()
    assert all(torch.equal(static[key], value) for key, value in merged.state_dict().items())
    expected = plain(static, calibration)
    assert all(torch.equal(expected[t], own) for t, own in features(merged, calibration).items())


@pytest.mark.parametrize("form", [form for form in REFT if form != "consreft"])
@pytest.mark.parametrize("biases", ("two", "one"))
def test_interventions_can_start_as_the_merged_model(form, biases, experts, calibration):
    options = {"form": form, "biases": biases, "rank": 3}
    merged = mb.merge("intervmerge", experts, calibration, steps=0, init="identity", **options)
    expected = plain(merged.state_dict(), calibration)
    for task, own in features(merged, calibration).items():
        torch.testing.assert_close(own, expected[task], rtol=1e-3, atol=1e-4)
    moved = mb.merge("intervmerge", experts, calibration, steps=1, init="identity", **options)
    for task, own in features(moved, calibration).items():
        assert not torch.allclose(own, expected[task], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("form", (*REFT, *MINI))
def test_interventions_start_near_the_merged_model_at_most(form, experts, calibration):
    merged = mb.merge("intervmerge", experts, calibration, steps=0, form=form)
    expected = plain(merged.state_dict(), calibration)
    for task, own in features(merged, calibration).items():
        change = float((own - expected[task]).norm() / expected[task].norm())
        assert 0 < change < 0.35


def test_every_task_starts_and_learns_as_it_would_alone(experts, calibration):
    together = mb.merge("intervmerge", experts, calibration, steps=3, merge="averaging")
    merged = mb.merge("averaging", experts)
    alone = Imitation(experts.select(("two",)), calibration.select(("two",)), merged)
    sites = together.sites
    free = starts.start(sites, 1, 1, forms.draw_intervention(), 0)
    single = fitting.fit(alone, sites, free, Learning(steps=3, lr=3e-2))
    for ours, theirs in zip(together.numbers, single.numbers, strict=True):
        for key, value in theirs.items():
            torch.testing.assert_close(ours[key][1], value[0], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_learning_brings_features_closer_to_the_experts(name, experts, calibration):
    def distance(steps):
        merged = mb.merge(name, experts, calibration, steps=steps, lr=1e-2, batch_size=6)
        ours, total = features(merged, calibration), 0.0
        for task, own in ours.items():
            teacher = plain(experts.expert(task), calibration)[task]
            total += float((own - teacher).abs().mean())
        return total

    assert distance(12) < 0.97 * distance(0)


def test_the_merged_weights_do_not_learn(experts, calibration):
    merged = mb.merge("surgery_v2", experts, calibration, steps=2, rank=2)
    static = mb.merge("task_arithmetic", experts, scale=0.3).state_dict()
    assert all(torch.equal(static[key], value) for key, value in merged.state_dict().items())
    assert not any(v.requires_grad for numbers in merged.numbers for v in numbers.values())


# ------------------------------------------------------------------ teachers


def test_trimmed_teachers_are_the_elected_parts_of_trimmed_vectors():
    rng = np.random.default_rng(0)
    base = {
        "a": torch.from_numpy(rng.normal(size=(4, 5))),
        "b": torch.from_numpy(rng.normal(size=7)),
    }
    states = {t: {k: v + torch.from_numpy(rng.normal(size=v.shape)) for k, v in base.items()}
              for t in ("x", "y", "z")}  # fmt: skip
    experts = Case(base, states).load()
    found = intervmerge.trimmed_experts(experts)

    def vector(weights):
        return np.concatenate([(weights[key] - base[key]).numpy().ravel() for key in base])

    flat = {task: vector(weights) for task, weights in states.items()}
    keep = int(0.2 * 27) + 1
    trimmed = {}
    for task, tau in flat.items():
        limit = np.sort(abs(tau))[-keep]
        trimmed[task] = np.where(abs(tau) >= limit, tau, 0)
    signs = np.sign(sum(trimmed.values()))
    signs[signs == 0] = np.sign(signs.sum())
    for task, tau in trimmed.items():
        wanted = np.where(np.sign(tau) == signs, tau, 0)
        np.testing.assert_allclose(vector(found[task]), wanted, atol=1e-12)


def test_the_teacher_matters_for_ties_alone(experts, calibration):
    def numbers(**params):
        merged = mb.merge("intervmerge", experts, calibration, steps=2, lr=1e-2, **params)
        return torch.cat([v.flatten() for own in merged.numbers for v in own.values()])

    own, trimmed = (numbers(merge="ties", teacher=t) for t in ("expert", "trimmed"))
    assert not torch.equal(own, trimmed)
    own, trimmed = (numbers(teacher=t) for t in ("expert", "trimmed"))
    assert torch.equal(own, trimmed)


@pytest.mark.parametrize(
    "merge", ("averaging", "task_arithmetic", "ties", "adamerging_task", "adamerging_layer")
)
def test_coefficients_start_as_those_of_the_merge(merge, experts, calibration):
    params, calibration = {"merge": merge, "scale": 0.25, "steps": 0}, calibration.first(1)
    fixed, learned = (
        mb.merge("intervmerge", experts, calibration, coefficients=choice, **params).state_dict()
        for choice in ("fixed", "learned")
    )
    for key, value in fixed.items():
        torch.testing.assert_close(learned[key], value, rtol=0, atol=1e-5)


def test_learned_coefficients_stay_within_their_limits(base, states, calibration):
    few = Experts(base, {"one": states["one"]}, backbone="mini-small")
    merged = mb.merge(
        "intervmerge", few, calibration, coefficients="learned", scale=0.5, steps=4,
        coefficient_lr=0.3,
    )  # fmt: skip
    state = merged.state_dict()
    assert torch.equal(state["ln_pre.bias"], base["ln_pre.bias"])
    share = {}
    for key in few.trained:
        tau, moved = (states["one"][key] - base[key]).double(), (state[key] - base[key]).double()
        share[key] = float((tau * moved).sum() / (tau * tau).sum())
        torch.testing.assert_close(moved, share[key] * tau, rtol=0, atol=1e-4)
    assert all(-1e-4 <= value <= 1 + 1e-4 for value in share.values())
    assert max(share.values()) - min(share.values()) > 0.5


def test_coefficients_of_cart_cannot_be_learned(experts, calibration):
    with pytest.raises(ParameterError, match="not defined for merge='cart'"):
        mb.merge("intervmerge", experts, calibration, merge="cart", coefficients="learned")


# ------------------------------------------------------------------ what corrections share


@pytest.mark.parametrize("name", NAMES)
def test_a_correction_of_a_model_is_that_of_its_merge(name, experts, calibration):
    merged = mb.merge("cart", experts, scale=1.5)
    imitation = Imitation(experts, calibration, merged)
    for steps in (1, 2):  # the second with what the first has kept
        own = correct(imitation, name, steps=steps)
        if name != "intervmerge_mini":
            correct(imitation, name, steps=steps, **({"skip": 2} if name == "intervmerge" else {}))
        wanted = mb.merge(name, experts, calibration, merge="cart", scale=1.5, steps=steps)
        for ours, theirs in zip(own.numbers, wanted.numbers, strict=True):
            assert all(torch.equal(ours[key], value) for key, value in theirs.items())


@pytest.mark.parametrize("skip", (0, 2, 5))
def test_blocks_before_the_first_edit_run_once(skip, experts, calibration, monkeypatch):
    """Which changes nothing but the time: as with all blocks in each step."""
    counted = []
    block = ImageTower.block
    monkeypatch.setattr(
        ImageTower, "block", lambda *given: counted.append(given[2]) or block(*given)
    )
    options = {"steps": 6, "skip": skip, "blocks": 1, "lr": 1e-2}
    quick = mb.merge("intervmerge", experts, calibration, **options)
    once = {number: counted.count(number) for number in range(6)}
    monkeypatch.setattr(imitation, "LARGEST", 0)
    counted.clear()
    slow = mb.merge("intervmerge", experts, calibration, **options)
    for ours, theirs in zip(quick.numbers, slow.numbers, strict=True):
        for key, value in theirs.items():
            torch.testing.assert_close(ours[key], value, rtol=1e-3, atol=1e-5)
    for number in range(6):
        runs = counted.count(number)
        assert once[number] == (runs if number >= 5 - skip else runs - 6 + 3)


def test_teachers_are_asked_once(experts, calibration, monkeypatch):
    asked = []
    outputs = imitation.outputs
    monkeypatch.setattr(
        imitation, "outputs", lambda *given: asked.append(given[3]) or outputs(*given)
    )
    merge = mb.get_method("surgery_v2").on(experts, calibration)
    for rank in (1, 2):
        merge(rank=rank, steps=1)
    assert len(asked) == len(experts.tasks)


def test_labels_in_place_of_teachers(experts, calibration):
    start = Imitation(experts, calibration, mb.merge("averaging", experts), labelled=True)

    def missed(steps):
        own = features(correct(start, "surgery", steps=steps, lr=3e-2), calibration)
        return sum(
            float(
                torch.nn.functional.cross_entropy(
                    calibration.logits(own[task], task), calibration.labels[task]
                )
            )
            for task in experts.tasks
        )

    assert missed(20) < 0.5 * missed(0)


def test_learning_can_be_watched(experts, calibration):
    seen = {}

    def watch(step, model):
        seen[step] = model().numbers[0]["up"]

    start = Imitation(experts, calibration, mb.merge("averaging", experts), watch=watch)
    last = correct(start, "surgery", steps=3)
    assert sorted(seen) == [0, 1, 2]
    assert torch.equal(seen[2], last.numbers[0]["up"])
    for step in (0, 1):
        shorter = mb.merge("surgery", experts, calibration, merge="averaging", steps=step + 1)
        assert torch.equal(seen[step], shorter.numbers[0]["up"])


def test_only_interventions_correct(experts, calibration):
    start = Imitation(experts, calibration, mb.merge("averaging", experts))
    with pytest.raises(MethodError, match="intervention 'ties'"):
        correct(start, "ties")


# ------------------------------------------------------------------ odd and bad input


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", (torch.float64, torch.bfloat16, torch.float16))
def test_other_types(name, dtype, base, states, calibration):
    cast = {k: v.to(dtype) for k, v in base.items()}
    few = {t: {k: v.to(dtype) for k, v in states[t].items()} for t in ("one", "two")}
    experts = Experts(cast, few, backbone="mini-small")
    merged = mb.merge(name, experts, calibration, steps=1)
    assert {value.dtype for value in merged.state_dict().values()} == {dtype}
    for own in features(merged, calibration.select(("one", "two"))).values():
        assert own.dtype == torch.float32
        assert own.isfinite().all()
    widths = {part.name: part.bits for part in merged.storage().parts}
    assert (widths["trained weights"], widths["interventions"]) == (8 * dtype.itemsize, 32)


@pytest.mark.parametrize("name", NAMES)
def test_experts_equal_to_the_base_need_no_correction(name, base, calibration):
    experts = Experts(base, {"one": clones(base)}, backbone="mini-small")
    merged = mb.merge(name, experts, calibration, steps=2)
    assert all(torch.equal(base[key], value) for key, value in merged.state_dict().items())
    own = features(merged, calibration.select(("one",)))["one"]
    assert own.isfinite().all()
    if name == "surgery":  # starts at the teacher, and its gradient is zero
        assert torch.equal(own, plain(base, calibration)["one"])


def test_fewer_images_than_a_batch_and_unequal_numbers_of_images(experts, calibration):
    inputs = {t: x[: n + 1] for n, (t, x) in enumerate(calibration.inputs.items())}
    few = Calibration("mini-small", inputs, calibration.heads, 20.0)
    merged = mb.merge("surgery_v2", experts, few, steps=3, batch_size=2, rank=1)
    assert all(own.isfinite().all() for own in features(merged, calibration).values())


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"form": "loreft", "rank": 97}, "rank=97 is more than the 96 coordinates"),
        ({"form": "mini_efficient", "rank": 17}, "rank=17 is more than the 16 coordinates"),
        ({"form": "mini_best_efficient", "part": 17}, "part=17: the slice of block 5 ends at 102"),
        ({"form": "mini", "part": 97}, "part=97: the slice of block 0 ends at 97"),
        ({"form": "mini_multi", "part": 3}, "part=3 does not give four separate slices of 96"),
        ({"form": "mini_multi", "part": 96}, "part=96 does not give four separate slices of 96"),
        ({"form": "maxi"}, "form='maxi' is not one of"),
        ({"merge": "magic"}, "merge='magic' is not one of"),
        ({"rank": 0}, "rank=0 is not a whole number from 1 to 4096"),
    ],
)
def test_what_does_not_fit_is_named(params, message, experts, calibration):
    with pytest.raises(ParameterError, match=message):
        mb.merge("intervmerge", experts, calibration, steps=0, **params)


def test_a_task_is_needed_and_must_be_known(experts, calibration):
    merged = mb.merge("surgery", experts, calibration, steps=0)
    assert isinstance(merged, IntervenedModel)
    with pytest.raises(MethodError, match="differs by task; choose from: one, two, three"):
        merged.encoder()
    with pytest.raises(MethodError, match="unknown task 'four'"):
        merged.encoder("four")
    merged.backbone = None
    with pytest.raises(MethodError, match="backbone is not known"):
        merged.encoder("one")


def test_a_loss_that_is_not_finite_is_reported(experts, calibration):
    with pytest.raises(MethodError, match="learning the interventions: loss is"):
        mb.merge("surgery", experts, calibration, steps=3, lr=1e30)
