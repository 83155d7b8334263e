"""Drawings of things: vehicles, clothes, fruit and flowers.

Each drawing is a function of a pen and a random generator; the pen's look decides placement,
colours and noise, so one drawing serves the pre-training world and the tasks.
"""

from __future__ import annotations

import numpy as np

from mergebook.suites.mini.canvas import Pen

RED, GREEN, BLUE, YELLOW = (205, 40, 40), (50, 140, 50), (50, 80, 190), (235, 205, 50)
ORANGE, PURPLE, PINK, BROWN = (235, 135, 30), (120, 50, 150), (235, 130, 170), (120, 75, 40)
WHITE, GREY, DARK, SKY = (240, 240, 240), (130, 130, 130), (35, 35, 40), (170, 210, 235)
PAINTS = (RED, GREEN, BLUE, YELLOW, ORANGE, PURPLE, WHITE, GREY)


def _body(pen: Pen, rng) -> tuple:
    return pen.tone(PAINTS[rng.integers(len(PAINTS))]), pen.tone(SKY), pen.tone(DARK)


def _wheels(pen: Pen, tyre, *centres, radius=0.22, y=0.45) -> None:
    for x in centres:
        pen.ellipse(x, y, radius, radius, tyre)


def car(pen, rng):
    body, glass, tyre = _body(pen, rng)
    pen.polygon([(-0.9, 0), (-0.5, -0.05), (-0.3, -0.4), (0.35, -0.4), (0.55, -0.05), (0.9, 0),
                 (0.9, 0.4), (-0.9, 0.4)], body)  # fmt: skip
    pen.polygon([(-0.35, -0.05), (-0.22, -0.3), (0.28, -0.3), (0.4, -0.05)], glass)
    _wheels(pen, tyre, -0.5, 0.5)


def van(pen, rng):
    body, glass, tyre = _body(pen, rng)
    pen.polygon([(-0.9, -0.5), (0.45, -0.5), (0.85, 0), (0.85, 0.4), (-0.9, 0.4)], body)
    pen.polygon([(0.2, -0.38), (0.42, -0.38), (0.7, 0), (0.2, 0)], glass)
    _wheels(pen, tyre, -0.5, 0.45)


def pickup(pen, rng):
    body, glass, tyre = _body(pen, rng)
    pen.polygon([(-0.95, -0.02), (-0.05, -0.02), (0, -0.45), (0.42, -0.45), (0.6, -0.02),
                 (0.92, 0.05), (0.92, 0.4), (-0.95, 0.4)], body)  # fmt: skip
    pen.polygon([(0.08, -0.05), (0.1, -0.35), (0.36, -0.35), (0.48, -0.05)], glass)
    _wheels(pen, tyre, -0.55, 0.55)


def bus(pen, rng):
    body, glass, tyre = _body(pen, rng)
    pen.box(-0.95, -0.55, 0.95, 0.4, body)
    for x in (-0.85, -0.4, 0.05, 0.5):
        pen.box(x, -0.4, x + 0.32, -0.05, glass)
    _wheels(pen, tyre, -0.55, 0.55, radius=0.18)


def truck(pen, rng):
    body, glass, tyre = _body(pen, rng)
    pen.box(-0.95, -0.7, 0.35, 0.35, pen.tone(WHITE if rng.random() < 0.5 else GREY))
    pen.polygon([(0.42, -0.3), (0.75, -0.3), (0.95, 0.05), (0.95, 0.4), (0.42, 0.4)], body)
    pen.polygon([(0.5, -0.2), (0.7, -0.2), (0.83, 0.03), (0.5, 0.03)], glass)
    _wheels(pen, tyre, -0.65, -0.2, 0.65, radius=0.19)


def tractor(pen, rng):
    body, glass, tyre = _body(pen, rng)
    pen.box(-0.5, -0.7, 0.1, 0.1, body)
    pen.box(-0.38, -0.58, 0, -0.2, glass)
    pen.box(-0.5, -0.1, 0.8, 0.3, body)
    pen.ellipse(-0.4, 0.3, 0.48, 0.48, tyre)
    pen.ellipse(-0.4, 0.3, 0.2, 0.2, pen.tone(YELLOW))
    pen.ellipse(0.65, 0.52, 0.25, 0.25, tyre)


