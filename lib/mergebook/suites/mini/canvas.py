"""A small drawing kit: a pen with an affine frame, looks, glyphs and finishing touches."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

SIZE = 32  # pixels of a finished image
BIG = 64  # pixels of the canvas that is drawn on, before scaling down
FONT_DIR = os.path.join(os.path.dirname(matplotlib.__file__), "mpl-data", "fonts", "ttf")
FONTS = tuple(
    f"DejaVu{name}.ttf"
    for name in (
        "Sans", "Sans-Bold", "Sans-Oblique", "SansMono", "SansMono-Bold", "Serif", "Serif-Bold",
        "Serif-Italic",
    )
)  # fmt: skip

Colour = tuple[int, int, int]
Point = tuple[float, float]


@lru_cache(maxsize=512)
def font(name: str, size: int) -> ImageFont.FreeTypeFont:
    """Open one of matplotlib's fonts."""
    return ImageFont.truetype(os.path.join(FONT_DIR, name), size)


def colour(rng: np.random.Generator, low: int, high: int) -> Colour:
    """Return a random colour with channels in [low, high)."""
    return tuple(int(v) for v in rng.integers(low, high, 3))


def contrast(rng: np.random.Generator) -> tuple[Colour, Colour]:
    """Return a dark and a light colour, in random order."""
    pair = colour(rng, 0, 90), colour(rng, 165, 256)
    return pair if rng.random() < 0.5 else pair[::-1]


def shade(rgb: Sequence[float], factor: float) -> Colour:
    """Scale a colour's brightness and clip."""
    return tuple(int(np.clip(v * factor, 0, 255)) for v in rgb)


@dataclass(frozen=True)
class Look:
    """How a drawing is placed, coloured and degraded.

    Parameters
    ----------
    rotation : float
        Largest turn, degrees.
    shift : float
        Largest displacement, in halves of the image.
    scale : (float, float)
        Range of the size.
    shear : float
        Largest horizontal shear.
    flip : bool
        Mirror half of the drawings.
    ground : {"paper", "flat", "clutter", "black"}
        Background.
    tint : {"grey", "natural", "random"}
        Colours of the drawing: grey levels, an object's own, or arbitrary.
    noise : float
        Standard deviation of the pixel noise (0 to 255).
    blur : float
        Largest radius of a Gaussian blur, pixels.
    """

    rotation: float = 0.0
    shift: float = 0.1
    scale: tuple[float, float] = (0.8, 1.0)
    shear: float = 0.0
    flip: bool = False
    ground: str = "paper"
    tint: str = "grey"
    noise: float = 5.0
    blur: float = 0.0


def low_frequency(rng: np.random.Generator, cells: int, size: int = SIZE) -> np.ndarray:
    """Return a smooth random field in [0, 1], shape [size, size]."""
    small = Image.fromarray((rng.random((cells, cells)) * 255).astype(np.uint8))
    return np.asarray(small.resize((size, size), Image.BICUBIC), dtype=np.float32) / 255


