"""The world that mini backbones are pre-trained on: image-caption pairs in a cleaner style.

It is broader than the tasks (other scripts, symbols, shapes, vehicles, colours) and lacks part
of what they ask for (some classes of many tasks, real handwriting, clutter, weather). Its images
are drawings and prints on plain ground; none of them is an image of a task.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from mergebook.suites.mini import fields, signs
from mergebook.suites.mini.canvas import FONTS, Look, glyph, noisy, paint
from mergebook.suites.mini.creatures import ANIMALS, FACES
from mergebook.suites.mini.objects import CLOTHES, FLOWERS, FRUIT, OTHER_VEHICLES, VEHICLES

TEMPLATES = ("{}.", "a photo of {}.", "a picture of {}.", "a drawing of {}.", "this is {}.")

INK = Look(
    rotation=6, shift=0.15, scale=(0.65, 1.0), flip=True, ground="paper", tint="grey", noise=8
)
FLAT = Look(rotation=10, shift=0.2, scale=(0.6, 1.0), flip=True, ground="flat", tint="random",
            noise=10)  # fmt: skip
CRAYON = Look(rotation=10, shift=0.15, scale=(0.65, 1.0), flip=True, ground="flat", tint="natural",
              noise=10)  # fmt: skip
COLOURS = {
    "red": (220, 30, 30), "green": (40, 160, 50), "blue": (40, 70, 210), "yellow": (240, 220, 40),
    "orange": (245, 140, 25), "purple": (130, 50, 170), "pink": (250, 140, 190),
    "brown": (120, 75, 40), "grey": (128, 128, 128), "black": (15, 15, 15),
    "white": (245, 245, 245),
}  # fmt: skip


@dataclass(frozen=True)
class Concept:
    """A caption and the function that draws an image of it."""

    caption: str
    draw: Callable[[np.random.Generator], np.ndarray]
    weight: float = 1.0


def _mixed(drawing, looks=(INK, FLAT, CRAYON), flip=True):
    looks = tuple(replace(look, flip=flip) for look in looks)
    return lambda rng: paint(drawing, looks[rng.integers(len(looks))], rng)


def _print(character: str, **kwargs):
    return lambda rng: glyph(character, (INK, FLAT)[rng.integers(2)], rng, **kwargs)


def _article(noun: str) -> str:
    return noun if noun in ("trousers", "cherries", "grapes") else (
        f"an {noun}" if noun[0] in "aeiou" else f"a {noun}")  # fmt: skip


def _patch(rgb):
    def draw(rng):
        shade = np.array(rgb) * rng.uniform(0.8, 1.1)
        return noisy(shade + 30 * (fields.low_frequency(rng, 4)[..., None] - 0.5), 10, rng)

    return draw


def _texture(name):
    return lambda rng: fields.texture(name, rng, grey=rng.random() < 0.5, noise=8)


def _map(picture):
    return lambda rng: fields.view(picture, rng, plain=True, noise=8)


def _without(items: dict, *absent: str) -> dict:
    return {name: value for name, value in items.items() if name not in absent}


def concepts() -> list[Concept]:
    """Return every concept of the world, in a fixed order."""
    world: list[Concept] = []

    def add(caption: str, draw: Callable, weight: float = 1.0) -> None:
        world.append(Concept(caption, draw, weight))

    for i, numeral in enumerate(signs.NUMERALS):
        add(f"the digit {numeral}", _print(str(i)), 2.0)
    for letter in "ABCDEFGHIJKLMNOPQRSTUVWXYZ":
        add(f"the letter {letter}", _print(letter, fonts=FONTS[:5]))
    for letter in "abdefghijlmnqrty":
        add(f"the small letter {letter}", _print(letter))
    scripts = {"greek": signs.GREEK, "cyrillic": signs.CYRILLIC, "armenian": signs.ARMENIAN,
               "georgian": dict(list(signs.GEORGIAN.items())[:6])}  # fmt: skip
    for script, characters in scripts.items():
        for name, character in characters.items():
            add(f"the {script} letter {name}", _print(character))
    symbols = _without(signs.SYMBOLS, "radiation", "swords", "scales", "skull", "peace", "anchor")
    for name, character in {**symbols, **signs.OTHER_SYMBOLS}.items():
        add(f"the {name} symbol", _print(character, fonts=("DejaVuSans.ttf",), height=(42, 58)))
    for mood, words in signs.WORDS.items():
        for word in words[:4]:
            add(f"the {mood} word {word}", _print(word, height=(18, 24), fonts=("DejaVuSans.ttf",)))
    for name, drawing in {**_without(VEHICLES, "pickup", "motorbike"), **OTHER_VEHICLES}.items():
        add(_article(name), _mixed(drawing), 1.5)
    for items, absent in ((ANIMALS, ("mouse",)), (FLOWERS, ("pansy", "lily")), (FRUIT, ("pear",)),
                          (CLOTHES, ("boot", "coat"))):  # fmt: skip
        for name, drawing in _without(items, *absent).items():
            add(_article(name), _mixed(drawing), 1.5)
    for name, drawing in _without(FACES, "fearful", "sleepy").items():
        add(f"a {name} face", _mixed(drawing, (INK, CRAYON)), 1.5)
    for name, drawing in {**signs.SHAPES, **signs.OTHER_SHAPES}.items():
        add(_article(name), _mixed(drawing, (INK, FLAT)), 1.5)
    signals = _without(signs.SIGNS, "speed limit eight", "end of limits", "crossing", "turn right",
                       "no vehicles")  # fmt: skip
    for name, drawing in signals.items():
        add(f"a {name} traffic sign", _mixed(drawing, (INK, CRAYON), flip=False), 1.5)
    for i, numeral in enumerate(signs.NUMERALS[1:6], start=1):
        for shape in ("square", "triangle"):
            add(f"{numeral} {shape}s", _mixed(signs.count(i, shape), (INK, FLAT)))
    for name in _without(fields.TEXTURES, "cracked", "blotchy"):
        add(f"a {name} texture", _texture(name), 1.5)
    places = (("a map of {}", _without(fields.LAND, "orchard", "pasture")),
              ("an aerial view of {}", _without(fields.AERIAL, "railway", "tennis court")),
              ("a {} scene", _without(fields.SCENES, "sunset", "field")))  # fmt: skip
    for phrase, pictures in places:
        for name, picture in pictures.items():
            subject = _article(name) if "aerial" in phrase else name
            add(phrase.format(subject), _map(picture), 1.5)
    add("healthy tissue", lambda rng: fields.tissue(False, rng, noise=5), 1.5)
    add("a colony of bacteria", _mixed(signs.count(7), (INK, FLAT)))
    for name, rgb in COLOURS.items():
        add(f"the colour {name}", _patch(rgb), 0.7)
    return world


def render_world(images_per_concept: int, seed: int) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Draw the pre-training set.

    Parameters
    ----------
    images_per_concept : int
        Images of a concept of weight 1; others have proportionally more or fewer.
    seed : int

    Returns
    -------
    images : ndarray of uint8, shape [N, 32, 32, 3]
    labels : ndarray of int64, shape [N]
        Index of each image's caption.
    captions : list of str
        Caption phrases, to be put into :data:`TEMPLATES`.
    """
    world, images, labels = concepts(), [], []
    for index, concept in enumerate(world):
        rng = np.random.default_rng([seed, index])
        count = max(1, round(images_per_concept * concept.weight))
        images += [concept.draw(rng) for _ in range(count)]
        labels += [index] * count
    return np.stack(images), np.array(labels, np.int64), [concept.caption for concept in world]
