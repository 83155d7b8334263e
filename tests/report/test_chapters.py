"""Claims from their file, and the verdicts of every run beside each other."""

import numpy as np
import pandas as pd
import pytest
import yaml

from mergebook import paths
from mergebook.errors import ReportError
from mergebook.estimate import Estimate
from mergebook.notebooks import find_notebooks
from mergebook.report import (
    claims_of_runs,
    load_claims,
    save_results,
    verdicts,
    verdicts_of_chapter,
    verdicts_page,
)
from mergebook.report.chapters import NOT_JUDGED

CLAIMS = {
    "name": "Someone 2024",
    "claims": {
        "above": {"statement": "A is above B", "where": "table 1", "notebook": "letters/one"},
        "below": {"statement": "C is below D", "where": "table 2", "notebook": "letters/two"},
        "words": {"statement": "Words, too", "where": "table 3", "untested": "needs words"},
    },
}


@pytest.fixture
def project(tmp_path, monkeypatch):
    (tmp_path / "_config.yml").touch()
    (tmp_path / "data/claims").mkdir(parents=True)
    (tmp_path / "data/claims/letters.yaml").write_text(yaml.safe_dump(CLAIMS, sort_keys=False))
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MERGEBOOK_RESULTS", raising=False)
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
    judged(claims["above"], -0.05).to_csv(folder / "claims.csv", index=False)
    table = verdicts_of_chapter("letters")
    assert list(table.index) == [claim.statement for claim in claims.values()]
    assert list(table.columns) == ["Source", "This build", "full"]
    assert table.loc["A is above B", "This build"] == "holds: +5.0 points (+3.1 to +6.9)"
    assert table.loc["A is above B", "full"] == "does not hold: -5.0 points (-6.9 to -3.1)"
    assert table.loc["C is below D", "This build"] == "not testable at this scale: one size"
    assert table.loc["C is below D", "full"] == NOT_JUDGED
    assert table.loc["Words, too", "full"] == "not testable at this scale: needs words"
    page = verdicts_page("letters")
    assert page.startswith("```{raw} html\n<div")
    assert 'href="../../executed/letters/two.html">C is below D' in page


def test_a_column_per_set_of_experts(project):
    assert "No run" in claims_of_runs("letters/one").data
    claim = load_claims("letters")["above"]
    folder = project / "data/measured/full/letters/one"
    folder.mkdir(parents=True)
    runs = [judged(claim, 0.05, backbone="b", seed=0), judged(claim, -0.05, backbone="b", seed=7)]
    pd.concat(runs).to_csv(folder / "claims.csv", index=False)
    html = claims_of_runs("letters/one").data
    assert html.index("full: b, experts 0") < html.index("full: b, experts 7")
    assert html.index("A is above B") < html.index("+5.0 points") < html.index("-5.0 points")
    assert "C is below D" not in html
    # The chapter's own table shows the first set only.
    built = {"letters/one": runs[1], "letters/two": judged(load_claims("letters")["below"], 0.1)}
    assert verdicts_of_chapter("letters", built).loc["A is above B", "full"].startswith("holds")


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
    for key, claim in claims.items():
        if claim.notebook:
            cells = notebooks[claim.notebook].cells
            assert any(f'"{key}"' in cell["source"] for cell in cells), key
