"""Five disjoint splits of labelled texts. Knows rows, strata and a seed; knows nothing of where rows come from."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from evaluators.problems.base import Label, Problem
from evaluators.problems.classes import CLASSIFICATION
from evaluators.tasks.base import Rows, Splits, Text, parted
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


def split(
    texts: Sequence[Text],
    labels: Sequence[Label],
    seed: int,
    sizes: SplitSizes = DEFAULT_SIZES,
    *,
    problem: Problem = CLASSIFICATION,
    strata: Sequence[int] | None = None,
    slices: Sequence[str] = (),
    contents: Sequence[str] = (),
    test: Sequence[int] = (),
) -> Splits:
    """Stratified, disjoint splits of the distinct rows, each in random order, so that its first rows are a fair sample.

    Texts that differ in case or white space only are one row, as are files of equal content; where their labels
    disagree, none.

    Args:
        texts: none may be empty.
        labels: as the problem means them; empty: there are none.
        seed: draws the splits.
        sizes: rows per split.
        problem: what is to be said of each row.
        strata: groups that every split has its share of; None: the classes.
        slices, contents: see Rows.
        test: rows that are the test split, all of them unless its size is given; none: it is drawn like the others.

    Raises:
        DataError: an empty text, one class only, fewer than 50 distinct rows, a class too rare or splits too large.
    """
    first = {*test}
    kept = _distinct(contents or texts, labels, sorted(range(len(texts)), key=lambda row: row not in first))
    if len(kept) < FEWEST_ROWS:
        raise DataError(f"{len(kept)} distinct rows; at least {FEWEST_ROWS} are needed. Add rows.")
    if labels and len(set(labels)) < 2:
        raise DataError(f"All {len(labels)} rows have the same label. There must be at least two to tell apart.")
    rng = np.random.default_rng(seed)
    kept = [kept[i] for i in rng.permutation(len(kept))]
    chosen = {"test": [row for row in kept if row in first][: sizes.test]} if test else {}
    kept = [row for row in kept if row not in first]
    groups = strata or labels or (0,) * len(texts)
    pools = {group: [row for row in kept if groups[row] == group] for group in sorted(set(groups))}
    wanted = sizes.resolve(len(kept))
    chosen |= {name: _draw(list(pools.values()), size) for name, size in wanted.items() if name not in chosen}
    for group, pool in pools.items():
        if not pool and strata is None:
            raise DataError(
                f"Class {group} has too few distinct rows for five splits. Add rows, or merge it with another."
            )
    chosen["train"] = [row for pool in pools.values() for row in pool]
    whole = Rows(tuple(texts), tuple(labels), problem, tuple(slices), tuple(contents))
    return Splits(**{name: whole.take(rng.permutation(rows).tolist()) for name, rows in chosen.items()})


def _distinct(texts: Sequence[Text], labels: Sequence[Label], order: Sequence[int]) -> list[int]:
    """The first row in `order` of each distinct text whose rows agree in label."""
    first: dict[str, int] = {}
    disputed: set[str] = set()
    for row in order:
        parts = [" ".join(part.casefold().split()) for part in parted(texts[row])]
        key = "\n".join(parts)
        if not all(parts):
            raise DataError(f"Row {row + 1} has an empty text. Remove it.")
        same = first.setdefault(key, row)
        if labels and labels[same] != labels[row]:
            disputed.add(key)
    return [row for key, row in first.items() if key not in disputed]


def _draw(pools: Sequence[list[int]], size: int) -> list[int]:
    """Take `size` rows out of the pools in proportion to what they hold (largest remainders first)."""
    total = sum(map(len, pools))
    exact = [size * len(pool) / total for pool in pools]
    counts = [int(share) for share in exact]
    by_remainder = sorted(range(len(pools)), key=lambda place: counts[place] - exact[place])
    for place in by_remainder[: size - sum(counts)]:
        counts[place] += 1
    return [pool.pop() for pool, count in zip(pools, counts, strict=True) for _ in range(count)]
