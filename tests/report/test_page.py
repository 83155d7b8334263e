"""A notebook's page: committed runs first, this run folded below, results saved."""

import pandas as pd
import pytest

from mergebook.claims import Numbers
from mergebook.errors import ReportError
from mergebook.report import Page, curve_figure, grid, load_results
from mergebook.report import page as module

HERE = pd.DataFrame({"k": [1, 2], "method": "ties", "accuracy": [0.1, 0.2], "backbone": "b"})
COMMITTED = HERE.assign(accuracy=[0.6, 0.7])
OTHER = HERE.assign(accuracy=0.9, backbone="large")


@pytest.fixture
def shown(monkeypatch, tmp_path):
    """What a page displayed, in order."""
    outputs = []
    monkeypatch.setenv("MERGEBOOK_RESULTS", str(tmp_path))
    monkeypatch.delenv(module.RERUN, raising=False)
    monkeypatch.setattr(module, "display", lambda *pieces: outputs.extend(p.data for p in pieces))
    return outputs


@pytest.fixture
def runs(monkeypatch):
    """Make a run be committed."""
    found = {"Mini benchmark": pd.concat([COMMITTED, OTHER])}
    monkeypatch.setattr(module, "committed", lambda notebook, table: found)


def by_k(frame):
    return grid(frame, rows="k", columns="method", value="accuracy")


def test_what_is_saved_can_be_read(shown):
    Page("letters/one", seed=3).save(points=HERE)
    pd.testing.assert_frame_equal(load_results("letters/one", "points"), HERE, check_dtype=False)


def test_the_committed_run_is_open_and_this_one_folded(shown, runs):
    page = Page("letters/one", seed=3)
    page.save(points=HERE)
    page.table("points", lambda frame: by_k(frame[frame["backbone"] == "b"]), caption="Accuracy")
    [html] = shown
    first, _, folded = html.partition("<details")
    assert "60.0" in first and "10.0" not in first
    assert "10.0" in folded and "seed 3" in folded and " open" not in folded.split(">")[0]


def test_a_reader_who_reruns_finds_it_unfolded(shown, runs, monkeypatch):
    monkeypatch.setenv(module.RERUN, "1")
    page = Page("letters/one", seed=3)
    page.save(points=HERE)
    page.table("points", by_k, caption="Accuracy")
    assert "<details" in shown[0] and " open>" in shown[0]


def test_without_a_committed_run_this_one_is_shown(shown, monkeypatch):
    monkeypatch.setattr(module, "committed", lambda notebook, table: {})
    page = Page("letters/one", seed=3)
    page.save(points=HERE)
    page.table("points", by_k, caption="Accuracy")
    assert "10.0" in shown[0] and "<details" not in shown[0]


def test_a_figure_draws_the_first_backbone_and_the_papers_numbers(shown, runs, monkeypatch):
    drawn = []

    def draw(frames, **options):
        drawn.append(
            ({source: set(frame["accuracy"]) for source, frame in frames.items()}, options)
        )
        return curve_figure(frames, x="k", xlabel="k", ylabel="%")

    page = Page("letters/one", seed=3)
    page.save(points=HERE)
    words = {"name": "a", "alt": "Lines.", "caption": "Lines"}
    paper = HERE.assign(accuracy=0.5, backbone="ViT-B-32")
    page.figure("points", draw, reported=paper, facet=None, **words)
    (mine, _), (main, options) = drawn
    assert main == {"Mini benchmark": {0.6, 0.7}, "Reported, ViT-B/32": {0.5}}
    assert list(mine.values()) == [{0.1, 0.2}]
    assert options == {"facet": None}
    assert len(shown) == 2 and "What your rerun gives" in shown[1]


def test_a_table_that_was_not_saved_is_named(shown):
    page = Page("letters/one")
    page.save(points=HERE)
    with pytest.raises(ReportError, match="unknown saved table 'point'; did you mean 'points'"):
        page.table("point", by_k, caption="Accuracy")


def test_verdicts_without_a_claim_say_what_to_do(shown):
    with pytest.raises(ReportError, match=r'tested by tall_masks/none: give one page="none"'):
        Page("tall_masks/none").verdicts(Numbers(()))
    assert shown == []