def bicycle(pen, rng):
    frame, _, tyre = _body(pen, rng)
    for x in (-0.55, 0.55):
        pen.arc(x, 0.3, 0.38, 0.38, 0, 360, tyre, 0.09)
    pen.line([(-0.55, 0.3), (-0.2, -0.25), (0.35, -0.25), (0, 0.3), (-0.55, 0.3)], frame, 0.1)
    pen.line([(0, 0.3), (-0.25, -0.45), (-0.4, -0.45), (-0.1, -0.45)], frame, 0.1)
    pen.line([(0.55, 0.3), (0.32, -0.5), (0.5, -0.55)], frame, 0.1)


def motorbike(pen, rng):
    body, _, tyre = _body(pen, rng)
    for x in (-0.6, 0.6):
        pen.ellipse(x, 0.35, 0.34, 0.34, tyre)
        pen.ellipse(x, 0.35, 0.14, 0.14, pen.tone(GREY))
    pen.polygon([(-0.8, -0.1), (-0.3, -0.15), (0, -0.35), (0.4, -0.3), (0.3, 0.35), (-0.35, 0.35)],
                body)  # fmt: skip
    pen.line([(0.6, 0.35), (0.3, -0.55), (0.1, -0.6)], tyre, 0.1)


def train(pen, rng):
    body, glass, tyre = _body(pen, rng)
    pen.polygon([(-0.95, -0.5), (0.5, -0.5), (0.95, 0.1), (0.95, 0.4), (-0.95, 0.4)], body)
    for x in (-0.8, -0.35, 0.1):
        pen.box(x, -0.35, x + 0.3, 0, glass)
    pen.line([(-1, 0.6), (1, 0.6)], tyre, 0.12)


def ship(pen, rng):
    body, glass, _ = _body(pen, rng)
    pen.polygon([(-0.95, 0.05), (0.95, 0.05), (0.65, 0.6), (-0.7, 0.6)], body)
    pen.box(-0.45, -0.3, 0.35, 0.05, glass)
    pen.box(-0.2, -0.7, 0.05, -0.3, pen.tone(RED))


def plane(pen, rng):
    body, _, dark = _body(pen, rng)
    pen.ellipse(0, 0, 0.95, 0.16, body)
    pen.polygon([(0.15, 0), (-0.35, 0.75), (-0.1, 0), (-0.35, -0.75)], body)
    pen.polygon([(-0.7, 0), (-0.98, 0.35), (-0.85, 0), (-0.98, -0.35)], dark)


VEHICLES = {f.__name__: f for f in (car, van, pickup, bus, truck, tractor, bicycle, motorbike)}
OTHER_VEHICLES = {f.__name__: f for f in (train, ship, plane)}


