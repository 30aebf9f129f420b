"""Objectives, limits and evaluations. Knows units and signs; knows nothing of how a figure is measured."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from spaces.errors import LimitError


@dataclass(frozen=True)
class Objective:
    """Something to be as small or as large as possible."""

    name: str
    goal: Literal["min", "max"]
    unit: str

    def cost(self, value: float) -> float:
        """`value` so that smaller is better: the only place where a sign is flipped."""
        return value if self.goal == "min" else -value


KL = Objective("kl", "min", "nats")
ACCURACY = Objective("accuracy", "max", "fraction")
LATENCY = Objective("latency", "min", "ms")
SIZE = Objective("size", "min", "bytes")
THROUGHPUT = Objective("throughput", "max", "rows/s")  # of the whole machine, one instance per core

# What accuracy is called where nobody labelled any row, and the original's own answers stand for labels.
AGREEMENT = "agreement"

# What a run's objectives are called.
OBJECTIVES: Mapping[str, Objective] = {each.name: each for each in (ACCURACY, LATENCY, SIZE, THROUGHPUT)}

# Limits on answers beside the metric (evaluators/metrics/guards.py). Of the first ones a percentage is of all rows.
SHARES = ("disagreement", "negative_flips")
IN_POINTS = ("class_drop", "slice_drop", "calibration_rise")
GUARDS = (*SHARES, *IN_POINTS)
OF_LABELS = ("accuracy_drop", "negative_flips", *IN_POINTS)  # limits on answers that need labels
# Absolute units of each limit, as factors of the unit it is resolved to.
UNITS: Mapping[str, Mapping[str, float]] = {
    "latency": {"us": 1e-3, "ms": 1.0, "s": 1e3},
    "size": {"b": 1, "kb": 1e3, "mb": 1e6, "gb": 1e9, "kib": 2**10, "mib": 2**20, "gib": 2**30},
    "accuracy_drop": {"pt": 1e-2},
    **{name: {"pt": 1e-2, "%": 1e-2} for name in SHARES},
    **{name: {"pt": 1e-2} for name in IN_POINTS},
}
RESOLVED_UNITS: Mapping[str, str] = {
    "latency": "ms",
    "size": "bytes",
    **dict.fromkeys(("accuracy_drop", *GUARDS), "fraction"),
}
_EXAMPLES: Mapping[str, str] = {
    "latency": "5ms or 40%",
    "size": "20MB or 30%",
    "accuracy_drop": "1pt or 1%",
    **dict.fromkeys(SHARES, "1% or 1pt"),
    **dict.fromkeys(IN_POINTS, "2pt"),
}
# Between an objective or a limit and the label of the target that it is meant for, where that is not the first one.
AT = "@"
_NUMBER_AND_UNIT = re.compile(r"\s*([-+]?[0-9]*\.?[0-9]+(?:[eE][-+]?[0-9]+)?)\s*([a-zA-Zµ%]*)\s*")


def latency_at(label: str) -> Objective:
    """Latency on a further target of a run: `latency@LABEL`."""
    return Objective(f"{LATENCY.name}{AT}{label}", LATENCY.goal, LATENCY.unit)


@dataclass(frozen=True)
class Bound:
    """A limit in absolute units: `name` may be at most `at_most` (ms, bytes, fraction)."""

    name: str
    at_most: float
    asked: str
    statistic: Literal["mean", "p95"] = "mean"

    @property
    def unit(self) -> str:
        return RESOLVED_UNITS[self.figure]

    @property
    def figure(self) -> str:
        """What is limited: `latency`, `size`, `accuracy_drop` or a guard."""
        return self.name.partition(AT)[0]

    @property
    def of_answers(self) -> bool:
        """Whether answers are limited, which rows can certify, and not what a model costs."""
        return self.name == "accuracy_drop" or self.name in GUARDS

    @property
    def target(self) -> str | None:
        """Label of the target that the limit holds at; None: the first."""
        return self.name.partition(AT)[2] or None

    def excess(self, value: float) -> float:
        """How far `value` is over the limit, relative to it; at most 0 when it holds."""
        return (value - self.at_most) / (abs(self.at_most) or 1.0)


@dataclass(frozen=True)
class Limit:
    """A limit as asked: `latency <= 5ms`, `size <= 30%` (of the baseline), `accuracy_drop <= 1pt`,
    `disagreement <= 1%` (of all rows)."""

    name: str
    value: float
    unit: str
    statistic: Literal["mean", "p95"] = "mean"

    @classmethod
    def parse(cls, name: str, text: str, statistic: Literal["mean", "p95"] = "mean") -> "Limit":
        """Read `5ms`, `20MB`, `1pt`, `40%`; `statistic` says which figure of latency is meant.

        Raises:
            LimitError: no unit, a unit of something else, or a value that no model can meet.
        """
        figure = name.partition(AT)[0]
        units = UNITS[figure]
        match = _NUMBER_AND_UNIT.fullmatch(str(text))
        unit = match[2].lower().replace("µ", "u") if match else ""
        if match is None or not (unit in units or (unit == "%" and figure not in IN_POINTS)):
            raise LimitError(f"{name} limit {text!r} has no known unit. Write {_EXAMPLES[figure]}.")
        value = float(match[1])
        if not math.isfinite(value) or value < 0 or (value == 0 and figure in ("latency", "size")):
            raise LimitError(f"{name} limit {text!r} can never be met. Give a value above zero.")
        return cls(name, value, unit, statistic)

    @property
    def asked(self) -> str:
        """The limit as the user would write it."""
        return (
            f"{self.value:.15g}{self.unit if self.unit not in UNITS['size'] else self.unit.upper().replace('IB', 'iB')}"
        )

    @property
    def relative(self) -> bool:
        """Whether it is a share of what the original has."""
        return self.unit == "%" and "%" not in UNITS[self.name.partition(AT)[0]]

    def resolve(self, fair: Mapping[str, float]) -> Bound:
        """The limit in absolute units; a percentage is of the `fair` baseline, or of all rows (SHARES).

        Args:
            fair: `latency` in ms, `size` in bytes, `accuracy` as a fraction.
        """
        if not self.relative:
            factor = UNITS[self.name.partition(AT)[0]][self.unit]
            return Bound(self.name, self.value * factor, self.asked, self.statistic)
        base = fair["accuracy"] if self.name == "accuracy_drop" else fair[self.name]
        return Bound(self.name, self.value / 100 * base, self.asked, self.statistic)


def most_lost(bounds: Sequence[Bound]) -> float | None:
    """Accuracy that may be lost under limits, as a fraction; None: any.

    What is lost is no more than the rows that only the original has right, and these are no more than those on which
    the two disagree.
    """
    return min((bound.at_most for bound in bounds if bound.name in ("accuracy_drop", *SHARES)), default=None)


@dataclass(frozen=True)
class Complete:
    """Everything was measured.

    Args:
        values: one finite figure per objective, in the objective's unit.
        extras: further finite figures (accuracy on the search rows, agreement, n, ...).
    """

    values: Mapping[str, float]
    extras: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check_finite({**self.values, **self.extras})


@dataclass(frozen=True)
class Stopped:
    """Given up early on purpose, with what was known by then after `n` rows."""

    reason: str
    values: Mapping[str, float]
    n: int

    def __post_init__(self) -> None:
        _check_finite(self.values)


def _check_finite(figures: Mapping[str, float]) -> None:
    for name, value in figures.items():
        if not math.isfinite(value):
            raise ValueError(f"{name}={value} is not finite; such an evaluation is Failed, not Complete.")


@dataclass(frozen=True)
class Failed:
    """Could not be measured: a short `kind` to count by, and a message to read."""

    kind: str
    message: str


@dataclass(frozen=True)
class Evaluation:
    """What became of one job.

    Args:
        key: the job's key.
        outcome: exactly one of Complete, Stopped, Failed.
        seconds: time the worker spent.
        started: when it began, in seconds since the epoch.
        node: where it ran.
        attempts: how often it was tried.
        predictions: contents of an .npz file, by name one float16 array of logits (rows, classes) per split.
    """

    key: str
    outcome: Complete | Stopped | Failed
    seconds: float = 0.0
    started: float = 0.0
    node: str = ""
    attempts: int = 1
    predictions: bytes | None = field(default=None, repr=False)
