"""The task's metric with its uncertainty. Knows outputs and labels; knows nothing of models or limits."""

import math
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from evaluators.problems.base import Function, Labels, Outputs, Problem, Summed
from evaluators.problems.classes import CLASSIFICATION
from spaces.errors import ConfigError
from spaces.objectives import AGREEMENT

_Z = 1.959963984540054  # 97.5 % point of the normal distribution
_RESAMPLES = 1000
_COUNTED = ("accuracy", AGREEMENT)  # the metrics that have closed forms


@dataclass(frozen=True)
class Metric:
    """A metric by name, `metric(labels, predictions)`, larger is better; pickles as its name.

    Args:
        name: of the problem's own, or of the user's function.
        problem: what outputs mean.
        goal: `min`: the function's value is negated, so that larger is better all the same.
    """

    name: str
    problem: Problem = CLASSIFICATION
    goal: Literal["max", "min"] = "max"

    @classmethod
    def named(cls, name: str, problem: Problem = CLASSIFICATION, goal: Literal["max", "min"] = "max") -> "Metric":
        """One of the problem's metrics, or the user's own function as `package.module.function` or `module:function`.

        Raises:
            ConfigError: no such metric, or a function that cannot be imported.
        """
        _function(name, problem)
        return cls(name, problem, goal)

    def __call__(self, labels: Labels, predictions: Labels) -> float:
        """The figure over all rows.

        Raises:
            ConfigError: the user's function gave no finite number.
        """
        value = _function(self.name, self.problem)(labels, predictions)
        if not math.isfinite(value):
            raise ConfigError(f"Metric {self.name} gave {value} on {len(labels)} rows. It must return a finite number.")
        return float(self.signed(np.float64(value)))

    def signed(self, values: NDArray[np.float64] | np.float64) -> NDArray[np.float64]:
        """The function's values so that larger is better."""
        return np.asarray(values if self.goal == "max" else -values)

    @property
    def summed(self) -> Summed | None:
        """The function, if it is made of sums over rows."""
        function = _function(self.name, self.problem)
        return function if isinstance(function, Summed) else None

    def of(self, outputs: Outputs, labels: Labels) -> float:
        """The same of a model's outputs (rows, ...)."""
        return self(labels, self.problem.predictions(outputs))

    @property
    def title(self) -> str:
        """Its name, with a minus where it is negated."""
        return self.name if self.goal == "max" else f"-{self.name}"

    @property
    def counts(self) -> bool:
        """Whether it is a share of rows, each right or wrong."""
        return self.name in _COUNTED and self.problem == CLASSIFICATION


@dataclass(frozen=True)
class Figure:
    """A metric's value over `n` rows with its 95 % interval."""

    value: float
    low: float
    high: float
    n: int


def score(metric: Metric, outputs: Outputs, labels: Labels, seed: int = 0) -> Figure:
    """The metric of outputs (rows, ...), with Wilson's interval for accuracy, else a bootstrap drawn by `seed`."""
    predictions, n = metric.problem.predictions(outputs), len(labels)
    value = metric(labels, predictions)
    if metric.counts:
        return Figure(value, *wilson(value, n), n)
    if (summed := metric.summed) is not None:
        drawn = summed.figure(_drawn_sums(summed.terms(labels, predictions), seed))
        return Figure(value, *_interval(metric.signed(drawn)), n)
    return Figure(value, *_bootstrap(lambda rows: metric(labels[rows], predictions[rows]), n, seed), n)


def paired_drop(
    metric: Metric, base_outputs: Outputs, outputs: Outputs, labels: Labels, seed: int = 0
) -> tuple[float, float, float]:
    """What is lost against a baseline on the same rows: the metric's drop and its 95 % interval (low, high).

    For accuracy the interval of Agresti and Min (2005, Wald with half a row added to each cell); else bootstrap over
    rows, drawn by `seed`.
    """
    drop, n = _Drop(metric, base_outputs, outputs, labels), len(labels)
    if metric.counts:
        losses = row_drops(metric, base_outputs, outputs, labels)
        return (drop(), *agresti_min(int((losses > 0).sum()), int((losses < 0).sum()), n))
    if (summed := metric.summed) is not None:
        base, own = (metric.signed(summed.figure(_drawn_sums(terms, seed))) for terms in drop.terms(summed))
        return (drop(), *_interval(base - own))
    return (drop(), *_bootstrap(drop, n, seed))


