"""Claims from their file, and the verdicts of every run beside each other."""

import numpy as np
import pandas as pd
import pytest
import yaml

from mergebook import paths
from mergebook.errors import ReportError
from mergebook.notebooks import find_notebooks
from mergebook.report import (
    Claim,
    claims_of_runs,
    load_claims,
    save_results,
    verdicts,
    verdicts_of_chapter,
    verdicts_page,
)
from mergebook.report.chapters import NOT_JUDGED
from mergebook.report.claims import reported_notebook
from mergebook.uncertainty import Estimate

CLAIMS = {
    "name": "Someone 2024",
    "claims": {
        "above": {"statement": "A is above B", "where": "table 1", "notebook": "letters/one"},
        "below": {"statement": "C is below D", "where": "table 2", "notebook": "letters/two"},
        "words": {"statement": "Words, too", "where": "table 3", "untested": "needs words"},
    },
}


WHERE = {"backbone": "b", "seed": 0}
FULL = "full: b, experts 0"


@pytest.fixture
def project(tmp_path, monkeypatch):
    (tmp_path / "_config.yml").touch()
    (tmp_path / "data/claims").mkdir(parents=True)
    (tmp_path / "data/claims/letters.yaml").write_text(yaml.safe_dump(CLAIMS, sort_keys=False))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MERGEBOOK_RESULTS", str(tmp_path / "results"))
    return tmp_path


def judged(claim, centre, **where):
    part = Estimate(centre, np.linspace(centre - 0.02, centre + 0.02, 401))
    return verdicts([claim.judge({"A - B": part})], **where)


def test_claims_come_in_order_with_their_source(project):
    claims = load_claims("letters")
    assert list(claims) == ["above", "below", "words"]
    assert claims["above"].source == "Someone 2024, table 1"
    assert (claims["below"].notebook, claims["words"].untested) == ("letters/two", "needs words")


def test_bad_chapters_are_named(project):
    with pytest.raises(ReportError, match=r"digits.*letters"):
        load_claims("digits")
    broken = {"name": "X", "claims": {"a": {"statement": "A", "where": "here"}}}
    (project / "data/claims/broken.yaml").write_text(yaml.safe_dump(broken))
    with pytest.raises(ReportError, match=r"broken\.yaml.*'a'"):
        load_claims("broken")


def test_a_column_per_run(project):
    claims = load_claims("letters")
    with pytest.raises(ReportError, match="mergebook run letters/one"):
        verdicts_of_chapter("letters")
    save_results(judged(claims["above"], 0.05), "letters/one", "claims")
    save_results(verdicts([claims["below"].not_testable("one size")]), "letters/two", "claims")
    folder = project / "data/measured/full/letters/one"
    folder.mkdir(parents=True)
    judged(claims["above"], -0.05, **WHERE).to_csv(folder / "claims.csv", index=False)
    table = verdicts_of_chapter("letters")
    assert list(table.index) == [claim.statement for claim in claims.values()]
    assert list(table.columns) == ["Source", "This build", FULL]
    assert table.loc["A is above B", "This build"] == "holds: +5.0 points (+3.1 to +6.9)"
    assert table.loc["A is above B", FULL] == "does not hold: −5.0 points (−6.9 to −3.1)"
    assert table.loc["C is below D", "This build"] == "not testable at this scale: one size"
    assert table.loc["C is below D", FULL] == NOT_JUDGED
    assert table.loc["Words, too", FULL] == "not testable at this scale: needs words"
    page = verdicts_page("letters")
    assert page.startswith("```{raw} html\n<div")
    assert 'href="../../executed/letters/two.html">C is below D' in page


