"""Splits against their definition: disjoint, distinct, stratified, seeded."""

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

import pytest

from evaluators.tasks.splits import SplitSizes, split
from spaces.errors import DataError

NAMES = ("train", "calibration", "search", "confirm", "test")
TEXTS = [f"row number {i}" for i in range(1000)]
LABELS = [int(i % 10 < 3) for i in range(1000)]


def test_default_sizes_are_shares() -> None:
    splits = split(TEXTS, LABELS, seed=0)
    assert {name: len(getattr(splits, name)) for name in NAMES} == {
        "train": 450,
        "calibration": 100,
        "search": 150,
        "confirm": 150,
        "test": 150,
    }


def test_default_sizes_are_capped() -> None:
    assert SplitSizes().resolve(100_000) == {"test": 1500, "confirm": 1500, "search": 1500, "calibration": 1024}


def test_given_sizes_are_kept() -> None:
    splits = split(TEXTS, LABELS, seed=0, sizes=SplitSizes(search=10, confirm=20, test=30, calibration=40))
    assert [len(getattr(splits, name)) for name in NAMES] == [900, 40, 10, 20, 30]


def test_every_row_is_in_exactly_one_split_with_its_label() -> None:
    splits = split(TEXTS, LABELS, seed=3)
    pairs = [
        pair for name in NAMES for pair in zip(getattr(splits, name).texts, getattr(splits, name).labels, strict=True)
    ]
    assert sorted(pairs) == sorted(zip(TEXTS, LABELS, strict=True))


def test_classes_keep_their_shares() -> None:
    splits = split(TEXTS, LABELS, seed=1)
    for field in fields(splits):
        rows = getattr(splits, field.name)
        assert abs(sum(rows.labels) - 0.3 * len(rows)) <= 1


def test_first_rows_are_a_random_subset() -> None:
    splits = split(TEXTS, LABELS, seed=1)
    assert 20 <= sum(splits.train.first(100).labels) <= 40


def test_same_seed_same_splits() -> None:
    assert split(TEXTS, LABELS, seed=5) == split(TEXTS, LABELS, seed=5)
    assert split(TEXTS, LABELS, seed=5) != split(TEXTS, LABELS, seed=6)


def test_duplicates_are_one_row_and_disputed_ones_none() -> None:
    texts = [*TEXTS, "Row  NUMBER 0", " row number 1\n"]
    splits = split(texts, [*LABELS, LABELS[0], 1 - LABELS[1]], seed=0)
    kept = [text for name in NAMES for text in getattr(splits, name).texts]
    assert sorted(kept) == sorted(text for text in TEXTS if text != "row number 1")


def test_smallest_usable_data() -> None:
    splits = split(TEXTS[:50], LABELS[:50], seed=0)
    assert [len(getattr(splits, name)) for name in NAMES] == [24, 5, 7, 7, 7]


@pytest.mark.parametrize(
    ("texts", "labels", "sizes", "message"),
    [
        (TEXTS[:49], LABELS[:49], SplitSizes(), "49 distinct rows; at least 50"),
        ([], [], SplitSizes(), "0 distinct rows"),
        (["same"] * 60, LABELS[:60], SplitSizes(), "0 distinct rows"),
        (TEXTS, [0] * 1000, SplitSizes(), "the same label"),
        ([*TEXTS[:60], "  "], LABELS[:61], SplitSizes(), "Row 61 has an empty text"),
        (TEXTS, LABELS, SplitSizes(search=900), "leave none of 1000"),
        (TEXTS, LABELS, SplitSizes(test=0), "at least one"),
        (TEXTS, [2, *LABELS[1:]], SplitSizes(search=750, confirm=99, test=99, calibration=50), "Class"),
    ],
)
def test_unusable_rows_are_refused(
    texts: Sequence[str], labels: Sequence[Any], sizes: SplitSizes, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        split(texts, labels, seed=0, sizes=sizes)