def row_drops(metric: Metric, base_outputs: Outputs, outputs: Outputs, labels: Labels) -> NDArray[np.float64]:
    """Per row what a baseline scores minus what the model scores; their mean is the metric's drop.

    For accuracy 1, 0 or -1. A metric that is no mean over rows is made one: row i counts n d - (n - 1) d_i, the drop d
    of all n rows and d_i of all but i (pseudo-values of the jackknife, Tukey 1958), whose mean estimates the drop and
    whose variance its error.
    """
    if metric.counts:
        right = [metric.problem.predictions(each) == labels for each in (base_outputs, outputs)]
        return np.asarray(right[0].astype(np.float64) - right[1])
    drop, n = _Drop(metric, base_outputs, outputs, labels), len(labels)
    if n < 2 or np.array_equal(base_outputs, outputs):
        return np.zeros(n)
    whole, others = drop(), np.arange(n - 1)
    if (summed := metric.summed) is not None:
        base, own = (metric.signed(summed.figure(terms.sum(0) - terms)) for terms in drop.terms(summed))
        without = base - own
    else:
        without = np.array([drop(others + (others >= row)) for row in range(n)])
    return np.asarray(n * whole - (n - 1) * without)


def correct(outputs: Outputs, labels: Labels) -> NDArray[np.bool_]:
    """Per row, whether the largest of its outputs is the label's."""
    return np.asarray(outputs.argmax(-1) == labels)


class _Drop:
    """A metric's drop over any selection of rows."""

    def __init__(self, metric: Metric, base_outputs: Outputs, outputs: Outputs, labels: Labels) -> None:
        self._metric, self._labels = metric, labels
        self._base, self._own = metric.problem.predictions(base_outputs), metric.problem.predictions(outputs)

    def __call__(self, rows: NDArray[np.int64] | slice = slice(None)) -> float:
        labels = self._labels[rows]
        return self._metric(labels, self._base[rows]) - self._metric(labels, self._own[rows])

    def terms(self, summed: Summed) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """What each row adds to either figure."""
        return summed.terms(self._labels, self._base), summed.terms(self._labels, self._own)


@cache
def _function(name: str, problem: Problem) -> Function:
    """The function behind a metric's name; the working directory counts as an import path."""
    if name in problem.metrics:
        return problem.metrics[name]
    module, _, attribute = name.replace(":", ".").rpartition(".")
    if not module:
        raise ConfigError(
            f"Unknown metric {name!r}. Known for {problem.name}: {', '.join(problem.metrics)}, or your own as "
            "package.module.function."
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


def wilson(share: float, n: int) -> tuple[float, float]:
    """Wilson's score interval of a share of `n` rows."""
    centre = (share + _Z**2 / (2 * n)) / (1 + _Z**2 / n)
    half = _Z / (1 + _Z**2 / n) * math.sqrt(share * (1 - share) / n + _Z**2 / (4 * n**2))
    return centre - half, centre + half


def agresti_min(lost: int, won: int, n: int) -> tuple[float, float]:
    """Interval of (lost - won) / n for paired rows (Agresti and Min, Statistics in Medicine 24, 2005)."""
    more, less, total = lost + 0.5, won + 0.5, n + 2
    centre = (more - less) / total
    half = _Z * math.sqrt((more + less) - (more - less) ** 2 / total) / total
    return centre - half, centre + half


def _bootstrap(figure: Callable[[NDArray[np.int64]], float], n: int, seed: int) -> tuple[float, float]:
    """The 95 % interval of a figure of rows, from rows drawn with replacement."""
    return _interval(np.array([figure(rows) for rows in _draws(n, seed)]))


def _drawn_sums(terms: NDArray[np.float64], seed: int) -> NDArray[np.float64]:
    """Sums (resamples, K) of terms (rows, K), from rows drawn with replacement."""
    times = np.stack([np.bincount(rows, minlength=len(terms)) for rows in _draws(len(terms), seed)])
    return np.asarray(times @ terms)


def _draws(n: int, seed: int) -> NDArray[np.int64]:
    return np.random.default_rng(seed).integers(0, n, size=(_RESAMPLES, n))


def _interval(figures: NDArray[np.float64]) -> tuple[float, float]:
    low, high = np.quantile(figures, (0.025, 0.975))
    return float(low), float(high)