def test_a_column_per_set_of_experts(project):
    assert "No run" in claims_of_runs("letters/one").data
    claim = load_claims("letters")["above"]
    folder = project / "data/measured/full/letters/one"
    folder.mkdir(parents=True)
    runs = [judged(claim, 0.05, **WHERE), judged(claim, -0.05, backbone="b", seed=7)]
    chance = Claim("chance", "Not by chance", "ours").judge({"": Estimate(0.3, [0.3])})
    larger = judged(claim, 0.2, backbone="c", seed=0)
    kept = [runs[0], larger, runs[1], verdicts([chance], **WHERE)]
    pd.concat(kept).to_csv(folder / "claims.csv", index=False)
    html = claims_of_runs("letters/one").data
    heads = [
        html.index(f"full: {name}") for name in ("b, experts 0", "b, experts 7", "c, experts 0")
    ]
    assert heads == sorted(heads)  # a backbone's sets of experts are neighbours
    assert html.index("A is above B") < html.index("+5.0 points") < html.index("−5.0 points")
    assert "C is below D" not in html
    # Our own claim is shown, where the run judged it; a claim that is new to the run says so.
    ours = html[html.index("Not by chance") :]
    assert "+30.0 points" in ours and ours.count(NOT_JUDGED) == 2
    pd.concat([verdicts([chance], **WHERE)]).to_csv(folder / "claims.csv", index=False)
    html = claims_of_runs("letters/one").data
    assert html[html.index("A is above B") : html.index("Not by chance")].count(NOT_JUDGED) == 1
    pd.concat(kept).to_csv(folder / "claims.csv", index=False)
    # The chapter's own table shows the first set only.
    built = {"letters/one": runs[1], "letters/two": judged(load_claims("letters")["below"], 0.1)}
    assert verdicts_of_chapter("letters", built).loc["A is above B", FULL].startswith("holds")


def test_a_run_of_several_sets_says_how_often(project):
    claims = load_claims("letters")
    above = [judged(claims["above"], 0.01 * n, backbone="b", seed=n) for n in (5, -5, 10)]
    larger = judged(claims["above"], -0.2, backbone="c", seed=5)
    folder = project / "data/measured/full/letters/one"
    folder.mkdir(parents=True)
    untestable = verdicts([claims["above"].not_testable("one size")], backbone="b", seed=6)
    pd.concat([*above, larger, untestable]).to_csv(folder / "claims.csv", index=False)
    built = {"letters/one": above[1], "letters/two": judged(claims["below"], 0.1)}
    text = verdicts_of_chapter("letters", built).loc["A is above B", "full: b, experts 5"]
    assert text.startswith("holds: +5.0 points")
    assert text.endswith("; over 3 sets of experts: holds 2, does not hold 1")


def test_the_papers_own_numbers_have_a_column(project):
    described = CLAIMS | {"reported": "letters/printed"}
    (project / "data/claims/letters.yaml").write_text(yaml.safe_dump(described, sort_keys=False))
    assert reported_notebook("letters") == "letters/printed"
    claims = load_claims("letters")
    own = pd.concat([judged(claims["above"], 0.3), judged(claims["words"], -0.3)])
    tables = {
        "letters/one": judged(claims["above"], 0.1),
        "letters/two": judged(claims["below"], 0.1),
        "letters/printed": own,
    }
    column = verdicts_of_chapter("letters", tables)["Paper's own numbers"]
    assert column["A is above B"].startswith("holds: +30.0")
    assert column["C is below D"] == "—"
    assert column["Words, too"].startswith("does not hold: −30.0")
    for name in ("letters/one", "letters/two"):
        save_results(tables[name], name, "claims")
    with pytest.raises(ReportError, match="mergebook run letters/printed"):
        verdicts_of_chapter("letters")


def test_a_notebook_must_judge_its_claims(project):
    claims = load_claims("letters")
    tables = {"letters/one": judged(claims["above"], 0.1), "letters/two": pd.DataFrame({"key": []})}
    with pytest.raises(ReportError, match=r"letters/two: .*'below'"):
        verdicts_of_chapter("letters", tables)


@pytest.mark.parametrize("path", sorted((paths.data_dir() / "claims").glob("*.yaml")), ids=str)
def test_claims_of_the_book_are_tested_by_notebooks_that_exist(path):
    described, notebooks = yaml.safe_load(path.read_text()), find_notebooks()
    claims = load_claims(path.stem)
    bibliography = (paths.project_dir() / "book/references.bib").read_text()
    assert f"{{{described['paper']}," in bibliography
    own = reported_notebook(path.stem)
    for key, claim in claims.items():
        for name in filter(None, (claim.notebook, own)):
            assert any(f'"{key}"' in cell["source"] for cell in notebooks[name].cells), key
