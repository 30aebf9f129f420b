"""Two models' answers to the same rows: what flipped, and where most. Knows logits and labels; knows no models.

A negative flip is a row that the base has right and the model wrong, a positive flip the reverse (Yan et al.,
"Positive-Congruent Training", CVPR 2021). Equal accuracy may hide many of both.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from evaluators.metrics.accuracy import Figure, Metric, correct, paired_drop, score, wilson
from evaluators.metrics.bands import stretches
from evaluators.metrics.calibration import log_softmax
from evaluators.problems.base import Labels, Outputs
from evaluators.tasks.base import Text, parted

Groups: TypeAlias = Mapping[str, Sequence[int]]  # by name of a slice, its rows

_ACCURACY = Metric("accuracy")


@dataclass(frozen=True)
class Share:
    """`rows` of `n` rows as a share, with Wilson's 95 % interval."""

    rows: int
    n: int
    value: float
    low: float
    high: float

    @classmethod
    def of(cls, chosen: NDArray[np.bool_]) -> "Share":
        """From one truth value per row, of at least one row."""
        rows, n = int(chosen.sum()), len(chosen)
        return cls(rows, n, rows / n, *wilson(rows / n, n))


@dataclass(frozen=True)
class Judged:
    """What labels say of both models.

    Args:
        base: the metric of the one.
        model: the metric of the other.
        drop: what the model loses against the base, paired, with its 95 % interval (value, low, high).
        negative: rows that only the base has right.
        positive: rows that only the model has right.
    """

    base: Figure
    model: Figure
    drop: tuple[float, float, float]
    negative: Share
    positive: Share


@dataclass(frozen=True)
class Part:
    """Some rows, or all: how many both models answer differently, and what labels say of it (None: there are none)."""

    name: str
    n: int
    disagreement: Share
    judged: Judged | None

    @property
    def evidence(self) -> tuple[bool, float]:
        """Sorts by how sure it is that rows are lost, or else differ: first those where the lower end of the interval
        is above zero, by that end; then by the share of the interval's half that the estimate is above zero. Few rows
        have wide intervals, so they do not win."""
        share = self.disagreement
        value, low, high = (share.value, share.low, share.high) if self.judged is None else self.judged.drop
        return (True, low) if low > 0 else (False, 2 * value / max(high - low, 1e-9))


@dataclass(frozen=True)
class Flip:
    """A row that both models answer differently.

    Args:
        row: its index.
        kind: negative, positive, or neither where both are wrong; None where there is no label.
        base, model: the predicted classes; `*_probability` is what each gives its own.
        change: half the sum of the probabilities' absolute differences (total variation), 0 to 1.
    """

    row: int
    kind: Literal["negative", "positive", "neither"] | None
    base: int
    base_probability: float
    model: int
    model_probability: float
    change: float


def compared(name: str, base: Outputs, model: Outputs, labels: Labels | None, metric: Metric = _ACCURACY) -> Part:
    """What changes from one model's logits (rows, classes) to the other's, on at least one row."""
    disagreement = Share.of(base.argmax(-1) != model.argmax(-1))
    if labels is None:
        return Part(name, len(base), disagreement, None)
    right, still = correct(base, labels), correct(model, labels)
    judged = Judged(
        base=score(metric, base, labels),
        model=score(metric, model, labels),
        drop=paired_drop(metric, base, model, labels),
        negative=Share.of(right & ~still),
        positive=Share.of(~right & still),
    )
    return Part(name, len(base), disagreement, judged)


def worst_first(groups: Groups, base: Outputs, model: Outputs, labels: Labels | None) -> list[Part]:
    """Every slice, by accuracy, the strongest evidence of a loss first (`Part.evidence`)."""
    parts = []
    for name, rows in groups.items():
        chosen = np.asarray(rows)
        parts.append(compared(name, base[chosen], model[chosen], None if labels is None else labels[chosen]))
    return sorted(parts, key=lambda part: part.evidence, reverse=True)


def flips(base: Outputs, model: Outputs, labels: Labels | None) -> list[Flip]:
    """The rows whose predicted class differs, largest change first."""
    before, after = np.exp(log_softmax(base)), np.exp(log_softmax(model))
    change = np.abs(before - after).sum(-1) / 2
    rows = np.flatnonzero(before.argmax(-1) != after.argmax(-1))
    return [
        Flip(
            int(row),
            None if labels is None else _kind(int(before[row].argmax()), int(after[row].argmax()), int(labels[row])),
            int(before[row].argmax()),
            float(before[row].max()),
            int(after[row].argmax()),
            float(after[row].max()),
            float(change[row]),
        )
        for row in sorted(rows, key=lambda row: (-change[row].round(9), row))
    ]


def by_class(classes: Sequence[str], labels: Iterable[int], title: str) -> dict[str, list[int]]:
    """Rows by class, of labels or of predictions; classes without rows are left out."""
    found = by_value(labels)
    return {f"{title} {name}": found[str(index)] for index, name in enumerate(classes) if str(index) in found}


def by_value(values: Iterable[Any], title: str = "") -> dict[str, list[int]]:
    """Rows by what a column says of them."""
    groups: dict[str, list[int]] = {}
    for row, value in enumerate(values):
        groups.setdefault(f"{title}{value}", []).append(row)
    return groups


def by_length(texts: Sequence[Text]) -> dict[str, tuple[int, ...]]:
    """Rows in about four bands of words."""
    return _bands([sum(len(part.split()) for part in parted(text)) for text in texts], "{} words")


def by_confidence(base: Outputs) -> dict[str, tuple[int, ...]]:
    """Rows in about four bands of the base's largest probability, in whole percent."""
    sure = np.exp(log_softmax(base)).max(-1)
    return _bands(np.rint(100 * sure).astype(int).tolist(), "base {} % sure")


def _bands(figures: Sequence[int], title: str) -> dict[str, tuple[int, ...]]:
    found = {}
    for part in stretches(figures):
        first, last = part.tokens
        found[title.format(first if first == last else f"{first}-{last}")] = part.calls
    return found


def _kind(base: int, model: int, label: int) -> Literal["negative", "positive", "neither"]:
    if base == label:
        return "negative"
    return "positive" if model == label else "neither"
