import math

import numpy as np
import pytest

from mergebook.errors import ReportError
from mergebook.report import Claim, claims_table, readable, verdict, verdicts
from mergebook.report.claims import shown
from mergebook.uncertainty import Estimate, exact

CLAIM = Claim("above", "A is above B", "Table 1")
HIGH = Estimate(0.02, np.linspace(0.008, 0.032, 401))
LOW = Estimate(-0.02, np.linspace(-0.03, -0.01, 401))
WIDE = Estimate(0.01, np.linspace(-0.01, 0.03, 401))
ABOVE, BELOW, ACROSS = (CLAIM.judge({"A - B": part}) for part in (HIGH, LOW, WIDE))


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


def test_interval_is_the_central_95_percent():
    judged = CLAIM.judge({"A - B": Estimate(500, np.arange(1001))})
    assert (judged.low, judged.high) == pytest.approx((25, 975))
    assert judged.verdict == "holds"
    assert (ABOVE.verdict, BELOW.verdict, ACROSS.verdict) == (
        "holds",
        "does not hold",
        "inconclusive",
    )


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ([HIGH, HIGH], "holds"),
        ([HIGH, WIDE], "inconclusive"),
        ([HIGH, WIDE, LOW], "does not hold"),
    ],
)
def test_conjunction(parts, expected):
    judged = CLAIM.judge({f"part {n}": part for n, part in enumerate(parts)})
    assert judged.verdict == expected
    assert judged.low == min(part.interval[0] for part in parts)


def test_conjunction_reports_a_part_that_decides():
    wide = Estimate(0.0, np.linspace(-0.9, 0.9, 401))
    judged = CLAIM.judge({"wide": wide, "below": LOW})
    assert (judged.verdict, judged.estimate) == ("does not hold", -0.02)
    assert judged.note == "below"


def test_nothing_is_not_judged():
    with pytest.raises(ReportError, match="claim 'above': nothing to judge"):
        CLAIM.judge({})
    judged = CLAIM.judge({}, missing="needs two sizes")
    assert (judged.verdict, judged.note) == ("not testable at this scale", "needs two sizes")


def test_table_shows_estimates_intervals_and_verdicts():
    other = Claim("nlp", "It holds on text", "Table 2").not_testable("no language model")
    ratio = Claim("ratio", "Smaller", "Table 1", unit="Gbit").judge({"": exact(0.25)})
    html = claims_table([ABOVE, other, ratio]).data
    assert "<td>+2.0 points</td>" in html and "<td>+0.9 to +3.1</td>" in html
    assert "<td>not testable at this scale</td><td>no language model</td>" in html
    assert "<td>+0.25 Gbit</td>" in html


def test_table_has_every_comparison_of_a_claim():
    alone = claims_table([ABOVE]).data
    assert "<details" not in alone
    html = claims_table([CLAIM.judge({"A - B": HIGH, "C - D": LOW})]).data
    folded = html[html.index("<details") :]
    assert "All 2 comparisons" in folded and CLAIM.statement in folded
    assert folded.index("A − B") < folded.index("+2.0 points") < folded.index("C − D")
    assert "<td>holds</td>" in folded and "<td>does not hold</td>" in folded
    shown = html[: html.index("<details")]
    assert "C − D" in shown and "A − B" not in shown


def test_what_is_compared_reads_well():
    assert readable("8 tasks: tall_ta - ties") == "8 tasks: TALL Mask + TA − TIES"
    assert readable("k = 2 - k = 1") == "k = 2 − k = 1"
    assert [shown(v, "points") for v in (-0.0004, 0.0004, -0.004, 0.01)] == [
        "0.0",
        "0.0",
        "−0.4",
        "+1.0",
    ]


def test_verdicts_as_data():
    untested = Claim("nlp", "It holds on text", "Table 2").not_testable("no language model")
    rows = verdicts([ABOVE, untested]).set_index("key")
    assert rows.loc["above", ["estimate", "verdict"]].tolist() == [0.02, "holds"]
    assert math.isnan(rows.loc["nlp", "low"]) and rows.loc["nlp", "compared"] == "no language model"


def test_table_refuses_a_claim_twice():
    with pytest.raises(ReportError, match="claims listed twice: above"):
        claims_table([ABOVE, BELOW])
