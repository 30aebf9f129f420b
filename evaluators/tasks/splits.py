"""Five disjoint splits of labelled texts. Knows rows, classes and a seed; knows nothing of where rows come from."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from evaluators.tasks.base import Rows, Splits
from spaces.errors import DataError

FEWEST_ROWS = 50


@dataclass(frozen=True)
class SplitSizes:
    """Rows per split; None: 15 % each, at most 1,500 (calibration 10 %, at most 1,024). The rest is train."""

    search: int | None = None
    confirm: int | None = None
    test: int | None = None
    calibration: int | None = None

    def resolve(self, n: int) -> dict[str, int]:
        """Rows of each split but train, out of `n`.

        Raises:
            DataError: a size below 1, or nothing left for train.
        """
        sizes = {
            "test": min(1500, n * 15 // 100) if self.test is None else self.test,
            "confirm": min(1500, n * 15 // 100) if self.confirm is None else self.confirm,
            "search": min(1500, n * 15 // 100) if self.search is None else self.search,
            "calibration": min(1024, n // 10) if self.calibration is None else self.calibration,
        }
        listed = ", ".join(f"{name} {size}" for name, size in sizes.items())
        if min(sizes.values()) < 1:
            raise DataError(f"Splits of {listed} rows: each needs at least one. Ask for larger splits.")
        if sum(sizes.values()) >= n:
            raise DataError(f"Splits of {listed} rows leave none of {n} for training. Ask for smaller splits.")
        return sizes


DEFAULT_SIZES = SplitSizes()


def split(texts: Sequence[str], labels: Sequence[int], seed: int, sizes: SplitSizes = DEFAULT_SIZES) -> Splits:
    """Stratified, disjoint splits of the distinct rows, each in random order, so that its first rows are a fair sample.

    Texts that differ in case or white space only are one row; where their labels disagree, none.

    Args:
        texts: none may be empty.
        labels: class indices.
        seed: draws the splits.
        sizes: rows per split.

    Raises:
        DataError: an empty text, one class only, fewer than 50 distinct rows, a class too rare or splits too large.
    """
    kept = _distinct(texts, labels)
    if len(kept) < FEWEST_ROWS:
        raise DataError(f"{len(kept)} distinct rows; at least {FEWEST_ROWS} are needed. Add rows.")
    if len(set(labels)) < 2:
        raise DataError(f"All {len(labels)} rows have the same label. A classifier needs at least two classes.")
    rng = np.random.default_rng(seed)
    kept = [kept[i] for i in rng.permutation(len(kept))]
    pools = {label: [row for row in kept if labels[row] == label] for label in sorted(set(labels))}
    chosen = {name: _draw(pools, size) for name, size in sizes.resolve(len(kept)).items()}
    for label, pool in pools.items():
        if not pool:
            raise DataError(
                f"Class {label} has too few distinct rows for five splits. Add rows, or merge it with another."
            )
    chosen["train"] = [row for pool in pools.values() for row in pool]
    return Splits(**{name: _rows(texts, labels, rng.permutation(rows).tolist()) for name, rows in chosen.items()})


def _distinct(texts: Sequence[str], labels: Sequence[int]) -> list[int]:
    """The first row of each distinct text whose rows agree in label."""
    first: dict[str, int] = {}
    disputed: set[str] = set()
    for row, text in enumerate(texts):
        key = " ".join(text.casefold().split())
        if not key:
            raise DataError(f"Row {row + 1} has an empty text. Remove it.")
        if labels[first.setdefault(key, row)] != labels[row]:
            disputed.add(key)
    return [row for key, row in first.items() if key not in disputed]


def _draw(pools: dict[int, list[int]], size: int) -> list[int]:
    """Take `size` rows out of the classes' pools in proportion to what they hold (largest remainders first)."""
    total = sum(map(len, pools.values()))
    exact = {label: size * len(pool) / total for label, pool in pools.items()}
    counts = {label: int(share) for label, share in exact.items()}
    by_remainder = sorted(pools, key=lambda label: counts[label] - exact[label])
    for label in by_remainder[: size - sum(counts.values())]:
        counts[label] += 1
    return [pools[label].pop() for label, count in counts.items() for _ in range(count)]


def _rows(texts: Sequence[str], labels: Sequence[int], order: Sequence[int]) -> Rows:
    return Rows(tuple(texts[row] for row in order), tuple(labels[row] for row in order))
