"""Storage formulas against the numbers that the TALL-masks paper prints."""

import pytest

from mergebook.storage import (
    Sizes,
    experts_storage,
    masked_storage,
    shared_storage,
    sparse_storage,
)

# Entries of the released checkpoints: trained (image tower), frozen (rest of the text side).
SIZES = {
    "ViT-B/32": Sizes({32: 87_849_216}, {32: 25_599_489}),
    "ViT-L/14": Sizes({32: 303_966_208}, {32: 38_595_841}),
}
# Gigabits printed in the main vision table of Wang et al., ICML 2024 (arXiv 2405.07813), rows
# "Task arithmetic", "Fine-tuned" and "TALL Mask + TA": one value for each of 8, 14, 20 tasks.
PRINTED = {
    "ViT-B/32": {"shared": [3.6] * 3, "experts": [23.3, 40.2, 57.0], "masked": [7.1, 7.7, 8.2]},
    "ViT-L/14": {
        "shared": [11.0] * 3,
        "experts": [79.1, 137.4, 195.8],
        "masked": [23.1, 24.9, 26.8],
    },
}


@pytest.mark.parametrize("backbone", SIZES)
def test_printed_storage(backbone):
    sizes = SIZES[backbone]
    for column, tasks in enumerate((8, 14, 20)):
        computed = {
            "shared": shared_storage(sizes),
            "experts": experts_storage(sizes, tasks),
            "masked": masked_storage(sizes, tasks),
        }
        for kind, storage in computed.items():
            assert round(storage.gigabits, 1) == PRINTED[backbone][kind][column]


def test_formulas_as_text():
    sizes = Sizes({32: 1000}, {32: 10})
    assert shared_storage(sizes).formula() == ("32(P'+F) = 32,320 bits with P' = 1,000, F = 10")
    assert experts_storage(sizes, 3).formula() == (
        "32(TP'+F) = 96,320 bits with P' = 1,000, F = 10, T = 3"
    )
    assert masked_storage(sizes, 3).formula() == (
        "32(2P'+F) + TP' = 67,320 bits with P' = 1,000, F = 10, T = 3"
    )
    assert sparse_storage(sizes, 3, {32: 300}).formula() == (
        "32(P'+F+K) + TP' = 44,920 bits with P' = 1,000, F = 10, T = 3, K = 300"
    )


def test_mixed_widths_are_added_up_part_by_part():
    sizes = Sizes({16: 100, 32: 10}, {64: 1})
    storage = masked_storage(sizes, 2)
    assert storage.expression == "b(2P'+F) + TP'"
    assert storage.bits == 2 * (16 * 100 + 32 * 10) + 64 + 2 * 110
    assert {part.name for part in storage.parts} == {
        "trained weights of the base", "frozen weights", "merged vector", "masks",
    }  # fmt: skip
