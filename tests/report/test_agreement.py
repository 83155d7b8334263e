"""Claims by where they hold: every claim in one group, and the counts are those of the tables."""

import re

import pandas as pd
import pytest

from mergebook.claims import (
    FAILS,
    HOLDS,
    INCONCLUSIVE,
    NOT_TESTABLE,
    list_chapters,
    load_claims,
)
from mergebook.errors import ReportError
from mergebook.report import agreement_tables
from mergebook.report.agreement import (
    EVERYWHERE,
    GROUPS,
    IMAGES_ONLY,
    NOWHERE,
    OPEN,
    TEXTS_ONLY,
    group,
)


@pytest.mark.parametrize(
    ("drawn", "real", "texts", "expected"),
    [
        (HOLDS, HOLDS, HOLDS, EVERYWHERE),
        (HOLDS, INCONCLUSIVE, HOLDS, EVERYWHERE),
        (NOT_TESTABLE, HOLDS, HOLDS, EVERYWHERE),
        (FAILS, INCONCLUSIVE, FAILS, NOWHERE),
        (HOLDS, HOLDS, FAILS, IMAGES_ONLY),
        (FAILS, NOT_TESTABLE, HOLDS, TEXTS_ONLY),
        (HOLDS, FAILS, HOLDS, OPEN),
        (HOLDS, FAILS, FAILS, OPEN),
        (INCONCLUSIVE, INCONCLUSIVE, HOLDS, OPEN),
        (HOLDS, HOLDS, INCONCLUSIVE, OPEN),
        (HOLDS, HOLDS, NOT_TESTABLE, None),
        (NOT_TESTABLE, NOT_TESTABLE, HOLDS, None),
    ],
)
def test_the_group_of_a_claim(drawn, real, texts, expected):
    assert group([drawn, real], texts) == expected == group([real, drawn], texts)


def test_every_claim_is_counted_once_and_listed_where_it_is_counted():
    counts, *groups = agreement_tables()
    total = sum(len(load_claims(name).values()) for name in list_chapters())
    rows = {
        head: [int(value) for value in re.findall(r"<td[^>]*>(\d+)", line)]
        for head, line in re.findall(r"<tr><th[^>]*>([^<]+)</th>(.*?)</tr>", counts.data, re.S)
    }
    assert {*GROUPS, "Cannot be compared"} <= set(rows)
    assert sum(values[-1] for values in rows.values() if values) == total
    listed = {where: 0 for where in GROUPS}
    for table in groups:
        where = next(w for w in GROUPS if f"<caption>{w}" in table.data or f"{w} (" in table.data)
        listed[where] = len(re.findall(r'href="\.\./executed/', table.data))
    assert listed == {where: rows[where][-1] for where in GROUPS}


def test_without_a_run_on_texts_there_is_nothing_to_compare(monkeypatch):
    frame = pd.DataFrame({"key": ["keep"], "verdict": [HOLDS]})
    monkeypatch.setattr("mergebook.report.agreement.sources", lambda pages: {"Mini": frame})
    with pytest.raises(ReportError, match="both on images and on texts"):
        agreement_tables()
