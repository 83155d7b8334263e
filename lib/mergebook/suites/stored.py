"""Stored images: what an ``.npz`` file or a folder of image files holds."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from PIL import Image, ImageOps

from mergebook.errors import SuiteError, one_line
from mergebook.suites.arrays import Arrays
from mergebook.suites.base import SPLITS
from mergebook.suites.splits import Part

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp")
MOST_SIDE = 4096  # of a stored image, in pixels
MOST_PIXELS = 10**8  # of an image file
LONGEST_CLASS_NAME = 1000  # characters
MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr")  # 8 bits a channel


class Stored(NamedTuple):
    """One task's examples.

    Attributes
    ----------
    class_names : tuple of str or None
        In label order; None if not stored.
    parts : dict of str to Part
        ``"train"``, and ``"validation"`` and ``"test"`` if they are stored apart.
    root : Path
        The file or folder of the task.
    files : tuple of Path
        All that the examples and labels are read from.
    modality : {"image", "text"}
        What the examples are.
    """

    class_names: tuple[str, ...] | None
    parts: dict[str, Part]
    root: Path
    files: tuple[Path, ...]
    modality: Literal["image", "text"] = "image"

    def digest(self) -> str:
        """Digest of the files' contents and of their names below the root."""
        digest = hashlib.sha256()
        for path in self.files:
            with path.open("rb") as file:
                content = hashlib.file_digest(file, "sha256").hexdigest()
            line = f"{path.relative_to(self.root).as_posix()} {content}\n"
            digest.update(line.encode("utf-8", "surrogateescape"))  # names may be any bytes
        return digest.hexdigest()


def read_npz(path: Path) -> Stored:
    """Open a task that is stored as arrays; images are read when they are asked for.

    Parameters
    ----------
    path : Path
        An ``.npz`` with ``<split>_images`` (uint8 [N, H, W, 1 or 3]) and ``<split>_labels``
        (integers [N]) for train and, if split, validation and test; or with ``images`` and
        ``labels``; and ``class_names``, one for each label. Other arrays are ignored. Images that
        are not square are padded with zeros.

    Raises
    ------
    SuiteError
        Unreadable file; an array that is missing or malformed. Names file and array.
    """
    file = Arrays(path)
    keys = {split: f"{split}_" for split in SPLITS if f"{split}_images" in file}
    if "images" in file and keys:
        raise SuiteError(f"{path}: has 'images' and {keys.popitem()[1]}images; keep one")
    keys = {"train": ""} if "images" in file else keys
    if "train" not in keys:
        raise SuiteError(f"{path}: needs the array 'train_images' or 'images'")
    parts = {split: _npz_part(file, prefix) for split, prefix in keys.items()}
    classes = None
    if "class_names" in file:
        shape, dtype = file.header("class_names")
        if len(shape) != 1 or dtype.kind != "U" or dtype.itemsize > 4 * LONGEST_CLASS_NAME:
            raise SuiteError(
                f"{path}: class_names must be a list of strings, is {dtype} {list(shape)}"
            )
        classes = file.texts("class_names")
    return Stored(classes, parts, path, (path,))


def _npz_part(file: Arrays, prefix: str) -> Part:
    path, images, labels = file.path, f"{prefix}images", f"{prefix}labels"
    if labels not in file:
        raise SuiteError(f"{path}: has '{images}' but no '{labels}'")
    (count, *more), kind = file.header(labels, least=1)
    if more or kind.kind not in "iu":
        raise SuiteError(f"{path}: {labels} must be integers [N], is {kind} {[count, *more]}")
    shape, dtype = file.header(images)
    if dtype != np.uint8 or len(shape) != 4 or shape[3] not in (1, 3) or 0 in shape[1:]:
        raise SuiteError(
            f"{path}: {images} must be uint8 [N, H, W, 1 or 3], is {dtype} {list(shape)}"
        )
    if max(shape[1:3]) > MOST_SIDE:
        raise SuiteError(f"{path}: {images} must be at most {MOST_SIDE} pixels wide and high")
    if shape[0] != count:
        raise SuiteError(f"{path}: {shape[0]} {images} but {count} {labels}")
    return Part(file.read(labels).astype(np.int64), partial(_read_arrays, file, images))