class Pen:
    """Draws in a frame of [-1, 1] x [-1, 1] (y down) that may be turned, sheared and moved."""

    def __init__(self, look: Look, rng: np.random.Generator):
        self.look, self.rng = look, rng
        angle = np.deg2rad(rng.uniform(-look.rotation, look.rotation))
        size = rng.uniform(*look.scale) * BIG / 2
        flip = -1 if look.flip and rng.random() < 0.5 else 1
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        shear = np.array([[1, rng.uniform(-look.shear, look.shear)], [0, 1]])
        self.matrix = size * turn @ shear @ np.diag([flip, 1])
        self.centre = BIG / 2 * (1 + rng.uniform(-look.shift, look.shift, 2))
        self.dark_ground = look.ground == "black" or (look.ground != "paper" and rng.random() < 0.5)
        self.image = Image.new("RGB", (BIG, BIG), self._ground())
        self.draw = ImageDraw.Draw(self.image)
        if look.ground == "clutter":
            self._clutter()

    def _ground(self) -> Colour:
        if self.look.ground == "black":
            return (0, 0, 0)
        if self.look.ground == "paper":
            level = int(self.rng.integers(225, 256))
            return (level, level, level)
        return colour(self.rng, 0, 80) if self.dark_ground else colour(self.rng, 175, 256)

    def _clutter(self) -> None:
        for _ in range(self.rng.integers(2, 5)):
            x, y, r = self.rng.uniform(0, BIG, 3) * (1, 1, 0.3)
            fill = colour(self.rng, 0, 110) if self.dark_ground else colour(self.rng, 145, 256)
            box = (x - r, y - r, x + r, y + r)
            (self.draw.ellipse if self.rng.random() < 0.5 else self.draw.rectangle)(box, fill=fill)

    def tone(self, rgb: Colour) -> Colour:
        """Return the colour that an object's own colour becomes under the look."""
        if self.look.tint == "natural":
            return tuple(int(np.clip(v + self.rng.normal(0, 18), 0, 255)) for v in rgb)
        level = 0.3 * rgb[0] + 0.59 * rgb[1] + 0.11 * rgb[2]
        if self.look.tint == "grey":
            level = 20 + 0.6 * level if not self.dark_ground else 95 + 0.6 * level
            return (int(level),) * 3
        dark, light = colour(self.rng, 0, 110), colour(self.rng, 150, 256)
        return light if self.dark_ground else dark

    def at(self, points: Sequence[Point]) -> list[Point]:
        """Map points of the frame to pixels of the canvas."""
        mapped = np.asarray(points, dtype=np.float64) @ self.matrix.T + self.centre
        return [tuple(p) for p in mapped]

    def polygon(self, points: Sequence[Point], fill: Colour) -> None:
        """Fill a polygon."""
        self.draw.polygon(self.at(points), fill=fill)

    def box(self, x0: float, y0: float, x1: float, y1: float, fill: Colour) -> None:
        """Fill a rectangle."""
        self.polygon([(x0, y0), (x1, y0), (x1, y1), (x0, y1)], fill)

    def ellipse(self, x: float, y: float, rx: float, ry: float, fill: Colour, turn=0.0) -> None:
        """Fill an ellipse; `turn` in radians."""
        t = np.linspace(0, 2 * np.pi, 20, endpoint=False)
        u, v = rx * np.cos(t), ry * np.sin(t)
        c, s = np.cos(turn), np.sin(turn)
        self.polygon(np.stack([x + c * u - s * v, y + s * u + c * v], 1), fill)

    def line(self, points: Sequence[Point], fill: Colour, width: float = 0.1) -> None:
        """Draw a polyline; the width is in units of the frame."""
        pixels = max(1, round(width * np.sqrt(abs(np.linalg.det(self.matrix)))))
        self.draw.line(self.at(points), fill=fill, width=pixels, joint="curve")

    def arc(self, x, y, rx, ry, start, end, fill, width=0.1) -> None:
        """Draw an arc from angle `start` to `end` (degrees, clockwise from the x axis)."""
        t = np.deg2rad(np.linspace(start, end, 12))
        self.line(np.stack([x + rx * np.cos(t), y + ry * np.sin(t)], 1), fill, width)

    def finish(self) -> np.ndarray:
        """Scale down, blur and add noise; return uint8 [32, 32, 3]."""
        return finish(self.image, self.look, self.rng)


Drawing = Callable[[Pen, np.random.Generator], None]


def finish(image: Image.Image, look: Look, rng: np.random.Generator) -> np.ndarray:
    """Scale an image down to 32 x 32, blur it, add noise; return uint8 [32, 32, 3]."""
    if look.blur:
        image = image.filter(ImageFilter.GaussianBlur(rng.uniform(0, look.blur)))
    pixels = np.asarray(image.resize((SIZE, SIZE), Image.BILINEAR), dtype=np.float32)
    return noisy(pixels, look.noise, rng)


def noisy(pixels: np.ndarray, noise: float, rng: np.random.Generator) -> np.ndarray:
    """Add pixel noise and return uint8."""
    if noise:
        pixels = pixels + rng.standard_normal(pixels.shape, dtype=np.float32) * noise
    return np.clip(pixels, 0, 255).astype(np.uint8)


def paint(drawing: Drawing, look: Look, rng: np.random.Generator) -> np.ndarray:
    """Draw one picture of a look; return uint8 [32, 32, 3]."""
    pen = Pen(look, rng)
    drawing(pen, rng)
    return pen.finish()


def glyph(
    text: str,
    look: Look,
    rng: np.random.Generator,
    *,
    fonts: Sequence[str] = FONTS,
    height: tuple[int, int] = (34, 50),
    ink: Colour | None = None,
    warp: float = 0.0,
) -> np.ndarray:
    """Draw a character or a short word; return uint8 [32, 32, 3].

    `height` is the range of font sizes on the 64-pixel canvas, `warp` the largest displacement
    of the canvas's corners (pixels), as in handwriting that leans and stretches.
    """
    pen = Pen(look, rng)
    if ink is None:
        ink = pen.tone((0, 0, 0)) if look.tint == "random" else (
            colour(rng, 215, 256) if pen.dark_ground else colour(rng, 0, 60))  # fmt: skip
    layer = Image.new("L", (BIG, BIG), 0)
    face = font(fonts[rng.integers(len(fonts))], int(rng.integers(*height)))
    ImageDraw.Draw(layer).text(tuple(pen.centre), text, font=face, fill=255, anchor="mm")
    if look.rotation:
        layer = layer.rotate(rng.uniform(-look.rotation, look.rotation), resample=Image.BILINEAR)
    if warp:
        corners = np.array([0, 0, 0, BIG, BIG, BIG, BIG, 0]) + rng.uniform(-warp, warp, 8)
        layer = layer.transform((BIG, BIG), Image.QUAD, tuple(corners), resample=Image.BILINEAR)
    pen.image.paste(ink, mask=layer)
    return pen.finish()
