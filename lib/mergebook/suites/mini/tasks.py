"""The twenty tasks of the mini suite: classes, prompts, how an image is drawn, splits."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from mergebook.errors import SuiteError
from mergebook.suites.base import SPLITS, Split, Task
from mergebook.suites.mini import fields, signs
from mergebook.suites.mini.canvas import Look, glyph, paint
from mergebook.suites.mini.creatures import ANIMALS, FACES
from mergebook.suites.mini.objects import CLOTHES, FLOWERS, FRUIT, VEHICLES

SIZES = {"train": 3000, "validation": 400, "test": 1000}
DIGIT_SIZES = {"train": 3000, "validation": 300, "test": 500}

STREET = Look(rotation=8, shift=0.15, scale=(0.65, 0.95), flip=True, ground="clutter",
              tint="natural", noise=14, blur=0.8)  # fmt: skip
POSTER = Look(rotation=15, shift=0.2, scale=(0.6, 0.95), shear=0.2, flip=True, ground="clutter",
              tint="random", noise=14, blur=0.6)  # fmt: skip
MEADOW = Look(rotation=30, shift=0.15, scale=(0.65, 0.95), shear=0.1, flip=True, ground="clutter",
              tint="natural", noise=14, blur=0.8)  # fmt: skip
PRINT = Look(rotation=20, shift=0.2, scale=(0.7, 1.0), ground="flat", tint="random", noise=16)
NIGHT = Look(rotation=12, shift=0.12, scale=(0.7, 0.95), ground="black", tint="grey", noise=12)


SANS = ("DejaVuSans.ttf", "DejaVuSans-Bold.ttf")


def _letters(label: int, rng) -> np.ndarray:
    return glyph(chr(65 + label), NIGHT, rng, fonts=("DejaVuSans-Oblique.ttf", "DejaVuSans.ttf",
                 "DejaVuSansMono.ttf", "DejaVuSerif-Italic.ttf"), warp=7)  # fmt: skip


def _words(label: int, rng) -> np.ndarray:
    words = tuple(signs.WORDS.values())[label]
    look = Look(rotation=5, shift=0.08, ground="flat", tint="random", noise=10)
    return glyph(words[rng.integers(len(words))], look, rng, height=(18, 24),
                 fonts=SANS)  # fmt: skip


def _from(drawings: dict, look: Look) -> Callable:
    items = tuple(drawings.values())
    return lambda label, rng: paint(items[label], look, rng)


def _glyphs(characters: dict[str, str], look: Look, **kwargs) -> Callable:
    items = tuple(characters.values())
    return lambda label, rng: glyph(items[label], look, rng, **kwargs)


def _views(pictures: dict, noise: float) -> Callable:
    items = tuple(pictures.values())
    return lambda label, rng: fields.view(items[label], rng, plain=False, noise=noise)


TEXTURE_NAMES = tuple(name for name in fields.TEXTURES if name not in ("scaly", "zigzag"))
COUNTS = signs.NUMERALS[1:7]


@dataclass(frozen=True)
class Spec:
    """What distinguishes one task from another."""

    title: str
    counterpart: str
    classes: tuple[str, ...]
    prompts: tuple[str, ...]
    draw: Callable[[int, np.random.Generator], np.ndarray]
    description: str


SPECS = {
    "vehicles": Spec(
        "Vehicles", "Cars", tuple(VEHICLES), ("a photo of a {}.", "a {} on the street."),
        _from(VEHICLES, STREET),
        "Side views of road vehicles in any paint, facing left or right, before street clutter."),
    "textures": Spec(
        "Textures", "DTD", TEXTURE_NAMES, ("a photo of a {} texture.", "a {} surface."),
        lambda y, rng: fields.texture(TEXTURE_NAMES[y], rng, grey=False, noise=18),
        "Two-coloured patterns with random direction, frequency and phase."),
    "land": Spec(
        "Land use", "EuroSAT", tuple(fields.LAND),
        ("a satellite photo of {}.", "a photo of {} from above."), _views(fields.LAND, 12),
        "Land cover as a satellite sees it, under changing light, haze and thin cloud."),
    "signs": Spec(
        "Traffic signs", "GTSRB", tuple(signs.SIGNS),
        ("a photo of a {} traffic sign.", "a road sign that means {}."),
        _from(signs.SIGNS, Look(rotation=10, shift=0.15, scale=(0.7, 1.0), shear=0.1,
                                ground="clutter", tint="natural", noise=14, blur=1.2)),
        "Fifteen European traffic signs, slightly turned and blurred, before clutter."),
    "digits": Spec(
        "Handwritten digits", "MNIST", signs.NUMERALS,
        ("a photo of the digit {}.", "a handwritten digit {}."), None,
        "Real handwritten digits (scikit-learn, 8 x 8 pixels), enlarged; training images are "
        "jittered copies of training digits, validation and test digits are used once each."),
    "aerial": Spec(
        "Aerial views", "RESISC45", tuple(fields.AERIAL),
        ("an aerial photo of a {}.", "a {} seen from a plane."), _views(fields.AERIAL, 12),
        "Man-made places seen from a plane, under changing light, haze and thin cloud."),
    "house_numbers": Spec(
        "House numbers", "SVHN", signs.NUMERALS,
        ("a photo of the digit {}.", "the house number {}."),
        lambda y, rng: signs.house_number(y, Look(rotation=10, noise=16, blur=0.8), rng),
        "A digit in the middle of a plate, its neighbours cut off at the edges."),
    "scenes": Spec(
        "Landscapes", "SUN397", tuple(fields.SCENES), ("a photo of a {}.", "a {} scene."),
        _views(fields.SCENES, 12), "Ten kinds of landscape, each with random layout and weather."),
    "shapes": Spec(
        "Shapes", "STL10", tuple(signs.SHAPES), ("a photo of a {}.", "a {} shape."),
        _from(signs.SHAPES, POSTER),
        "Plane figures in any colour, turned and sheared, on clutter."),
    "animals": Spec(
        "Animals", "OxfordIIITPet", tuple(ANIMALS), ("a photo of a {}.", "the face of a {}."),
        _from(ANIMALS, STREET), "Cartoon heads of eight animals with fur of any usual colour."),
    "flowers": Spec(
        "Flowers", "Flowers102", tuple(FLOWERS), ("a photo of a {}.", "a {}, a type of flower."),
        _from(FLOWERS, MEADOW), "Eight flowers, told apart by petals, centre and stem."),
    "symbols": Spec(
        "Symbols", "CIFAR100", tuple(signs.SYMBOLS), ("a photo of a {}.", "the {} symbol."),
        _glyphs(signs.SYMBOLS, PRINT, height=(42, 58), fonts=SANS),
        "Twenty pictographs of a font in random colours and sizes."),
    "cells": Spec(
        "Stained tissue", "PCAM", ("healthy tissue", "tumour tissue"),
        ("a photo of {}.", "{} under the microscope."),
        lambda y, rng: fields.tissue(bool(y), rng, noise=12),
        "Cell nuclei in stained tissue; in tumours they are larger, darker, crowded and uneven."),
    "faces": Spec(
        "Facial expressions", "FER2013", tuple(FACES),
        ("a photo of a {} face.", "a person who looks {}."),
        _from(FACES, Look(rotation=8, shift=0.12, scale=(0.75, 0.95), ground="flat", tint="grey",
                          noise=16, blur=0.5)),
        "Grey cartoon faces; mouth, brows and eyes carry the expression."),
    "counting": Spec(
        "Counting", "CIFAR10", COUNTS, ("a photo of {} discs.", "{} things."),
        lambda y, rng: paint(signs.count(y + 1), PRINT, rng),
        "One to six discs of one colour, never touching."),
    "fruit": Spec(
        "Fruit", "Food101", tuple(FRUIT), ("a photo of {}.", "{}, a type of fruit."),
        _from(FRUIT, MEADOW), "Eight kinds of fruit in their own colours, before clutter."),
    "clothes": Spec(
        "Clothes", "FashionMNIST", tuple(CLOTHES),
        ("a photo of a {}.", "a {}, a piece of clothing."),
        _from(CLOTHES, Look(rotation=10, shift=0.12, scale=(0.65, 0.95), flip=True,
                            ground="black", tint="natural", noise=14, blur=0.6)),
        "Pieces of clothing, pale on black, in the manner of product photographs."),
    "words": Spec(
        "Rendered words", "RenderedSST2", tuple(signs.WORDS),
        ("a {} word.", "a word with a {} meaning."), _words,
        "A short English word in print; the label is its sentiment."),
    "letters": Spec(
        "Letters", "EMNIST", tuple("ABCDEFGHIJKLMNOPQRSTUVWXYZ"),
        ("a photo of the letter {}.", "a handwritten letter {}."), _letters,
        "Capital letters, white on black, leaning and stretched like handwriting."),
    "georgian": Spec(
        "Georgian letters", "KMNIST", tuple(signs.GEORGIAN),
        ("a photo of the georgian letter {}.", "the georgian character {}."),
        _glyphs(signs.GEORGIAN, NIGHT, fonts=("DejaVuSans.ttf", "DejaVuSans-Bold.ttf",
                                              "DejaVuSerif.ttf"), warp=5),
        "Twelve letters of the Georgian script, white on black."),
}  # fmt: skip


def generator(name: str, split: str, seed: int) -> np.random.Generator:
    """Return the random generator of a task's split: no two of them share a stream."""
    return np.random.default_rng([seed, SPLITS.index(split), zlib.crc32(name.encode())])


