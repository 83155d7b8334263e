"""Drawings of animals' heads and of human faces with an expression."""

from __future__ import annotations

import numpy as np

from mergebook.suites.mini.canvas import Pen
from mergebook.suites.mini.objects import BROWN, DARK, GREY, ORANGE, PINK, WHITE, YELLOW

FURS = (BROWN, GREY, ORANGE, (200, 170, 130), (80, 80, 85), WHITE)


def _head(pen: Pen, rng, rx=0.62, ry=0.58, y=0.15, fur=None):
    fur = pen.tone(FURS[rng.integers(len(FURS))] if fur is None else fur)
    return fur, lambda: pen.ellipse(0, y, rx, ry, fur)


def _eyes(pen: Pen, dx=0.25, y=0.05, r=0.09, fill=None) -> None:
    fill = pen.tone(DARK) if fill is None else fill
    for s in (-1, 1):
        pen.ellipse(s * dx, y, r, r, fill)


def cat(pen, rng):
    fur, head = _head(pen, rng)
    for s in (-1, 1):
        pen.polygon([(s * 0.6, 0), (s * 0.55, -0.85), (s * 0.1, -0.35)], fur)
    head()
    _eyes(pen)
    ink = pen.tone(DARK)
    for s in (-1, 1):
        pen.line([(s * 0.15, 0.35), (s * 0.85, 0.28)], ink, 0.05)
        pen.line([(s * 0.15, 0.42), (s * 0.85, 0.52)], ink, 0.05)
    pen.polygon([(-0.1, 0.25), (0.1, 0.25), (0, 0.38)], pen.tone(PINK))


def dog(pen, rng):
    _, head = _head(pen, rng, rx=0.55, ry=0.62)
    head()
    ear = pen.tone((90, 60, 40))
    for s in (-1, 1):
        pen.ellipse(s * 0.6, 0.1, 0.2, 0.5, ear, -s * 0.2)
    _eyes(pen, y=-0.05)
    pen.ellipse(0, 0.45, 0.3, 0.25, pen.tone(WHITE))
    pen.ellipse(0, 0.32, 0.15, 0.1, pen.tone(DARK))


def rabbit(pen, rng):
    fur, head = _head(pen, rng, rx=0.48, ry=0.45, y=0.4)
    inner = pen.tone(PINK)
    for s in (-1, 1):
        pen.ellipse(s * 0.25, -0.4, 0.16, 0.55, fur, s * 0.15)
        pen.ellipse(s * 0.25, -0.4, 0.07, 0.38, inner, s * 0.15)
    head()
    _eyes(pen, dx=0.2, y=0.32)
    pen.ellipse(0, 0.5, 0.08, 0.06, inner)


def bear(pen, rng):
    fur, head = _head(pen, rng, rx=0.68, ry=0.62, fur=(BROWN, (70, 50, 40), WHITE)[rng.integers(3)])
    for s in (-1, 1):
        pen.ellipse(s * 0.55, -0.4, 0.25, 0.25, fur)
    head()
    _eyes(pen, y=0)
    pen.ellipse(0, 0.4, 0.28, 0.22, pen.tone((210, 180, 140)))
    pen.ellipse(0, 0.32, 0.12, 0.09, pen.tone(DARK))


def pig(pen, rng):
    fur, head = _head(pen, rng, fur=(240, 165, 175))
    for s in (-1, 1):
        pen.polygon([(s * 0.6, -0.1), (s * 0.65, -0.65), (s * 0.2, -0.4)], fur)
    head()
    _eyes(pen, y=-0.05, r=0.07)
    pen.ellipse(0, 0.35, 0.3, 0.22, pen.tone((210, 110, 125)))
    _eyes(pen, dx=0.11, y=0.35, r=0.06)


def owl(pen, rng):
    fur, _ = _head(pen, rng)
    pen.ellipse(0, 0.1, 0.65, 0.85, fur)
    white, ink = pen.tone(WHITE), pen.tone(DARK)
    for s in (-1, 1):
        pen.polygon([(s * 0.6, -0.3), (s * 0.6, -0.9), (s * 0.15, -0.65)], fur)
        pen.ellipse(s * 0.28, -0.2, 0.28, 0.28, white)
        pen.ellipse(s * 0.28, -0.2, 0.12, 0.12, ink)
    pen.polygon([(-0.1, 0), (0.1, 0), (0, 0.25)], pen.tone(ORANGE))


