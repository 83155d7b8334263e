"""What the book shows: reported numbers, tables, figures, verdicts, numbers in prose."""

from mergebook.report.agreement import agreement_tables
from mergebook.report.arranged import by_source, grid, listing
from mergebook.report.basics import (
    scale_curve,
    show_scale_curve,
    show_task_vectors,
    task_vector_sketch,
    weights_figure,
)
from mergebook.report.basin import line_figure, show_lines
from mergebook.report.chapter import chapter_verdicts
from mergebook.report.curves import bar_figure, curve_figure, dot_figure, path_figure, rank_figure
from mergebook.report.embed import show
from mergebook.report.figures import (
    accuracy_vs_storage,
    heat_figure,
    per_task_heatmap,
    sample_sheet,
)
from mergebook.report.leaderboard import (
    frontier_figure,
    leaderboard_block,
    leaderboard_blocks,
    leaderboard_rerun,
    leaderboard_table,
    search_figure,
)
from mergebook.report.measured import committed, list_measured, measured
from mergebook.report.numbers import Number, between, shown
from mergebook.report.page import Page
from mergebook.report.reported import (
    reported,
    reported_estimate,
    reported_main_table,
    reported_results,
    reported_sizes,
)
from mergebook.report.results import load_results, save_results
from mergebook.report.scatter import scatter_figure
from mergebook.report.strip import strip_figure
from mergebook.report.style import method_styles, task_title, title_of
from mergebook.report.tables import folded, html_table, main_tables
from mergebook.report.tasks import (
    gallery_figure,
    show_classes,
    show_gallery,
    show_tasks,
    task_facts,
)
from mergebook.report.verdicts import comparisons, judgement_rows, printed_table

__all__ = [
    "Number",
    "Page",
    "accuracy_vs_storage",
    "agreement_tables",
    "bar_figure",
    "between",
    "by_source",
    "chapter_verdicts",
    "committed",
    "comparisons",
    "curve_figure",
    "dot_figure",
    "folded",
    "frontier_figure",
    "gallery_figure",
    "grid",
    "heat_figure",
    "html_table",
    "judgement_rows",
    "leaderboard_block",
    "leaderboard_blocks",
    "leaderboard_rerun",
    "leaderboard_table",
    "line_figure",
    "list_measured",
    "listing",
    "load_results",
    "main_tables",
    "measured",
    "method_styles",
    "path_figure",
    "per_task_heatmap",
    "printed_table",
    "rank_figure",
    "reported",
    "reported_estimate",
    "reported_main_table",
    "reported_results",
    "reported_sizes",
    "sample_sheet",
    "save_results",
    "scale_curve",
    "scatter_figure",
    "search_figure",
    "show",
    "show_classes",
    "show_gallery",
    "show_lines",
    "show_scale_curve",
    "show_task_vectors",
    "show_tasks",
    "shown",
    "strip_figure",
    "task_facts",
    "task_title",
    "task_vector_sketch",
    "title_of",
    "weights_figure",
]
