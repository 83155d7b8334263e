"""Draw the graph of rules: snakemake --rulegraph dot | python draw_graph.py SNAKEFILE OUTPUT.

A node shows the rule's name and its docstring, so the picture says what the workflow says.
"""

import re
import sys
import textwrap
from pathlib import Path

import matplotlib.pyplot as plt

plt.rcParams["svg.hashsalt"] = "pipeline"  # the same graph gives the same file

WIDTH, HEIGHT = 2.6, 1.2  # inches between columns and rows


def read_graph(dot):
    """Rules of a graph in dot notation and its edges (before, after), without the target."""
    labels = dict(re.findall(r'^\s*(\d+)\[label = "([^"\\]+)', dot, re.MULTILINE))
    pairs = re.findall(r"^\s*(\d+) -> (\d+)", dot, re.MULTILINE)
    edges = [(labels[before], labels[after]) for before, after in pairs if labels[after] != "all"]
    if not edges:
        sys.exit(f"no graph of rules in the input:\n{dot}")
    return sorted(set(labels.values()) - {"all"}), edges


def place_rules(rules, edges):
    """Position of each rule: as far to the right as the rules that need it allow."""
    column = dict.fromkeys(rules, 0)
    for _ in rules:
        for before, after in edges:
            column[before] = min(column[before], column[after] - 1)
    places = {}
    for depth in sorted(set(column.values())):
        together = [rule for rule in rules if column[rule] == depth]
        for row, rule in enumerate(together):
            places[rule] = (WIDTH * depth, HEIGHT * ((len(together) - 1) / 2 - row))
    return places


def draw(rules, edges, docs, path):
    places = place_rules(rules, edges)
    columns, rows = zip(*places.values(), strict=True)
    left, right = min(columns) - WIDTH / 2, max(columns) + WIDTH / 2
    low, high = min(rows) - HEIGHT / 2, max(rows) + HEIGHT / 2
    # White on purpose: the picture stays readable on the dark page.
    figure = plt.figure(figsize=(right - left, high - low), facecolor="white")
    axes = figure.add_axes((0, 0, 1, 1), xlim=(left, right), ylim=(low, high))
    axes.axis("off")
    box = {"boxstyle": "round,pad=0.7", "facecolor": "#e8f0fa", "edgecolor": "#336699"}
    frames = {}
    for rule, (x, y) in places.items():
        text = f"{rule}\n" + textwrap.fill(docs[rule], 24)
        label = axes.text(x, y, text, ha="center", va="center", fontsize=9, bbox=box)
        frames[rule] = label.get_bbox_patch()
    figure.canvas.draw()  # gives the frames their size, at which the arrows end
    for before, after in edges:
        ends = {"patchA": frames[before], "patchB": frames[after], "shrinkA": 0, "shrinkB": 2}
        style = {"arrowstyle": "-|>", "color": "#555555", "mutation_scale": 14} | ends
        axes.annotate("", xy=places[after], xytext=places[before], arrowprops=style)
    figure.savefig(path, metadata={"Date": None, "Creator": None})


if __name__ == "__main__":
    docs = dict(re.findall(r'rule (\w+):\n +"""(.+?)"""', Path(sys.argv[1]).read_text()))
    draw(*read_graph(sys.stdin.read()), docs, sys.argv[2])
