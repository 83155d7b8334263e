"""Claims as functions: verdicts, conjunctions, and what the paper's own numbers say."""

import inspect
import math
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mergebook.claims import (
    OURS,
    Chapter,
    Numbers,
    Setting,
    above,
    below,
    list_chapters,
    load_claims,
    verdict,
)
from mergebook.errors import ReportError
from mergebook.report.reported import reported
from mergebook.uncertainty import Estimate, exact

HIGH = Estimate(0.02, np.linspace(0.008, 0.032, 401))
LOW = Estimate(-0.02, np.linspace(-0.03, -0.01, 401))
WIDE = Estimate(0.01, np.linspace(-0.01, 0.03, 401))


def chapter_of(formula, **options):
    chapter = Chapter("letters", paper="someone2024", authors="Someone 2024")
    chapter.claim("A is above B", where="table 1", page="one", **options)(formula)
    return chapter


def judge(*parts, **options):
    def letters(n):
        yield from parts

    return chapter_of(letters, **options)["letters"].judge(Numbers(()))


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.1, 0.2, "holds"),
        (-0.2, -0.1, "does not hold"),
        (-0.1, 0.1, "inconclusive"),
        (0.0, 0.1, "inconclusive"),
        (-0.1, 0.0, "inconclusive"),
        (0.0, 0.0, "inconclusive"),
    ],
)
def test_verdict(low, high, expected):
    assert verdict((low + high) / 2, low, high) == expected


@pytest.mark.parametrize("numbers", [(math.nan, 0, 1), (0, -math.inf, 1), (0, 1, -1)])
def test_verdict_refuses_what_is_no_interval(numbers):
    with pytest.raises(ReportError):
        verdict(*numbers)


def test_a_claim_may_be_another_papers():
    def letters(n):
        yield above(0, HIGH, "A beyond B")

    assert chapter_of(letters)["letters"].source == "Someone 2024, table 1"
    assert chapter_of(letters, by="Else 2023")["letters"].source == "Else 2023, table 1"


def test_interval_is_the_central_95_percent():
    judged = judge(above(0, Estimate(500, np.arange(1001)), "A beyond B"))
    assert (judged.low, judged.high) == pytest.approx((25, 975))


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ([HIGH, HIGH], "holds"),
        ([HIGH, WIDE], "inconclusive"),
        ([HIGH, WIDE, LOW], "does not hold"),
    ],
)
def test_a_claim_is_as_good_as_its_weakest_part(parts, expected):
    judged = judge(*(above(0, part, f"part {n}") for n, part in enumerate(parts)))
    assert judged.verdict == expected
    assert judged.what == f"part {len(parts) - 1 if expected != 'holds' else 0}"
    assert [part.what for part in judged.parts] == [f"part {n}" for n in range(len(parts))]


@given(st.floats(-1, 1), st.floats(-1, 1), st.lists(st.floats(-1, 1), min_size=2, max_size=9))
def test_above_and_below_mirror_each_other(value, claimed, draws):
    estimate = Estimate(value, draws)
    up = judge(above(claimed, estimate, "a"))
    down = judge(below(-claimed, -estimate, "a"))
    assert up.verdict == down.verdict
    assert (up.estimate, up.low, up.high) == pytest.approx((down.estimate, down.low, down.high))
    assert up.measured == value
    assert up.estimate == pytest.approx(value - claimed)


def test_nothing_to_judge_is_said_or_refused():
    found = judge(needs="20 tasks")
    assert (found.verdict, found.what) == ("not testable at this scale", "needs 20 tasks")
    with pytest.raises(ReportError, match=r"'letters': nothing to judge.*let the claim say why"):
        judge()


def test_a_number_that_is_not_there_is_named():
    numbers = Numbers([Setting(8)], normalised=exact)
    with pytest.raises(AttributeError, match=r"no 'storage'.*settings, normalised.*storage=\.\.\."):
        _ = numbers.storage
    assert not hasattr(numbers, "storage")


def test_a_claim_whose_page_does_not_exist_is_named():
    chapter = chapter_of(lambda n: iter(()))
    (problem,) = chapter.homeless(["letters/two"])
    assert "page 'one'" in problem and "no notebooks/letters/one.ipynb" in problem
    assert chapter.homeless(["letters/one"]) == []


def test_bad_declarations_are_refused():
    def letters(n):
        yield above(0, exact(1), "a")

    chapter = chapter_of(letters)
    with pytest.raises(ReportError, match="listed twice"):
        chapter.claim("Again", where="table 2", page="two")(letters)
    with pytest.raises(ReportError, match="needs `page` or `untested`"):
        Chapter("x", "y", "z").claim("Nowhere", where="table 2")(letters)
    with pytest.raises(ReportError, match="unknown chapter 'tall_mask'; did you mean 'tall_masks'"):
        load_claims("tall_mask")


