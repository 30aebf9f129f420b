"""The task's metric with its uncertainty. Knows logits and labels; knows nothing of models or limits."""

import math
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from spaces.errors import ConfigError

Labels: TypeAlias = NDArray[np.integer[Any]]
Logits: TypeAlias = NDArray[np.floating[Any]]
Function: TypeAlias = Callable[[Labels, Labels], float]

_Z = 1.959963984540054  # 97.5 % point of the normal distribution
_RESAMPLES = 1000


def accuracy(labels: Labels, predictions: Labels) -> float:
    """Share of the rows predicted right."""
    return float((labels == predictions).mean())


def f1(labels: Labels, predictions: Labels) -> float:
    """F1 of class 1 where there are two classes, else the mean over the classes that occur."""
    counts = _confusion(labels, predictions)
    both = counts.sum(0) + counts.sum(1)
    scores = 2 * counts.diagonal() / np.maximum(both, 1)
    return float(scores[1] if len(counts) == 2 else scores[both > 0].mean())


def matthews(labels: Labels, predictions: Labels) -> float:
    """Matthews correlation, for any number of classes (Gorodkin 2004, eq. 8); 0 where one side is constant."""
    counts = _confusion(labels, predictions).astype(np.float64)
    true, predicted, n = counts.sum(1), counts.sum(0), counts.sum()
    spread = (n**2 - true @ true) * (n**2 - predicted @ predicted)
    return float((n * counts.trace() - true @ predicted) / math.sqrt(spread)) if spread > 0 else 0.0


METRICS: Mapping[str, Function] = {"accuracy": accuracy, "f1": f1, "matthews": matthews}


@dataclass(frozen=True)
class Metric:
    """A metric by name, `metric(labels, predictions)`, larger is better; pickles as its name."""

    name: str

    @classmethod
    def named(cls, name: str) -> "Metric":
        """`accuracy`, `f1`, `matthews`, or the user's own function as `package.module.function` or `module:function`.

        Raises:
            ConfigError: no such metric, or a function that cannot be imported.
        """
        _function(name)
        return cls(name)

    def __call__(self, labels: Labels, predictions: Labels) -> float:
        """The figure over all rows.

        Raises:
            ConfigError: the user's function gave no finite number.
        """
        value = _function(self.name)(labels, predictions)
        if not math.isfinite(value):
            raise ConfigError(f"Metric {self.name} gave {value} on {len(labels)} rows. It must return a finite number.")
        return float(value)


@dataclass(frozen=True)
class Figure:
    """A metric's value over `n` rows with its 95 % interval."""

    value: float
    low: float
    high: float
    n: int


def score(metric: Metric, logits: Logits, labels: Labels, seed: int = 0) -> Figure:
    """The metric of logits (rows, classes), with Wilson's interval for accuracy, else a bootstrap drawn by `seed`."""
    predictions, n = logits.argmax(-1), len(labels)
    value = metric(labels, predictions)
    if metric.name == "accuracy":
        return Figure(value, *wilson(value, n), n)
    draws = [metric(labels[rows], predictions[rows]) for rows in _resamples(n, seed)]
    low, high = np.quantile(draws, (0.025, 0.975))
    return Figure(value, float(low), float(high), n)


def paired_drop(
    metric: Metric, base_logits: Logits, logits: Logits, labels: Labels, seed: int = 0
) -> tuple[float, float, float]:
    """What is lost against a baseline on the same rows: the metric's drop and its 95 % interval (low, high).

    For accuracy the interval of Agresti and Min (2005, Wald with half a row added to each cell); else bootstrap over
    rows, drawn by `seed`.
    """
    base, predictions, n = base_logits.argmax(-1), logits.argmax(-1), len(labels)
    drop = metric(labels, base) - metric(labels, predictions)
    if metric.name == "accuracy":
        lost = int(((base == labels) & (predictions != labels)).sum())
        won = int(((base != labels) & (predictions == labels)).sum())
        return (drop, *_agresti_min(lost, won, n))
    draws = [metric(labels[rows], base[rows]) - metric(labels[rows], predictions[rows]) for rows in _resamples(n, seed)]
    low, high = np.quantile(draws, (0.025, 0.975))
    return drop, float(low), float(high)


def correct(logits: Logits, labels: Labels) -> NDArray[np.bool_]:
    """Per row, whether the largest logit is the label's."""
    return np.asarray(logits.argmax(-1) == labels)


def collapsed(logits: Logits) -> bool:
    """Whether one class is predicted for every row."""
    return len(np.unique(logits.argmax(-1))) == 1


@cache
def _function(name: str) -> Function:
    """The function behind a metric's name; the working directory counts as an import path."""
    if name in METRICS:
        return METRICS[name]
    module, _, attribute = name.replace(":", ".").rpartition(".")
    if not module:
        raise ConfigError(
            f"Unknown metric {name!r}. Known: {', '.join(METRICS)}, or your own as package.module.function."
        )
    paths = list(sys.path)
    sys.path.append(str(Path.cwd()))
    try:
        function = getattr(import_module(module), attribute)
    except (ImportError, AttributeError, SyntaxError) as error:
        raise ConfigError(f"Cannot import metric {name!r}: {error}. Give package.module.function.") from None
    finally:
        sys.path[:] = paths
    if not callable(function):
        raise ConfigError(f"Metric {name!r} is a {type(function).__name__}, not a function of labels and predictions.")
    found: Function = function
    return found


def _confusion(labels: Labels, predictions: Labels) -> NDArray[np.int64]:
    """Rows by true (first axis) and predicted class."""
    size = max(2, int(labels.max()) + 1, int(predictions.max()) + 1)
    return np.bincount(labels * size + predictions, minlength=size * size).reshape(size, size)


def wilson(share: float, n: int) -> tuple[float, float]:
    """Wilson's score interval of a share of `n` rows."""
    centre = (share + _Z**2 / (2 * n)) / (1 + _Z**2 / n)
    half = _Z / (1 + _Z**2 / n) * math.sqrt(share * (1 - share) / n + _Z**2 / (4 * n**2))
    return centre - half, centre + half


def _agresti_min(lost: int, won: int, n: int) -> tuple[float, float]:
    """Interval of (lost - won) / n for paired rows (Agresti and Min, Statistics in Medicine 24, 2005)."""
    more, less, total = lost + 0.5, won + 0.5, n + 2
    centre = (more - less) / total
    half = _Z * math.sqrt((more + less) - (more - less) ** 2 / total) / total
    return centre - half, centre + half


def _resamples(n: int, seed: int) -> NDArray[np.int64]:
    """Row indices drawn with replacement, (resamples, n)."""
    return np.random.default_rng(seed).integers(0, n, size=(_RESAMPLES, n))
