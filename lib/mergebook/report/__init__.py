"""What the book shows: reported numbers, side-by-side tables, figures, claims, glued values."""

from mergebook.report.basics import (
    scale_curve,
    show_scale_curve,
    show_task_vectors,
    task_vector_sketch,
    weights_figure,
)
from mergebook.report.basin import line_figure, show_lines
from mergebook.report.chapters import claims_of_runs, verdicts_of_chapter, verdicts_page
from mergebook.report.claims import (
    Claim,
    Judgement,
    claims_table,
    load_claims,
    readable,
    verdict,
    verdicts,
)
from mergebook.report.curves import bar_figure, curve_figure, dot_figure
from mergebook.report.embed import show
from mergebook.report.figures import (
    accuracy_vs_storage,
    per_task_heatmap,
    sample_sheet,
)
from mergebook.report.glue import glue
from mergebook.report.leaderboard import (
    frontier_figure,
    leaderboard_table,
    over_seeds,
    search_figure,
)
from mergebook.report.measured import committed, list_measured, measured
from mergebook.report.reported import (
    reported,
    reported_estimate,
    reported_main_table,
    reported_sizes,
)
from mergebook.report.results import load_results, save_results
from mergebook.report.style import method_styles, task_title
from mergebook.report.tables import folded, html_table, side_by_side
from mergebook.report.tasks import (
    gallery_figure,
    show_classes,
    show_gallery,
    show_tasks,
    task_facts,
)

__all__ = [
    "Claim",
    "Judgement",
    "accuracy_vs_storage",
    "bar_figure",
    "claims_of_runs",
    "claims_table",
    "committed",
    "curve_figure",
    "dot_figure",
    "folded",
    "frontier_figure",
    "gallery_figure",
    "glue",
    "html_table",
    "leaderboard_table",
    "line_figure",
    "list_measured",
    "load_claims",
    "load_results",
    "measured",
    "method_styles",
    "over_seeds",
    "per_task_heatmap",
    "readable",
    "reported",
    "reported_estimate",
    "reported_main_table",
    "reported_sizes",
    "sample_sheet",
    "save_results",
    "scale_curve",
    "search_figure",
    "show",
    "show_classes",
    "show_gallery",
    "show_lines",
    "show_scale_curve",
    "show_task_vectors",
    "show_tasks",
    "side_by_side",
    "task_facts",
    "task_title",
    "task_vector_sketch",
    "verdict",
    "verdicts",
    "verdicts_of_chapter",
    "verdicts_page",
    "weights_figure",
]
