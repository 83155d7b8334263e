import base64
import io
import re

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex
from PIL import Image

from mergebook.errors import ReportError
from mergebook.report import (
    accuracy_vs_storage,
    line_figure,
    method_style,
    per_task_heatmap,
    reported_main_table,
    sample_sheet,
    scale_curve,
    show,
    task_vector_sketch,
)
from mergebook.report.style import METHOD_STYLES


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def test_methods_are_told_apart():
    assert len(set(METHOD_STYLES.values())) == len(METHOD_STYLES)
    assert method_style("my_own") == method_style("my_own")


def test_accuracy_vs_storage_draws_each_method_in_its_place(results):
    fig = accuracy_vs_storage(results)
    assert len(fig.axes) == 2
    points = [tuple(np.round(dots.get_offsets()[0], 6)) for dots in fig.axes[0].collections]
    assert [y for _, y in points] == [51.0, 76.0, 92.0, 94.0]
    (zero_shot, _), (task_arithmetic, _), *others = points
    # Equal storage is drawn side by side, around its value.
    assert zero_shot < 12.5 < task_arithmetic
    assert zero_shot * task_arithmetic == pytest.approx(12.5**2)
    assert [x for x, _ in others] == [26.25, 100.0]
    colours = [to_hex(dots.get_facecolor()[0]) for dots in fig.axes[0].collections]
    assert colours[2] == method_style("tall_ta").colour.lower()


def test_reported_numbers_get_axes_of_their_own(results):
    fig = accuracy_vs_storage(results, {8: reported_main_table(num_tasks=8)})
    titles = [ax.get_title() for ax in fig.axes]
    assert titles == ["Measured, mini-small, 8 tasks", "Measured, mini-small, 14 tasks",
                      "Reported, ViT-B/32, 8 tasks", ""]  # fmt: skip
    assert [len(ax.collections) for ax in fig.axes] == [4, 4, 11, 0]


def test_figures_refuse_missing_results(results):
    with pytest.raises(ReportError, match="'mini-large'"):
        accuracy_vs_storage(results, backbone="mini-large")
    with pytest.raises(ReportError, match="no 'fine_tuned'"):
        accuracy_vs_storage(results[results["method"] != "fine_tuned"])
    with pytest.raises(ReportError, match="20 tasks"):
        per_task_heatmap(results, num_tasks=20)


def test_heatmap_cells(results):
    tasks, mean, _ = per_task_heatmap(results).axes
    assert [text.get_text() for text in tasks.texts[:4]] == ["41", "61", "71", "81"]
    assert [text.get_text() for text in mean.texts[:2]] == ["51", "76"]
    assert [t.get_text() for t in tasks.get_xticklabels()] == ["digits", "house numbers"]


def test_sample_sheet_shows_each_image():
    images = np.random.default_rng(0).integers(0, 255, (6, 32, 32, 3), dtype=np.uint8)
    (ax,) = sample_sheet(images, ["class_a", "class_b", "class_c"]).axes
    sheet = ax.images[0].get_array()
    assert sheet.shape == (66, 100, 3)
    assert (sheet[34:66, 68:100] == images[5]).all()
    assert [text.get_text() for text in ax.get_xticklabels()] == ["class a", "class b", "class c"]
    assert ax.get_xticks()[2] == 84
    with pytest.raises(ReportError, match="6 images for 4 names"):
        sample_sheet(images, ["a", "b", "c", "d"])


def test_line_figure_has_a_panel_for_each_task():
    rows = [(t, a, 0.4 + a / 2) for t in ("digits", "faces") for a in (0, 0.5, 1)]
    one, two = line_figure(pd.DataFrame(rows, columns=["task", "alpha", "accuracy"])).axes
    assert [one.get_title(), two.get_title()] == ["digits", "faces"]
    assert one.lines[1].get_xydata() == pytest.approx(np.array([[0, 40], [0.5, 65], [1, 90]]))
    with pytest.raises(ReportError, match="the table is empty"):
        line_figure(pd.DataFrame({"task": [], "alpha": [], "accuracy": []}))


def test_scale_curve_draws_tasks_and_their_experts():
    curve = pd.DataFrame(
        [(s, t, a) for s in (1.0, 0.0) for t, a in (("digits", 0.4), ("faces", 0.6 + s / 10))],
        columns=["scale", "task", "accuracy"],
    )
    (ax,) = scale_curve(curve, pd.Series({"digits": 0.9, "faces": 0.8})).axes
    digits, digits_expert, faces, faces_expert = ax.lines
    assert faces.get_xydata() == pytest.approx(np.array([[0, 60], [1, 70]]))
    assert [line.get_ydata()[0] for line in (digits_expert, faces_expert)] == [90, 80]
    assert digits.get_marker() != faces.get_marker()
    with pytest.raises(ReportError, match="expert of task 'faces'"):
        scale_curve(curve, pd.Series({"digits": 0.9}))


def test_show_embeds_an_opaque_retina_image_with_its_alternative_text():
    fig = task_vector_sketch()
    html = show(fig, alt='two "experts" & a base', name="sketch", caption="x < y").data
    assert 'alt="two &quot;experts&quot; &amp; a base"' in html
    assert "<figcaption>x &lt; y</figcaption>" in html
    data = re.search(r"base64,([^\"]+)", html).group(1)
    image = Image.open(io.BytesIO(base64.b64decode(data)))
    assert image.width == 2 * int(re.search(r'width="(\d+)"', html).group(1))
    assert image.convert("RGBA").getpixel((0, 0)) == (255, 255, 255, 255)
    assert not plt.fignum_exists(fig.number)


def test_show_is_reproducible():
    first, second = (show(task_vector_sketch(), alt="a", name="n").data for _ in range(2))
    assert first == second


def test_show_refuses_an_empty_alternative_text():
    with pytest.raises(ReportError, match="figure 'sketch' has no alternative text"):
        show(task_vector_sketch(), alt=" ", name="sketch")
