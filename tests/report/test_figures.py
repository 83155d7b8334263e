import base64
import io
import itertools
import re

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex, to_rgb
from PIL import Image

from mergebook import list_methods
from mergebook.errors import ReportError
from mergebook.report import (
    accuracy_vs_storage,
    line_figure,
    method_styles,
    per_task_heatmap,
    reported_results,
    sample_sheet,
    scale_curve,
    show,
    task_title,
    task_vector_sketch,
)
from mergebook.report.style import METHOD_COLOURS, METHOD_STYLES, OTHER_COLOURS


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


# How colours look without one kind of cone (Machado et al., 2009, severity 1), in linear RGB.
SEEN = {
    "all cones": np.eye(3),
    "protanopia": [[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]],
    "deuteranopia": [[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]],
}
TO_XYZ = np.array([[0.412, 0.358, 0.180], [0.213, 0.715, 0.072], [0.019, 0.119, 0.950]])


def lab(colour: str, seen) -> np.ndarray:
    """CIELAB coordinates of a colour as seen."""
    value = np.array(to_rgb(colour))
    linear = np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)
    xyz = TO_XYZ @ np.clip(np.array(seen) @ linear, 0, 1) / [0.950, 1.0, 1.089]
    x, y, z = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("seen", SEEN)
def test_no_two_methods_share_a_colour_for_any_reader(seen):
    colours = [style.colour for style in METHOD_STYLES.values()]
    assert sorted(colours) == sorted(METHOD_COLOURS)
    places = [lab(colour, SEEN[seen]) for colour in colours]
    # A just noticeable difference is about 2.
    assert min(np.linalg.norm(a - b) for a, b in itertools.combinations(places, 2)) > 12


def test_methods_of_one_figure_differ_and_known_ones_never_change():
    names = ["cart", "tall_ta", "emr", "task_arithmetic", "pcb", "control", "another control"]
    styles = method_styles(names)
    assert list(styles) == names
    assert len({style.colour for style in styles.values()}) == len(names)
    assert styles["tall_ta"] == METHOD_STYLES["tall_ta"]
    assert {styles["control"].colour, styles["another control"].colour} <= set(OTHER_COLOURS)
    every = method_styles(list_methods())  # more than there are colours: markers tell the rest
    assert len(set(every.values())) == len(every)


def test_tasks_have_titles():
    assert task_title("house_numbers") == "House numbers"
    assert task_title("my_pets") == "my pets"


def test_accuracy_vs_storage_draws_each_method_in_its_place(results):
    fig = accuracy_vs_storage({"": results})
    assert len(fig.axes) == 2
    points = [tuple(np.round(dots.get_offsets()[0], 6)) for dots in fig.axes[0].collections]
    assert [y for _, y in points] == [51.0, 76.0, 92.0, 94.0]
    (zero_shot, _), (task_arithmetic, _), *others = points
    # Equal storage is drawn side by side, around its value.
    assert zero_shot < 12.5 < task_arithmetic
    assert zero_shot * task_arithmetic == pytest.approx(12.5**2)
    assert [x for x, _ in others] == [26.25, 100.0]
    colours = [to_hex(dots.get_facecolor()[0]) for dots in fig.axes[0].collections]
    assert colours[2] == METHOD_STYLES["tall_ta"].colour.lower()


def test_reported_numbers_get_axes_of_their_own(results):
    paper = reported_results("ViT-B-32", sizes=[8])
    fig = accuracy_vs_storage({"Measured": results, "Reported": paper})
    titles = [ax.get_title() for ax in fig.axes]
    assert titles == ["8 tasks", "14 tasks", "8 tasks", ""]
    rows = [ax.get_ylabel().split("\n")[0] for ax in fig.axes[::2]]
    assert rows == ["Measured", "Reported"]
    assert [len(ax.collections) for ax in fig.axes] == [4, 4, 11, 0]


def test_figures_refuse_missing_results(results):
    with pytest.raises(ReportError, match="no panel"):
        accuracy_vs_storage({})
    with pytest.raises(ReportError, match="8 tasks: no 'fine_tuned'"):
        accuracy_vs_storage({"": results[results["method"] != "fine_tuned"]})
    with pytest.raises(ReportError, match="here: no results"):
        per_task_heatmap({"here": results.iloc[:0]})


def test_heatmap_cells(results):
    tasks, mean, _ = per_task_heatmap({"": results}).axes
    assert [text.get_text() for text in tasks.texts[:4]] == ["41", "61", "71", "81"]
    assert [text.get_text() for text in mean.texts[:2]] == ["51", "76"]
    assert [t.get_text() for t in tasks.get_xticklabels()] == [
        "Handwritten digits",
        "House numbers",
    ]


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
    rows = [(t, a, 0.4 + a / 2) for t in ("house_numbers", "mine") for a in (0, 0.5, 1)]
    one, two = line_figure(pd.DataFrame(rows, columns=["task", "alpha", "accuracy"])).axes
    assert [one.get_title(), two.get_title()] == ["House numbers", "mine"]
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
    width, height = (int(re.search(rf'{side}="(\d+)"', html)[1]) for side in ("width", "height"))
    assert width == 800  # a page
    assert image.size == (width * 2.4, height * 2.4)
    assert 'loading="lazy"' in html
    assert image.convert("RGBA").getpixel((0, 0)) == (255, 255, 255, 255)
    assert not plt.fignum_exists(fig.number)


def test_show_is_reproducible():
    first, second = (show(task_vector_sketch(), alt="a", name="n").data for _ in range(2))
    assert first == second


def test_show_refuses_an_empty_alternative_text():
    with pytest.raises(ReportError, match="figure 'sketch' has no alternative text"):
        show(task_vector_sketch(), alt=" ", name="sketch")


def test_show_knows_the_kinds_of_pictures():
    html = show(task_vector_sketch(), alt="a", name="n", kind="hero").data
    assert 'class="mergebook hero"' in html
    with pytest.raises(ReportError, match="unknown kind 'large'"):
        show(task_vector_sketch(), alt="a", name="n", kind="large")