def test_ends_are_per_encoder():
    settings = [Setting(8, "a"), Setting(20, "a"), Setting(8, "b")]
    assert Numbers(settings).ends == [(settings[0], settings[1])]
    assert str(Setting(8, "ViT-B-32")) == "ViT-B/32, 8 tasks"
    assert str(Setting(7, tasks="language tasks")) == "7 language tasks"


@pytest.mark.parametrize("name", list_chapters())
def test_a_chapters_claims_are_small_and_said_once(name):
    chapter = load_claims(name)
    statements = [claim.statement for claim in chapter.values()]
    assert len(set(statements)) == len(statements)
    for key, claim in chapter.items():
        lines = inspect.getsource(claim.formula).split("def ", 1)[1].splitlines()
        assert len(lines) <= 10, f"{key}: a formula is a few lines"
        assert not set(claim.statement.lower().split()) & {"no", "not", "never"} or (
            "no" not in claim.statement.lower().split()[:3]
        ), f"{key}: a verdict on a negation is hard to read"
        assert claim.where == OURS or re.match(r"\w+ et al\. \d{4}.*, ", claim.source)


@pytest.mark.parametrize("name", list_chapters())
def test_what_the_paper_prints_can_be_judged(name):
    chapter = load_claims(name)
    judged = {found.claim.key for found in chapter.judge_printed()}
    assert judged == {key for key, claim in chapter.items() if claim.printed}


def cell(method, size, backbone, metric="normalised_accuracy_percent", table="main"):
    frame = reported(f"tall_masks_{table}")
    row = frame[
        (frame["method"] == method)
        & (frame["num_tasks"] == size)
        & (frame["backbone"] == backbone)
        & (frame["metric"] == metric)
    ]
    return float(row["value"].iloc[0])


def test_printed_numbers_by_hand():
    """The deciding parts of some claims, from the printed cells themselves."""
    judged = {found.claim.key: found for found in load_claims("tall_masks").judge_printed()}
    images = [
        cell(m, s, b)
        for m in ("tall_ta", "tall_ties")
        for s in (8, 14, 20)
        for b in ("ViT-B-32", "ViT-L-14")
    ]
    assert judged["keep"].measured == pytest.approx(min(images) / 100)
    words = [
        cell(m, s, "T5-large", table="language")
        for m in ("tall_ta", "tall_ties")
        for s in (7, 8, 11)
    ]
    assert judged["keep_language"].measured == pytest.approx(min(words) / 100)
    gains = [
        cell("consensus_ta", s, b) - cell("task_arithmetic", s, b)
        for s in (8, 14, 20)
        for b in ("ViT-B-32", "ViT-L-14")
    ]
    assert judged["consensus"].estimate == pytest.approx(min(gains) / 100)
    shares = [part for part in judged["storage"].parts if part.relation == "<"]
    bits = [
        cell("tall_ties", 20, b, "storage_gigabit") / cell("fine_tuned", 20, b, "storage_gigabit")
        for b in ("ViT-B-32", "ViT-L-14")
    ]
    assert [part.measured for part in shares] == pytest.approx(bits)


def numbers_of(level):
    """Every kind of number that the chapter asks for, from a table of made-up accuracies."""
    settings = [Setting(8), Setting(20)]
    return Numbers(
        settings,
        profiled=settings,
        methods=("tall_ta", "tall_ties", "task_arithmetic", "ties"),
        normalised=lambda method, at, same=None: exact(level(method, at)),
        storage=lambda method, at: exact(0.1),
        density=lambda method: exact(0.3),
        trained_density=lambda method: exact(0.4),
        used_by=lambda method, at, counts: exact(level(f"used {sorted(counts)}", at)),
        votes=lambda method, at, k: exact(level(f"{method} {k}", at)),
        shuffled=lambda at, k: exact(level("shuffled", at)),
        accuracy=lambda method, at: exact(level(method, at)),
        last_vote=lambda at: at.num_tasks,
        variant=lambda name, at: exact(level(name, at)),
    )


def test_formulas_follow_their_statements():
    chapter = load_claims("tall_masks")
    flat = {"tall_ta": 0.995, "tall_ties": 0.995, "task_arithmetic": 0.8, "ties": 0.8}

    def paper_like(name, at):
        fall = 0.1 if at.num_tasks == 20 and name in ("task_arithmetic", "ties") else 0
        return flat.get(name, 0.5) - fall

    def opposite(name, at):
        return {"tall_ta": 0.5}.get(name, 0.9) + (0.05 if at.num_tasks == 20 else 0)

    assert chapter["keep"].judge(numbers_of(paper_like)).verdict == "holds"
    assert chapter["keep"].judge(numbers_of(opposite)).verdict == "does not hold"
    assert chapter["flat"].judge(numbers_of(paper_like)).verdict == "holds"
    assert chapter["flat"].judge(numbers_of(opposite)).verdict == "does not hold"
    assert chapter["storage"].judge(numbers_of(paper_like)).verdict == "holds"
    assert chapter["sparse"].judge(numbers_of(paper_like)).estimate == pytest.approx(0.2)
