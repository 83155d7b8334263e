"""The table of verdicts and its figure: every source in its column, nothing hidden."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mergebook.claims import Chapter, Numbers, above, load_claims
from mergebook.errors import ReportError
from mergebook.report import chapter_verdicts, comparisons, judgement_rows, strip_figure
from mergebook.report.verdicts import (
    BUILD,
    LOOKS,
    badge,
    cell,
    limit,
    sources,
    value,
    verdict_table,
)
from mergebook.uncertainty import Estimate, exact

CHAPTER = Chapter("letters", paper="someone2024", authors="Someone 2024")


@CHAPTER.claim("A is above 99 %", where="table 1", page="one")
def level(n):
    yield above(0.99, n.level, "level of A")


@CHAPTER.claim("A gains", where="table 2", page="one", needs="more")
def gain(n):
    if n.gain is not None:
        yield above(0, n.gain, "gain of A <b>", "points")


@CHAPTER.claim("Words, too", where="table 3", untested="needs words")
def words(n):
    yield from ()


def judged(centre, shift=None):
    draws = np.linspace(centre - 0.002, centre + 0.002, 401)
    numbers = Numbers((), level=Estimate(centre, draws), gain=shift)
    return [claim.judge(numbers) for claim in CHAPTER.of_page("letters/one")]


def rows(centre, backbone="small", seed=0, shift=None):
    return judgement_rows(judged(centre, shift), backbone=backbone, seed=seed)


def table(**runs):
    return verdict_table(CHAPTER.values(), {}, runs, caption="Claims").data


def test_rows_say_what_was_measured_and_claimed():
    row = rows(0.984).iloc[0]
    assert (row["measured"], row["claimed"], row["relation"]) == (0.984, 0.99, ">")
    assert row["estimate"] == pytest.approx(-0.006)
    assert (row["verdict"], row["what"], row["seed"]) == ("does not hold", "level of A", 0)
    assert np.isnan(rows(0.984).iloc[1]["measured"])


def test_a_cell_has_value_interval_verdict_and_what_decided():
    html = table(Full=rows(0.984, shift=exact(0.007)))
    assert "98.4" in html and "98.2 to 98.6" in html
    assert 'class="verdict-fails">does not hold<' in html
    assert 'class="verdict-holds">holds<' in html
    assert "+0.7 points" in html and "&gt; 99" in html
    assert "gain of A &lt;b&gt;" in html, "what was measured is text, not markup"
    assert html.count("needs words") == 1


def test_other_sets_are_counted_and_other_encoders_named():
    sets = pd.concat([rows(0.984), rows(0.983, seed=1), rows(0.999, seed=2), rows(0.9995, "large")])
    html = table(Full=sets)
    assert "this verdict in 2 of 3 sets of experts" in html
    assert "large: holds" in html


def test_every_source_has_its_column():
    html = table(One=rows(0.984), Two=rows(0.999).iloc[:1])
    heads = re.findall(r'<th scope="col">([^<]*)</th>', html)
    assert heads == ["Claim", "One", "Two"]
    below = re.findall(r'<th scope="row">.*?<br><small>(.*?)</small></th>', html)
    assert below == [
        "claimed &gt; 99\u202f%<br>Someone 2024, table 1",
        "Someone 2024, table 2",
        "Someone 2024, table 3<br>not tested: needs words",
    ]
    assert "not part of this run" in html, "a run may be older than a claim"
    with pytest.raises(ReportError, match="no claim"):
        verdict_table([], {}, {}, caption="Claims")


@pytest.mark.parametrize("word", LOOKS)
def test_a_verdict_is_told_without_colour(word):
    assert f">{word}<" in badge(word)
    style = (Path(__file__).parents[2] / "book/_static/verdicts.css").read_text(encoding="utf-8")
    marks = [
        re.search(rf"\.{look}::before {{\s*content: \"(.)", style)[1] for look in LOOKS.values()
    ]
    assert len(set(marks)) == len(LOOKS)


def test_limits_and_values_are_text():
    first, second = judged(0.984, exact(-0.0001))
    assert (limit(first), limit(second)) == ("> 99\N{NARROW NO-BREAK SPACE}%", "> 0 points")
    assert value(second) == "0.0 points"


def test_an_interval_shows_on_which_side_it_ends_and_a_count_has_none():
    html = table(Full=rows(0.984, shift=exact(0.007)))
    assert "(0.7 to 0.7)" not in html
    row = rows(0.984).iloc[0].copy()
    row["measured_low"], row["measured_high"] = 0.9848, 0.9904
    assert "98.48 to 99.04" in cell(row)
    row["measured_high"] = 0.9916
    assert "98.5 to 99.2" in cell(row)


def test_formulas_and_all_parts_unfold():
    html = comparisons(judged(0.984), "All").data
    assert "level of A" in html and "95 % interval" in html
    assert re.sub("<[^>]*>", "", html).count("yield above(0.99") == 1
    assert "needs more" in html
    read = comparisons(judged(0.984), "All", reading=True).data
    assert "95 %" not in read and "Can be read as" in read


def test_a_chapters_verdicts_cover_all_its_claims():
    html, figure, narrow = chapter_verdicts("tall_masks")
    chapter = load_claims("tall_masks")
    text = html.replace("&#39;", "'")
    for claim in chapter.values():
        assert claim.statement in text, claim.key
    headings = re.findall("rowgroup[^>]*>([^<]*)", text)
    assert len(headings) == len(set(headings)) and "How dense are the masks?" in headings
    labels = [tick.get_text().replace("\n", " ") for tick in figure.axes[0].get_yticklabels()]
    assert labels == [claim.statement for claim in chapter.values()]
    assert len(figure.axes[0].get_lines()) > 2 * len(chapter)
    above_strips = [text.get_text().replace("\n", " ") for text in narrow.axes[0].texts]
    assert above_strips == [claim.statement for claim in chapter.values()]
    drawn, drawn_narrow = (
        [list(line.get_xdata()) for line in each.axes[0].get_lines()] for each in (figure, narrow)
    )
    assert drawn == drawn_narrow


def test_numbers_that_are_no_percentages_are_written_on_the_side_of_their_verdict(monkeypatch):
    frame = rows(0.984)
    rank = frame.iloc[0].to_dict() | {
        "form": ".2f", "measured": -0.9, "relation": "<", "claimed": 0, "verdict": "holds"
    }  # fmt: skip
    chapter = load_claims("tall_masks")
    key = next(iter(chapter))
    measured = pd.DataFrame([rank | {"key": key}])
    monkeypatch.setattr("mergebook.report.strip.sources", lambda notebooks: {"run": measured})
    monkeypatch.setattr(type(chapter), "judge_printed", lambda self: [])
    [words] = strip_figure(chapter).axes[0].texts
    assert words.get_text() == "● −0.90 (claimed < 0.00)"
    assert words.get_position()[0] > 0 and words.get_ha() == "left"


def test_this_build_stands_in_where_no_run_is_committed(tmp_path, monkeypatch):
    monkeypatch.setenv("MERGEBOOK_RESULTS", str(tmp_path))
    assert sources(["letters/one"]) == {}
    for notebook in ("letters/one", "tall_masks/main_table"):
        (tmp_path / notebook).mkdir(parents=True)
        rows(0.984).to_csv(tmp_path / notebook / "claims.csv", index=False)
    found = sources(["letters/one", "letters/two"])
    assert list(found) == [BUILD]
    assert found[BUILD]["key"].tolist() == ["level", "gain"]
    assert BUILD not in sources(["letters/one", "tall_masks/main_table"])
