"""Suites and the mini benchmark's images."""

import numpy as np
import pytest

from mergebook.errors import SuiteError
from mergebook.suites import SPLITS, Split, Suite, Task, load_suite, suite_sizes
from mergebook.suites.mini import fields, signs
from mergebook.suites.mini.tasks import DIGIT_SIZES
from mergebook.suites.mini.world import concepts, render_world

NAMES = load_suite("mini").names


def test_suite_nests_like_the_clip_suite():
    full = load_suite("mini")
    assert len(full) == 20
    for size in (8, 14, 20):
        assert load_suite("mini", size).names == full.names[:size]


@pytest.mark.parametrize("name", NAMES)
def test_images_have_the_stated_form_and_follow_the_seed(name):
    task = load_suite()[name]
    images, labels = task.examples("train", 60)
    assert images.shape == (60, 32, 32, 3) and images.dtype == np.uint8
    assert labels.shape == (60,) and labels.dtype == np.int64
    assert set(labels) <= set(range(len(task.class_names)))
    again = task.examples("train", 60)
    assert (again.inputs == images).all() and (again.labels == labels).all()
    assert (task.examples("train", 60, seed=1).inputs != images).any()
    shorter = task.examples("train", 20)
    assert (shorter.inputs == images[:20]).all() and (shorter.labels == labels[:20]).all()


@pytest.mark.parametrize("name", NAMES)
def test_splits_share_no_image(name):
    seen = {}
    for split in SPLITS:
        for image in load_suite()[name].examples(split, 100).inputs:
            assert seen.setdefault(image.tobytes(), split) == split


def test_real_digits_are_split_by_digit():
    # jittered training copies must stem from digits outside validation and test
    source, _ = signs.handwritten_digits()
    assert len(source) == 1797
    task = load_suite()["digits"]
    test = {image.tobytes() for image in task.examples("test").inputs}
    assert len(test) == DIGIT_SIZES["test"]
    with pytest.raises(SuiteError, match="test has 500 real digits, 501"):
        task.examples("test", 501)


@pytest.mark.parametrize("name", [n for n in NAMES if n != "digits"])
def test_labels_are_balanced(name):
    task = load_suite()[name]
    counts = np.bincount(task.examples("test", 104).labels, minlength=len(task.class_names))
    assert counts.max() - counts.min() <= 1


@pytest.mark.parametrize("name", NAMES)
def test_classes_differ(name):
    """Mean images, or their textures, of two classes are never the same."""
    task = load_suite()[name]
    images, labels = task.examples("train", 40 * len(task.class_names))
    spectra = np.abs(np.fft.fft2(images.astype(np.float32).mean(-1)))
    means = np.stack([spectra[labels == c].mean(0) for c in range(len(task.class_names))])
    for one in range(len(means)):
        for other in range(one):
            assert np.abs(means[one] - means[other]).mean() > 1.0, (one, other)


def test_samples_show_each_class():
    task = load_suite()["shapes"]
    assert task.samples(2).labels.tolist() == [*range(10), *range(10)]


def test_counting_shows_the_count():
    from mergebook.suites.mini.canvas import Look, Pen

    for number in range(1, 7):
        look = Look(shift=0, scale=(0.9, 0.9), ground="paper", noise=0)
        pen = Pen(look, np.random.default_rng(number))
        signs.count(number)(pen, np.random.default_rng(number))
        dark = np.asarray(pen.image.convert("L")) < 128
        assert components(dark) == number


def components(mask):
    """Number of 4-connected regions, by flood fill."""
    mask, found = mask.copy(), 0
    while mask.any():
        found += 1
        stack = [tuple(np.argwhere(mask)[0])]
        while stack:
            y, x = stack.pop()
            if 0 <= y < mask.shape[0] and 0 <= x < mask.shape[1] and mask[y, x]:
                mask[y, x] = False
                stack += [(y + 1, x), (y - 1, x), (y, x + 1), (y, x - 1)]
    return found


def test_world_is_broader_and_leaves_classes_out():
    captions = [concept.caption for concept in concepts()]
    assert len(captions) == len(set(captions)) > 200
    assert "the greek letter psi" in captions and "a ship" in captions
    for absent in ("pickup", "sunset", "lily", "cracked", "orchard"):
        assert not any(absent in caption for caption in captions)


def test_world_images_follow_the_seed():
    images, labels, captions = render_world(1, seed=0)
    assert images.shape[1:] == (32, 32, 3) and images.dtype == np.uint8
    assert labels.max() + 1 == len(captions) and set(labels) == set(range(len(captions)))
    assert (render_world(1, seed=0)[0] == images).all()
    assert (render_world(1, seed=1)[0] != images).any()


def test_tumours_have_more_nucleus():
    rng = np.random.default_rng(0)
    dark = [
        np.mean([(fields.tissue(t, rng, noise=0)[..., 0] < 140).mean() for _ in range(50)])
        for t in (False, True)
    ]
    assert dark[1] > 1.3 * dark[0]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: load_suite("mimi"), "unknown suite 'mimi'.*mini"),
        (lambda: load_suite("mini", 0), "num_tasks must be between 1 and 20, got 0"),
        (lambda: load_suite("mini", 21), "num_tasks must be between 1 and 20, got 21"),
        (lambda: load_suite("mini")["digit"], "unknown task 'digit'; did you mean 'digits'"),
        (lambda: load_suite()["shapes"].examples("tets"), "shapes.*unknown split 'tets'.*test"),
        (lambda: load_suite()["shapes"].examples("test", 0), "shapes.*test size must be positive"),
        (lambda: Suite("mine", []), "'mine' has no tasks"),
        (lambda: Suite("mine", [load_suite()["shapes"]] * 2), "task names repeat"),
        (lambda: Task("t", "T", ("a", "a"), ("{}",), None), "'t'.*distinct class names"),
        (lambda: Task("t", "T", ("a", "b"), ("no gap",), None), "'t'.*template 'no gap'"),
        (lambda: Task("t", "T", ("a", "b"), (), None), "'t'.*at least one template"),
    ],
)
def test_bad_input_names_the_culprit(call, message):
    with pytest.raises(SuiteError, match=message):
        call()


def test_short_loader_is_an_error():
    short = Split(np.zeros((2, 32, 32, 3), np.uint8), np.zeros(2, np.int64))
    task = Task("t", "T", ("a", "b"), ("{}",), lambda *_: short, {"test": 3})
    with pytest.raises(SuiteError, match="'t': test has 2 images, 3 were asked for"):
        task.examples("test")


def test_sizes_are_those_that_a_suite_has():
    assert suite_sizes("mini", [14, 8, 20]) == [8, 14, 20]
    assert suite_sizes("text8", [8, 14, 20]) == [8]
    assert suite_sizes("text8", [2, 20]) == [2]
    assert suite_sizes("text8", 20) == suite_sizes("text8", [14, 20]) == [8]
    assert suite_sizes("mini", 5) == [5]