def _cloth(pen: Pen, rng) -> tuple:
    level = int(rng.integers(120, 245))
    return pen.tone((level,) * 3), pen.tone((level // 2,) * 3)


def shirt(pen, rng):
    cloth, _ = _cloth(pen, rng)
    pen.polygon([(-0.35, -0.7), (0.35, -0.7), (0.9, -0.35), (0.7, -0.05), (0.45, -0.2),
                 (0.45, 0.75), (-0.45, 0.75), (-0.45, -0.2), (-0.7, -0.05), (-0.9, -0.35)],
                cloth)  # fmt: skip


def trousers(pen, rng):
    cloth, _ = _cloth(pen, rng)
    pen.polygon([(-0.45, -0.85), (0.45, -0.85), (0.55, 0.85), (0.15, 0.85), (0, -0.3),
                 (-0.15, 0.85), (-0.55, 0.85)], cloth)  # fmt: skip


def dress(pen, rng):
    cloth, trim = _cloth(pen, rng)
    pen.polygon([(-0.25, -0.85), (0.25, -0.85), (0.2, -0.2), (0.65, 0.85), (-0.65, 0.85),
                 (-0.2, -0.2)], cloth)  # fmt: skip
    pen.line([(-0.22, -0.2), (0.22, -0.2)], trim, 0.12)


def coat(pen, rng):
    cloth, trim = _cloth(pen, rng)
    pen.polygon([(-0.35, -0.8), (0.35, -0.8), (0.85, 0.5), (0.6, 0.6), (0.45, 0.1), (0.5, 0.85),
                 (-0.5, 0.85), (-0.45, 0.1), (-0.6, 0.6), (-0.85, 0.5)], cloth)  # fmt: skip
    pen.line([(0, -0.75), (0, 0.85)], trim, 0.1)


def shoe(pen, rng):
    cloth, trim = _cloth(pen, rng)
    pen.polygon([(-0.85, -0.25), (-0.3, -0.25), (0.3, 0.1), (0.9, 0.2), (0.9, 0.45), (-0.85, 0.45)],
                cloth)  # fmt: skip
    pen.line([(-0.9, 0.48), (0.92, 0.48)], trim, 0.12)


def boot(pen, rng):
    cloth, trim = _cloth(pen, rng)
    pen.polygon([(-0.5, -0.85), (0.1, -0.85), (0.1, 0.2), (0.75, 0.4), (0.75, 0.7), (-0.5, 0.7)],
                cloth)  # fmt: skip
    pen.line([(-0.52, 0.74), (0.78, 0.74)], trim, 0.12)


def bag(pen, rng):
    cloth, trim = _cloth(pen, rng)
    pen.arc(0, -0.2, 0.4, 0.5, 180, 360, trim, 0.12)
    pen.polygon([(-0.7, -0.2), (0.7, -0.2), (0.85, 0.75), (-0.85, 0.75)], cloth)


def hat(pen, rng):
    cloth, trim = _cloth(pen, rng)
    pen.ellipse(0, 0.35, 0.95, 0.2, cloth)
    pen.polygon([(-0.5, 0.35), (-0.4, -0.5), (0.4, -0.5), (0.5, 0.35)], cloth)
    pen.line([(-0.48, 0.2), (0.48, 0.2)], trim, 0.14)


CLOTHES = {f.__name__: f for f in (shirt, trousers, dress, coat, shoe, boot, bag, hat)}


def apple(pen, rng):
    skin = pen.tone(RED if rng.random() < 0.7 else GREEN)
    pen.ellipse(-0.25, 0.1, 0.5, 0.6, skin)
    pen.ellipse(0.25, 0.1, 0.5, 0.6, skin)
    pen.line([(0, -0.4), (0.1, -0.8)], pen.tone(BROWN), 0.1)
    pen.ellipse(0.35, -0.65, 0.25, 0.12, pen.tone(GREEN), -0.4)


def banana(pen, rng):
    skin = pen.tone(YELLOW)
    t = np.linspace(0.1, 3.0, 14)
    outer = np.stack([0.9 * np.cos(t), 0.85 * np.sin(t) - 0.35], 1)
    inner = np.stack([0.75 * np.cos(t[::-1]), 0.4 * np.sin(t[::-1]) - 0.35], 1)
    pen.polygon(np.concatenate([outer, inner]), skin)
    pen.ellipse(0.85, -0.3, 0.1, 0.1, pen.tone(BROWN))


def pear(pen, rng):
    skin = pen.tone((190, 200, 70))
    pen.ellipse(0, 0.35, 0.6, 0.5, skin)
    pen.ellipse(0, -0.25, 0.33, 0.5, skin)
    pen.line([(0, -0.6), (0.08, -0.95)], pen.tone(BROWN), 0.1)


def orange(pen, rng):
    pen.ellipse(0, 0.05, 0.75, 0.75, pen.tone(ORANGE))
    pen.ellipse(0.1, -0.55, 0.12, 0.08, pen.tone(GREEN))


def cherries(pen, rng):
    skin, stem = pen.tone((170, 20, 50)), pen.tone(GREEN)
    pen.line([(-0.45, 0.3), (0.1, -0.85), (0.5, 0.3)], stem, 0.08)
    pen.ellipse(-0.45, 0.4, 0.38, 0.38, skin)
    pen.ellipse(0.5, 0.45, 0.38, 0.38, skin)


def grapes(pen, rng):
    skin = pen.tone(PURPLE if rng.random() < 0.6 else (150, 190, 80))
    dark = pen.tone((70, 30, 90))
    for row, n in enumerate((4, 3, 2, 1)):
        for i in range(n):
            x, y = (i - (n - 1) / 2) * 0.42, -0.4 + 0.38 * row
            pen.ellipse(x, y, 0.24, 0.24, dark)
            pen.ellipse(x - 0.04, y - 0.04, 0.17, 0.17, skin)
    pen.line([(0, -0.5), (0.05, -0.95)], pen.tone(BROWN), 0.1)


def strawberry(pen, rng):
    pen.polygon([(-0.65, -0.3), (0, -0.5), (0.65, -0.3), (0.45, 0.35), (0, 0.85), (-0.45, 0.35)],
                pen.tone(RED))  # fmt: skip
    seed = pen.tone(YELLOW)
    for x, y in ((-0.3, -0.1), (0.1, -0.15), (0.35, 0.05), (-0.1, 0.2), (0.15, 0.4), (-0.2, 0.5)):
        pen.ellipse(x, y, 0.06, 0.08, seed)
    pen.polygon([(-0.5, -0.45), (0, -0.8), (0.5, -0.45), (0, -0.3)], pen.tone(GREEN))


def watermelon(pen, rng):
    for r, paint in ((0.95, GREEN), (0.8, WHITE), (0.7, RED)):
        t = np.linspace(0, np.pi, 14)
        pen.polygon(np.stack([r * np.cos(t), r * np.sin(t) - 0.4], 1), pen.tone(paint))
    for x in (-0.35, 0, 0.35):
        pen.ellipse(x, -0.1, 0.05, 0.09, pen.tone(DARK))


FRUIT = {
    f.__name__: f for f in (apple, banana, pear, orange, cherries, grapes, strawberry, watermelon)
}


def _petals(pen, n, length, width, fill, start=0.0, inner=0.15) -> None:
    for a in start + np.arange(n) * 2 * np.pi / n:
        r = inner + length / 2
        pen.ellipse(r * np.cos(a), r * np.sin(a), length / 2, width / 2, fill, a)


def daisy(pen, rng):
    _petals(pen, 10, 0.75, 0.22, pen.tone(WHITE), rng.uniform(0, 1))
    pen.ellipse(0, 0, 0.25, 0.25, pen.tone(YELLOW))


def sunflower(pen, rng):
    _petals(pen, 14, 0.5, 0.28, pen.tone(YELLOW), rng.uniform(0, 1), 0.4)
    pen.ellipse(0, 0, 0.5, 0.5, pen.tone((80, 50, 25)))


def tulip(pen, rng):
    paint = pen.tone((RED, PINK, YELLOW, PURPLE)[rng.integers(4)])
    pen.line([(0, 0.1), (0, 0.95)], pen.tone(GREEN), 0.12)
    pen.polygon([(-0.5, -0.8), (-0.25, -0.4), (0, -0.85), (0.25, -0.4), (0.5, -0.8), (0.45, 0),
                 (0, 0.25), (-0.45, 0)], paint)  # fmt: skip


def rose(pen, rng):
    hue = (RED, PINK, WHITE, YELLOW)[rng.integers(4)]
    for r, dim in ((0.75, 1.0), (0.58, 0.75), (0.42, 1.0), (0.26, 0.7), (0.12, 1.0)):
        a = rng.uniform(0, 6.28)
        x, y = 0.08 * np.cos(a), 0.08 * np.sin(a)
        pen.ellipse(x, y, r, r * 0.92, pen.tone(tuple(int(c * dim) for c in hue)))


def lily(pen, rng):
    paint = pen.tone((WHITE, PINK, ORANGE)[rng.integers(3)])
    for a in rng.uniform(0, 1) + np.arange(6) * np.pi / 3:
        tip, left, right = (0.95, a), (0.45, a - 0.35), (0.45, a + 0.35)
        pen.polygon(
            [(0, 0)] + [(r * np.cos(b), r * np.sin(b)) for r, b in (left, tip, right)], paint
        )
    pen.ellipse(0, 0, 0.12, 0.12, pen.tone(YELLOW))


def pansy(pen, rng):
    paint = pen.tone((PURPLE, YELLOW, BLUE)[rng.integers(3)])
    _petals(pen, 4, 0.75, 0.75, paint, np.pi / 4, 0.05)
    _petals(pen, 4, 0.35, 0.3, pen.tone(DARK), np.pi / 4, 0.05)
    pen.ellipse(0, 0, 0.12, 0.12, pen.tone(YELLOW))


def bluebell(pen, rng):
    paint = pen.tone((90, 90, 210))
    pen.arc(-0.2, 0.9, 0.8, 1.6, 270, 350, pen.tone(GREEN), 0.1)
    pen.line([(-0.7, 0.9), (-0.2, -0.7)], pen.tone(GREEN), 0.1)
    for x, y in ((-0.05, -0.5), (0.35, -0.2), (0.55, 0.25)):
        pen.polygon(
            [(x - 0.12, y), (x + 0.12, y), (x + 0.25, y + 0.45), (x - 0.25, y + 0.45)], paint
        )


def clover(pen, rng):
    pen.line([(0, 0), (0.15, 0.95)], pen.tone(GREEN), 0.12)
    _petals(pen, 3, 0.7, 0.65, pen.tone((40, 120, 40)), -np.pi / 2, 0.05)


FLOWERS = {f.__name__: f for f in (daisy, sunflower, tulip, rose, lily, pansy, bluebell, clover)}