def _read_arrays(file: Arrays, key: str, index: np.ndarray) -> np.ndarray:
    images = file.rows(key, index)
    height, width = images.shape[1:3]
    above, left = max(0, width - height), max(0, height - width)
    square = ((0, 0), (above // 2, above - above // 2), (left // 2, left - left // 2), (0, 0))
    images = np.pad(images, square)
    return np.repeat(images, 3, axis=3) if images.shape[3] == 1 else images


def read_tree(path: Path, side: int) -> Stored:
    """Open a task that is stored as image files; they are read when they are asked for.

    Parameters
    ----------
    path : Path
        A folder with one folder of images per class, or with folders ``train``, ``test`` and
        perhaps ``validation`` that have these. Hidden files are ignored.
    side : int
        Images are scaled to fit a square of this side, in pixels, and padded with black.
        Transparent pixels become white.

    Returns
    -------
    Stored
        Class names are the folders' names in sorted order.

    Raises
    ------
    SuiteError
        No classes, classes that differ from split to split, an empty class, a file that is no
        image. Names the folder or file.
    """
    folders = {folder.name: folder for folder in _visible(path) if folder.is_dir()}
    apart = bool(folders) and set(folders) <= set(SPLITS)
    if apart and "train" not in folders:
        raise SuiteError(f"{path}: has {', '.join(sorted(folders))} but no folder 'train'")
    classes: tuple[str, ...] = ()
    parts, files = {}, []
    for split, folder in folders.items() if apart else [("train", path)]:
        listed = {each.name: _images(each) for each in _visible(folder) if each.is_dir()}
        if not listed:
            raise SuiteError(f"{folder}: has no folders of images, one for each class")
        if set(listed) != set(classes or listed):
            odd = ", ".join(sorted(set(listed) ^ set(classes)))
            raise SuiteError(f"{folder}: has other classes than the other splits ({odd})")
        classes = tuple(sorted(listed))
        paths = [image for name in classes for image in listed[name]]
        labels = np.repeat(np.arange(len(classes)), [len(listed[name]) for name in classes])
        parts[split] = Part(labels.astype(np.int64), partial(_read_files, paths, side))
        files += paths
    return Stored(classes, parts, path, tuple(sorted(files)))


def _visible(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if not path.name.startswith("."))


def _images(folder: Path) -> list[Path]:
    paths = _visible(folder)
    if not paths:
        raise SuiteError(f"{folder}: holds no images")
    for path in paths:
        if path.suffix.lower() not in SUFFIXES or not path.is_file():
            raise SuiteError(f"{path}: not an image file ({', '.join(SUFFIXES)})")
    return paths


def _read_files(paths: Sequence[Path], side: int, index: np.ndarray) -> np.ndarray:
    return np.stack([_read_file(paths[i], side) for i in index])


def _read_file(path: Path, side: int) -> np.ndarray:
    try:
        with Image.open(path) as opened:
            if opened.mode not in MODES:
                raise SuiteError(f"{path}: pixels of mode {opened.mode}; save it with 8 bits")
            if opened.width * opened.height > MOST_PIXELS:
                raise SuiteError(f"{path}: more than {MOST_PIXELS:,} pixels")
            image = ImageOps.exif_transpose(opened)
            if image.has_transparency_data:
                ground = Image.new("RGBA", image.size, "white")
                image = Image.alpha_composite(ground, image.convert("RGBA"))
            size = (side, side)
            return np.asarray(ImageOps.pad(image.convert("RGB"), size, Image.Resampling.LANCZOS))
    except SuiteError:
        raise
    except Exception as error:  # decoders raise many kinds on damaged files
        raise SuiteError(f"{path}: not a readable image ({one_line(error)})") from error
