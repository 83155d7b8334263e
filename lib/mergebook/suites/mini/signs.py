"""Drawings of marks: shapes, traffic signs, counts of objects, house numbers, handwriting."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw

from mergebook.suites.mini.canvas import BIG, FONTS, Look, Pen, contrast, finish, font
from mergebook.suites.mini.objects import DARK, RED, WHITE

NUMERALS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


def _ring(n: int, radius: float = 0.85, start: float = -np.pi / 2) -> np.ndarray:
    t = start + 2 * np.pi * np.arange(n) / n
    return np.stack([radius * np.cos(t), radius * np.sin(t)], 1)


def _star(n: int = 5, inner: float = 0.38) -> np.ndarray:
    return np.stack([_ring(n), _ring(n, 0.85 * inner, -np.pi / 2 + np.pi / n)], 1).reshape(-1, 2)


def _regular(n: int):
    return lambda pen, rng: pen.polygon(_ring(n), pen.tone(DARK))


def _circle(pen, rng):
    pen.ellipse(0, 0, 0.8, 0.8, pen.tone(DARK))


def _oval(pen, rng):
    pen.ellipse(0, 0, 0.95, 0.5, pen.tone(DARK))


def _star_shape(pen, rng):
    pen.polygon(_star(), pen.tone(DARK))


def _cross(pen, rng):
    ink = pen.tone(DARK)
    pen.box(-0.8, -0.25, 0.8, 0.25, ink)
    pen.box(-0.25, -0.8, 0.25, 0.8, ink)


def _ring_shape(pen, rng):
    pen.arc(0, 0, 0.7, 0.7, 0, 360, pen.tone(DARK), 0.28)


def _crescent(pen, rng):
    t = np.linspace(0.6, 5.68, 16)
    outer = np.stack([0.8 * np.cos(t), 0.8 * np.sin(t)], 1)
    t = np.linspace(5.3, 0.98, 14)
    pen.polygon(np.concatenate([outer, np.stack([0.35 + 0.6 * np.cos(t), 0.6 * np.sin(t)], 1)]),
                pen.tone(DARK))  # fmt: skip


def _heart(pen, rng):
    ink = pen.tone(RED)
    for s in (-1, 1):
        pen.ellipse(s * 0.38, -0.3, 0.44, 0.42, ink)
    pen.polygon([(-0.8, -0.18), (0.8, -0.18), (0, 0.85)], ink)


def _arrow(pen, rng):
    pen.polygon([(-0.85, -0.2), (0.1, -0.2), (0.1, -0.6), (0.9, 0), (0.1, 0.6), (0.1, 0.2),
                 (-0.85, 0.2)], pen.tone(DARK))  # fmt: skip


SHAPES = {
    "circle": _circle, "triangle": _regular(3), "square": _regular(4), "pentagon": _regular(5),
    "oval": _oval, "star": _star_shape, "cross": _cross, "ring": _ring_shape,
    "crescent": _crescent, "heart": _heart,
}  # fmt: skip
OTHER_SHAPES = {"arrow": _arrow, "hexagon": _regular(6)}

BOARD_BLUE, BOARD_YELLOW = (30, 80, 190), (240, 190, 30)


def _disc(pen, rim, inside):
    pen.ellipse(0, 0, 0.92, 0.92, pen.tone(rim))
    pen.ellipse(0, 0, 0.68, 0.68, pen.tone(inside))


def _warning(pen):
    pen.polygon(_ring(3, 1.0) + np.array([0, 0.15]), pen.tone(RED))
    pen.polygon(_ring(3, 0.66) + np.array([0, 0.15]), pen.tone(WHITE))


def _bars(pen, shape, ink):
    """Draw a pictogram of a few strokes."""
    for stroke in shape:
        pen.line(stroke, ink, 0.17)


PICTOGRAMS = {
    "ahead": [[(0, 0.5), (0, -0.45)], [(-0.3, -0.1), (0, -0.45), (0.3, -0.1)]],
    "left": [[(0.45, 0), (-0.45, 0)], [(-0.1, -0.3), (-0.45, 0), (-0.1, 0.3)]],
    "right": [[(-0.45, 0), (0.45, 0)], [(0.1, -0.3), (0.45, 0), (0.1, 0.3)]],
    "bend": [[(-0.15, 0.5), (-0.15, 0.15), (0.2, -0.1), (0.2, -0.3)]],
    "danger": [[(0, -0.35), (0, 0.2)], [(0, 0.4), (0, 0.5)]],
    "crossing": [[(-0.25, -0.15), (0.25, 0.5)], [(0.25, -0.15), (-0.25, 0.5)]],
    "three": [[(-0.2, -0.4), (0.2, -0.4), (0, -0.05), (0.22, 0.2), (0, 0.45), (-0.22, 0.35)]],
    "five": [
        [(0.22, -0.4), (-0.2, -0.4), (-0.2, -0.05), (0.15, 0), (0.2, 0.25), (0, 0.45), (-0.22, 0.4)]
    ],
    "eight": [
        [
            (0, -0.42),
            (0.2, -0.22),
            (-0.22, 0.22),
            (0, 0.45),
            (0.22, 0.22),
            (-0.2, -0.22),
            (0, -0.42),
        ]
    ],
}


def _limit(number):
    def drawing(pen, rng):
        _disc(pen, RED, WHITE)
        _bars(pen, PICTOGRAMS[number], pen.tone(DARK))

    return drawing


def _order(direction):
    def drawing(pen, rng):
        _disc(pen, BOARD_BLUE, BOARD_BLUE)
        _bars(pen, PICTOGRAMS[direction], pen.tone(WHITE))

    return drawing


def _warn(pictogram):
    def drawing(pen, rng):
        _warning(pen)
        _bars(pen, PICTOGRAMS[pictogram], pen.tone(DARK))

    return drawing


def _stop(pen, rng):
    pen.polygon(_ring(8, 0.95, np.pi / 8), pen.tone(RED))
    pen.box(-0.6, -0.18, 0.6, 0.18, pen.tone(WHITE))


def _no_entry(pen, rng):
    _disc(pen, RED, RED)
    pen.box(-0.55, -0.15, 0.55, 0.15, pen.tone(WHITE))


def _no_vehicles(pen, rng):
    _disc(pen, RED, WHITE)


def _yield(pen, rng):
    pen.polygon(-_ring(3, 1.0), pen.tone(RED))
    pen.polygon(-_ring(3, 0.6), pen.tone(WHITE))


def _priority(pen, rng):
    pen.polygon(_ring(4, 0.98), pen.tone(WHITE))
    pen.polygon(_ring(4, 0.68), pen.tone(BOARD_YELLOW))


def _end(pen, rng):
    _disc(pen, (150, 150, 150), WHITE)
    for s in (-0.2, 0, 0.2):
        pen.line([(-0.45 + s, 0.45 + s), (0.45 + s, -0.45 + s)], pen.tone(DARK), 0.08)


SIGNS = {
    "speed limit three": _limit("three"), "speed limit five": _limit("five"),
    "speed limit eight": _limit("eight"), "no vehicles": _no_vehicles, "no entry": _no_entry,
    "stop": _stop, "give way": _yield, "priority road": _priority, "danger": _warn("danger"),
    "bend": _warn("bend"), "crossing": _warn("crossing"), "turn left": _order("left"),
    "turn right": _order("right"), "go ahead": _order("ahead"), "end of limits": _end,
}  # fmt: skip


def count(number: int, shape: str = "disc"):
    """Return the drawing of `number` separate objects of about one size."""

    def drawing(pen: Pen, rng) -> None:
        ink, spots = pen.tone(DARK), []
        r = rng.uniform(0.17, 0.23)
        while len(spots) < number:
            spot = rng.uniform(-0.78, 0.78, 2)
            if all(np.hypot(*(spot - other)) > 2.35 * r for other in spots):
                spots.append(spot)
        for x, y in spots:
            if shape == "disc":
                pen.ellipse(x, y, r, r, ink)
            elif shape == "square":
                pen.box(x - r, y - r, x + r, y + r, ink)
            else:
                pen.polygon(_ring(3, 1.3 * r) + np.array([x, y]), ink)

    return drawing


def house_number(digit: int, look: Look, rng: np.random.Generator) -> np.ndarray:
    """Draw a digit between cut-off neighbours on a plate; return uint8 [32, 32, 3]."""
    ink, ground = contrast(rng)
    image = Image.new("RGB", (BIG, BIG), ground)
    draw, face = ImageDraw.Draw(image), FONTS[rng.integers(len(FONTS))]
    size = int(rng.integers(38, 50))
    for side in (-1, 1):
        at = (BIG / 2 + side * rng.uniform(32, 40), BIG / 2 + rng.uniform(-3, 3))
        draw.text(at, str(rng.integers(10)), font=font(face, size), fill=ink, anchor="mm")
    at = (BIG / 2 + rng.uniform(-4, 4), BIG / 2 + rng.uniform(-5, 5))
    draw.text(at, str(digit), font=font(face, size), fill=ink, anchor="mm")
    image = image.rotate(rng.uniform(-look.rotation, look.rotation), fillcolor=ground,
                         resample=Image.BILINEAR)  # fmt: skip
    return finish(image, look, rng)


@lru_cache(maxsize=1)
def handwritten_digits() -> tuple[np.ndarray, np.ndarray]:
    """Return scikit-learn's 1,797 real digits: uint8 [N, 8, 8] and labels [N]."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    return (digits.images * 255 / 16).astype(np.uint8), digits.target.astype(np.int64)