def mouse(pen, rng):
    fur, head = _head(
        pen, rng, rx=0.45, ry=0.5, y=0.3, fur=(GREY, WHITE, (95, 90, 85))[rng.integers(3)]
    )
    inner = pen.tone(PINK)
    for s in (-1, 1):
        pen.ellipse(s * 0.55, -0.3, 0.4, 0.4, fur)
        pen.ellipse(s * 0.55, -0.3, 0.24, 0.24, inner)
    head()
    _eyes(pen, dx=0.18, y=0.2, r=0.08)
    pen.ellipse(0, 0.72, 0.1, 0.08, pen.tone(DARK))


def fox(pen, rng):
    fur = pen.tone((225, 110, 35))
    for s in (-1, 1):
        pen.polygon([(s * 0.75, -0.1), (s * 0.7, -0.9), (s * 0.15, -0.4)], fur)
    pen.polygon([(-0.85, -0.1), (-0.4, -0.45), (0.4, -0.45), (0.85, -0.1), (0, 0.85)], fur)
    white = pen.tone(WHITE)
    for s in (-1, 1):
        pen.polygon([(s * 0.8, -0.05), (s * 0.3, 0.1), (s * 0.02, 0.75)], white)
    _eyes(pen, y=-0.1, r=0.08)
    pen.ellipse(0, 0.75, 0.12, 0.1, pen.tone(DARK))


ANIMALS = {f.__name__: f for f in (cat, dog, rabbit, bear, pig, owl, mouse, fox)}

SKINS = ((250, 215, 185), (230, 185, 140), (190, 135, 95), (130, 85, 60), YELLOW)
# expression -> (mouth: kind, curvature; brows: inner minus outer height; eyes: openness)
EXPRESSIONS = {
    "happy": ("curve", 0.32, 0.0, 1.0),
    "sad": ("curve", -0.28, -0.16, 0.9),
    "angry": ("curve", -0.2, 0.22, 0.8),
    "surprised": ("open", 0.26, -0.04, 1.6),
    "neutral": ("curve", 0.0, 0.0, 1.0),
    "fearful": ("wave", 0.08, -0.2, 1.5),
    "sleepy": ("open", 0.1, 0.0, 0.0),
}


def face(expression: str):
    """Return the drawing of a face with the named expression."""
    mouth, bend, brow, open_ = EXPRESSIONS[expression]

    def drawing(pen: Pen, rng) -> None:
        skin, ink = SKINS[rng.integers(len(SKINS))], pen.tone(DARK)
        pen.ellipse(0, 0, rng.uniform(0.72, 0.88), rng.uniform(0.85, 0.95), pen.tone(skin))
        dx, y, k = rng.uniform(0.28, 0.36), rng.uniform(-0.22, -0.12), rng.uniform(0.85, 1.2)
        for s in (-1, 1):
            if open_:
                pen.ellipse(s * dx, y, 0.1, 0.1 * open_, ink)
            else:
                pen.arc(s * dx, y - 0.05, 0.14, 0.12, 20, 160, ink, 0.08)
            high = y - 0.3 - (0.08 if open_ > 1.2 else 0)
            pen.line([(s * (dx - 0.16), high + brow * k), (s * (dx + 0.16), high)], ink, 0.1)
        x = np.linspace(-1, 1, 9)
        width = rng.uniform(0.34, 0.44)
        if mouth == "open":
            pen.ellipse(0, 0.5, bend * k, bend * 1.2 * k, ink)
        else:
            shape = (1 - x**2) * bend * k if mouth == "curve" else bend * np.sin(3 * np.pi * x)
            pen.line(np.stack([x * width, 0.45 + shape - bend * 0.3], 1), ink, 0.11)
        if rng.random() < 0.5:
            pen.arc(0, -0.1, 0.85, 0.9, 200, 340, pen.tone(BROWN), 0.2)

    return drawing


FACES = {name: face(name) for name in EXPRESSIONS}