def balanced_labels(size: int, num_classes: int, rng: np.random.Generator) -> np.ndarray:
    """Return labels in shuffled blocks of all classes, int64 [size]; a prefix is balanced too."""
    blocks = [rng.permutation(num_classes) for _ in range(-(-size // num_classes))]
    return np.concatenate(blocks)[:size].astype(np.int64)


def _rendered(name: str) -> Callable[[str, int, int], Split]:
    spec = SPECS[name]

    def load(split: str, size: int, seed: int) -> Split:
        labels = balanced_labels(size, len(spec.classes), generator(name, split, seed))
        rng = generator(name + "/images", split, seed)
        return Split(np.stack([spec.draw(int(label), rng) for label in labels]), labels)

    return load


def _digits(split: str, size: int, seed: int) -> Split:
    _, targets = signs.handwritten_digits()
    order = np.random.default_rng([seed, zlib.crc32(b"digits")]).permutation(len(targets))
    test, validation = DIGIT_SIZES["test"], DIGIT_SIZES["validation"]
    parts = np.split(order, [test, test + validation])
    pool = dict(zip(("test", "validation", "train"), parts, strict=True))[split]
    if split != "train" and size > len(pool):
        raise SuiteError(f"task 'digits': {split} has {len(pool)} real digits, {size} asked for")
    rng = generator("digits", split, seed)
    look = Look(rotation=12, noise=10)
    index = np.resize(pool, size)
    jitter = split == "train"
    return Split(np.stack([signs.digit_image(i, look, rng, jitter) for i in index]), targets[index])


def make_task(name: str) -> Task:
    """Build one task of the suite."""
    spec, real = SPECS[name], name == "digits"
    return Task(name, spec.title, spec.classes, spec.prompts, _digits if real else _rendered(name),
                DIGIT_SIZES if real else SIZES, spec.counterpart, spec.description)  # fmt: skip
