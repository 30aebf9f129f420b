"""A number per row. Knows numbers; knows no models."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from evaluators.problems.base import Function, Label, Labels, Outputs, Predictions, Summed, mean_of, share

if TYPE_CHECKING:
    from torch import Tensor

# Of the labels' standard deviation: numbers nearer than that are the same answer.
_SAME = 0.05


def pearson(labels: Labels, predictions: Predictions) -> float:
    """Correlation; 0 where one side is constant."""
    left, right = labels - labels.mean(), predictions - predictions.mean()
    spread = float(np.sqrt((left @ left) * (right @ right)))
    return float(left @ right) / spread if spread > 0 else 0.0


def spearman(labels: Labels, predictions: Predictions) -> float:
    """Correlation of ranks, equal values sharing theirs; 0 where one side is constant."""
    return pearson(_ranks(labels), _ranks(predictions))


# Minus the mean absolute error, and minus the root of the mean squared error, so that larger is better.
neg_mae = mean_of(lambda labels, predictions: -np.abs(labels - predictions))
_squares = mean_of(lambda labels, predictions: np.square(labels - predictions))
neg_rmse = Summed(_squares.terms, lambda sums: -np.sqrt(share(sums)))


@dataclass(frozen=True)
class Regression:
    """Outputs (rows, 1); labels (rows,) are numbers, NaN where there is none.

    Args:
        scale: standard deviation of the labels.
    """

    scale: float = 1.0
    name: str = "regression"
    problem_type: str = "regression"
    words: ClassVar[int] = 0

    @property
    def metrics(self) -> Mapping[str, Function]:
        return {"spearman": spearman, "pearson": pearson, "neg_mae": neg_mae, "neg_rmse": neg_rmse}

    def predictions(self, outputs: Outputs) -> Predictions:
        return np.asarray(outputs[:, 0].astype(np.float64))

    def alike(self, one: Outputs, other: Outputs) -> NDArray[np.bool_]:
        """Whether they differ by less than a twentieth of the labels' standard deviation."""
        return np.asarray(np.abs(one[:, 0] - other[:, 0]) < _SAME * self.scale)

    def losses(self, outputs: "Tensor", labels: "Tensor") -> "Tensor":
        """Squared error in shares of the labels' variance."""
        error = (outputs[:, 0] - labels.nan_to_num(0.0).to(outputs.dtype)) / self.scale
        return error.square().where(self.labelled(labels), 0.0)

    def divergences(self, original: "Tensor", outputs: "Tensor", temperature: float = 1.0) -> "Tensor":
        """Kullback-Leibler between normal distributions around the two, of the labels' variance."""
        return ((original - outputs)[:, 0] / self.scale).square() / 2

    def drawn(self, outputs: Outputs, rng: np.random.Generator) -> Labels:
        return np.asarray(outputs[:, 0] + rng.normal(scale=self.scale, size=len(outputs)))

    def labelled(self, labels: Any) -> Any:
        return labels == labels  # what is no number is not equal to itself

    def unlabelled(self, like: Label) -> Label:
        return math.nan


def _ranks(values: NDArray[np.floating]) -> NDArray[np.float64]:
    """From 0, equal values with the mean of theirs."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = counts.cumsum()
    return np.asarray((last - (counts + 1) / 2)[inverse])
