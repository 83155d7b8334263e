"""A notebook's page: committed runs first, what a rerun gives below, results saved."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping

import pandas as pd
from IPython.display import HTML, display
from matplotlib.figure import Figure

from mergebook.claims import Numbers, load_claims
from mergebook.errors import ReportError, unknown
from mergebook.report.arranged import PAPER_NAMES, grid, listing
from mergebook.report.embed import show
from mergebook.report.measured import committed
from mergebook.report.results import save_results
from mergebook.report.tables import folded, html_table
from mergebook.report.verdicts import comparisons, judgement_rows, verdict_table

Texts = pd.DataFrame | dict[str, pd.DataFrame]
RERUN = "MERGEBOOK_RERUN"  # set where a reader runs a notebook, who came for this run's numbers
HERE = "What your rerun gives"


class Page:
    """What a notebook shows: the committed run, and folded below it what the notebook measured.

    Where a reader reruns the notebook, what it measured is unfolded.

    Parameters
    ----------
    notebook : str
        Such as ``"tall_masks/main_table"``.
    **where : object
        What this run is of, such as ``backbone`` and ``seed``: columns of its verdicts.
    """

    def __init__(self, notebook: str, **where: object):
        self.notebook, self.where = notebook, where
        self.frames: dict[str, pd.DataFrame] = {}

    @property
    def _label(self) -> str:
        """What this run is of, in a few words."""
        return ", ".join(f"{name} {value}" for name, value in self.where.items()) or "this run"

    def save(self, **tables: pd.DataFrame) -> None:
        """Write tables to the results folder, and keep them to be shown.

        Raises
        ------
        ReportError
            If a table is empty.
        """
        for name, frame in tables.items():
            save_results(frame, self.notebook, name)
            self.frames[name] = frame

    def runs(self, table: str) -> tuple[dict[str, pd.DataFrame], pd.DataFrame]:
        """Return a table of the committed runs, by title, and this run's.

        Raises
        ------
        ReportError
            If this run has not saved the table.
        """
        if table not in self.frames:
            raise ReportError(f"{self.notebook}: {unknown('saved table', table, self.frames)}")
        return committed(self.notebook, table), self.frames[table]

    def figure(
        self,
        table: str,
        draw: Callable[..., Figure],
        *,
        name: str,
        alt: str,
        caption: str,
        reported: pd.DataFrame | None = None,
        prepare: Callable[[pd.DataFrame], pd.DataFrame] = lambda frame: frame,
        **options: object,
    ) -> None:
        """Show a figure of the committed runs, and fold this run's away below it.

        Parameters
        ----------
        table : str
            Name of the saved table.
        draw : callable
            ``draw(frames, **options) -> Figure`` with frames by source, such as
            :func:`mergebook.report.curve_figure`.
        name, alt, caption : str
            See :func:`mergebook.report.show`.
        reported : DataFrame, optional
            The paper's numbers, drawn below the committed runs.
        prepare : callable, optional
            Applied to each run's table before it is drawn; of the committed runs, to the part of
            their first backbone.
        **options
            Passed on to `draw`.
        """
        runs, here = self.runs(table)
        frames = {title: prepare(_first_backbone(frame)) for title, frame in runs.items()}
        mine = {f"This run ({self._label})": prepare(here)}
        paper = {} if reported is None else {_reported_title(reported): reported}
        rerun = show(
            draw(mine | ({} if frames else paper), **options),
            name=f"{name}-here" if frames else name,
            alt=f"This run: {alt}" if frames else alt,
            caption=caption,
        )
        if not frames:
            display(rerun)
            return
        display(show(draw(frames | paper, **options), name=name, alt=alt, caption=caption))
        display(self._rerun([rerun]))

    def table(self, table: str, texts: Callable[[pd.DataFrame], Texts], *, caption: str) -> None:
        """Show a table of the committed runs: the first is open, all others are folded.

        Parameters
        ----------
        table : str
            Name of the saved table.
        texts : callable
            Turns a saved table into the texts of :func:`mergebook.report.html_table`, or into
            several by title.
        caption : str
        """
        runs, here = self.runs(table)
        pieces = {}
        for source, frame in runs.items():
            found = texts(frame)
            tables = found if isinstance(found, dict) else {"": found}
            for title, each in tables.items():
                name = f"{source}: {title}" if title else source
                pieces[name] = html_table(each, caption=f"{caption}. {name}")
        found = texts(here)
        tables = found if isinstance(found, dict) else {self._label: found}
        mine = [html_table(each, caption=f"{caption}. {t}") for t, each in tables.items()]
        if not pieces:
            display(*mine)
            return
        first, *rest = pieces
        below = [folded(name, [pieces[name]]) for name in rest]
        display(HTML("\n".join(piece.data for piece in [pieces[first], *below, self._rerun(mine)])))

    def show(self, *pieces: HTML) -> None:
        """Show tables or figures that no committed run has."""
        display(*pieces)

    def grid(self, frame: pd.DataFrame, *, caption: str, fold: bool = False, **layout: object):
        """Show one table that is arranged by :func:`mergebook.report.grid`, folded if asked."""
        table = html_table(grid(frame, **layout), caption=caption)
        display(folded(caption, [table]) if fold else table)

    def listing(self, frame: pd.DataFrame, columns: Mapping, *, caption: str, **layout: object):
        """Show one table that is arranged by :func:`mergebook.report.listing`."""
        display(html_table(listing(frame, columns, **layout), caption=caption))

    def verdicts(self, numbers: Numbers) -> None:
        """Judge this page's claims on the numbers of this run; show and save the verdicts.

        The table has what the paper's own numbers and the committed runs say; folded below it are
        every comparison of this run, and each claim's formula.

        Parameters
        ----------
        numbers : Numbers
            What the claims ask for, see the chapter's module in `mergebook.papers`.
        """
        chapter = load_claims(self.notebook.split("/")[0])
        judgements = [claim.judge(numbers) for claim in chapter.of_page(self.notebook)]
        if not judgements:
            page = self.notebook.rpartition("/")[2]
            raise ReportError(
                f"no claim of mergebook.papers.{chapter.name} is tested by {self.notebook}: "
                f'give one page="{page}", or leave out page.verdicts'
            )
        self.save(claims=judgement_rows(judgements, **self.where))
        runs, here = self.runs("claims")
        printed = {judgement.claim.key: judgement for judgement in chapter.judge_printed()}
        claims = [judgement.claim for judgement in judgements]
        mine = {f"This run ({self._label})": here}
        details = comparisons(judgements, "All comparisons of this run, and the claims as formulas")
        display(verdict_table(claims, printed, runs or mine, caption="Claims and verdicts"))
        again = [verdict_table(claims, {}, mine, caption=HERE)] if runs else []
        display(self._rerun([*again, details]))

    def _rerun(self, pieces: list[HTML]) -> HTML:
        """What this run gives, folded unless a reader came for it."""
        return folded(HERE, pieces, unfolded=bool(os.environ.get(RERUN)), kind="rerun")


def _reported_title(frame: pd.DataFrame) -> str:
    """How figures name a paper's numbers: with their backbone, if they are of one."""
    backbones = frame["backbone"].unique() if "backbone" in frame else []
    names = [PAPER_NAMES.get(each, each) for each in backbones]
    return f"Reported, {names[0]}" if len(names) == 1 else "Reported"


def _first_backbone(frame: pd.DataFrame) -> pd.DataFrame:
    """The part of a table that is of its first backbone, where it says of which it is."""
    return frame[frame["backbone"] == frame["backbone"].iloc[0]] if "backbone" in frame else frame