def digit_image(index: int, look: Look, rng: np.random.Generator, jitter: bool) -> np.ndarray:
    """Enlarge one real digit to 32 x 32, white on black; `jitter` turns and shifts it a little."""
    small = Image.fromarray(handwritten_digits()[0][index])
    layer = Image.new("L", (BIG, BIG), 0)
    side = int(rng.integers(44, 58)) if jitter else 52
    shift = rng.integers(-4, 5, 2) if jitter else (0, 0)
    corner = tuple(int((BIG - side) / 2 + s) for s in shift)
    layer.paste(small.resize((side, side), Image.BICUBIC), corner)
    if jitter:
        layer = layer.rotate(rng.uniform(-look.rotation, look.rotation), resample=Image.BILINEAR)
    return finish(layer.convert("RGB"), look, rng)


WORDS = {
    "positive": ("good", "great", "fun", "love", "nice", "best", "happy", "joy"),
    "negative": ("bad", "awful", "dull", "hate", "poor", "worst", "sad", "bore"),
}
SYMBOLS = {
    "spade": "♠", "club": "♣", "diamond": "♦", "note": "♪", "sun": "☀", "cloud": "☁",
    "umbrella": "☂", "snowman": "☃", "telephone": "☎", "radiation": "☢", "peace": "☮",
    "yin yang": "☯", "aeroplane": "✈", "scissors": "✂", "envelope": "✉", "anchor": "⚓",
    "swords": "⚔", "scales": "⚖", "recycling": "♻", "skull": "☠",
}  # fmt: skip
OTHER_SYMBOLS = {
    "king": "♔", "queen": "♕", "rook": "♖", "bishop": "♗", "knight": "♘", "pawn": "♙",
    "tick": "✓", "sharp": "♯", "infinity": "∞", "sum": "∑", "root": "√", "integral": "∫",
    "female": "♀", "male": "♂", "lightning": "⚡", "flower": "❀", "snowflake": "❄",
}  # fmt: skip
GEORGIAN = {
    "an": "ა", "ban": "ბ", "gan": "გ", "don": "დ", "en": "ე", "vin": "ვ", "tan": "თ", "in": "ი",
    "kan": "კ", "las": "ლ", "man": "მ", "nar": "ნ",
}  # fmt: skip
GREEK = {
    "alpha": "α", "beta": "β", "gamma": "γ", "delta": "δ", "epsilon": "ε", "zeta": "ζ", "eta": "η",
    "theta": "θ", "lambda": "λ", "mu": "μ", "xi": "ξ", "pi": "π", "rho": "ρ", "sigma": "σ",
    "phi": "φ", "psi": "ψ", "omega": "ω",
}  # fmt: skip
CYRILLIC = {
    "be": "Б", "ge": "Г", "de": "Д", "zhe": "Ж", "ze": "З", "ii": "И", "el": "Л", "pe": "П",
    "ef": "Ф", "tse": "Ц", "che": "Ч", "sha": "Ш", "yeru": "Ы", "yu": "Ю", "ya": "Я",
}  # fmt: skip
ARMENIAN = {
    "ayb": "ա", "ben": "բ", "gim": "գ", "da": "դ", "yech": "ե", "za": "զ", "eh": "է", "et": "ը",
    "to": "թ", "zhe": "ժ", "ini": "ի",
}  # fmt: skip
