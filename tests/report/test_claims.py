import math

import numpy as np
import pytest

from mergebook.errors import ReportError
from mergebook.report import Claim, claims_table, verdict, verdicts

CLAIM = Claim("above", "A is above B", "Table 1")
ABOVE = CLAIM.judge(np.linspace(0.008, 0.032, 401), 0.02)
BELOW = CLAIM.judge(np.linspace(-0.03, -0.01, 401), -0.02)
ACROSS = CLAIM.judge(np.linspace(-0.01, 0.03, 401), 0.01)


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
    judged = CLAIM.judge(np.arange(1001), 500)
    assert (judged.low, judged.high) == (25, 975)
    assert judged.verdict == "holds"
    assert (ABOVE.verdict, BELOW.verdict, ACROSS.verdict) == (
        "holds",
        "does not hold",
        "inconclusive",
    )


@pytest.mark.parametrize("samples", [[], [1.0, math.nan], [[1.0, 2.0]]])
def test_bad_samples_name_the_claim(samples):
    with pytest.raises(ReportError, match="'above'"):
        CLAIM.judge(samples, 0.0)


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ([ABOVE, ABOVE], "holds"),
        ([ABOVE, ACROSS], "inconclusive"),
        ([ABOVE, ACROSS, BELOW], "does not hold"),
    ],
)
def test_conjunction(parts, expected):
    judged = CLAIM.judge_all(parts)
    assert judged.verdict == expected
    assert judged.low == min(p.low for p in parts)


def test_conjunction_reports_a_part_that_decides():
    wide = CLAIM.judge(np.linspace(-0.9, 0.9, 401), 0.0)
    judged = CLAIM.judge_all([wide, BELOW])
    assert (judged.verdict, judged.estimate) == ("does not hold", -0.02)


def test_conjunction_refuses_nothing_and_the_untestable():
    with pytest.raises(ReportError, match="nothing to judge"):
        CLAIM.judge_all([])
    with pytest.raises(ReportError, match="not testable"):
        CLAIM.judge_all([ABOVE, CLAIM.not_testable("no text data")])


def test_table_shows_estimates_intervals_and_verdicts():
    other = Claim("nlp", "It holds on text", "Table 2").not_testable("no language model")
    ratio = Claim("ratio", "Smaller", "Table 1", unit="Gbit").judge([0.25] * 5, 0.25)
    html = claims_table([ABOVE, other, ratio]).data
    assert "<td>+2.0 points</td>" in html and "<td>+0.9 to +3.1</td>" in html
    assert "<td>not testable at this scale</td><td>no language model</td>" in html
    assert "<td>+0.25 Gbit</td>" in html


def test_verdicts_as_data():
    untested = Claim("nlp", "It holds on text", "Table 2").not_testable("no language model")
    rows = verdicts([ABOVE, untested]).set_index("key")
    assert rows.loc["above", ["estimate", "verdict"]].tolist() == [0.02, "holds"]
    assert math.isnan(rows.loc["nlp", "low"]) and rows.loc["nlp", "compared"] == "no language model"


def test_table_refuses_a_claim_twice():
    with pytest.raises(ReportError, match="claims listed twice: above"):
        claims_table([ABOVE, BELOW])
