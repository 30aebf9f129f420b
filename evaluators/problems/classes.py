"""One of several classes per row. Knows scores of classes; knows no models."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from evaluators.problems.base import Function, Label, Labels, Outputs, Predictions
from spaces.objectives import AGREEMENT

if TYPE_CHECKING:
    from torch import Tensor


def accuracy(labels: Labels, predictions: Predictions) -> float:
    """Share of the rows predicted right."""
    return float((labels == predictions).mean())


def f1(labels: Labels, predictions: Predictions) -> float:
    """F1 of class 1 where there are two classes, else the mean over the classes that occur."""
    counts = _confusion(labels, predictions)
    both = counts.sum(0) + counts.sum(1)
    scores = 2 * counts.diagonal() / np.maximum(both, 1)
    return float(scores[1] if len(counts) == 2 else scores[both > 0].mean())


def matthews(labels: Labels, predictions: Predictions) -> float:
    """Matthews correlation, for any number of classes (Gorodkin 2004, eq. 8); 0 where one side is constant."""
    counts = _confusion(labels, predictions).astype(np.float64)
    true, predicted, n = counts.sum(1), counts.sum(0), counts.sum()
    spread = (n**2 - true @ true) * (n**2 - predicted @ predicted)
    return float((n * counts.trace() - true @ predicted) / math.sqrt(spread)) if spread > 0 else 0.0


@dataclass(frozen=True)
class Classification:
    """Outputs (rows, classes) whose softmax are probabilities; labels (rows,) are class indices, -1 where none is."""

    name: str = "classification"
    problem_type: str = "single_label_classification"
    words: ClassVar[int] = 0

    @property
    def metrics(self) -> Mapping[str, Function]:
        return {"accuracy": accuracy, "f1": f1, "matthews": matthews, AGREEMENT: accuracy}

    def predictions(self, outputs: Outputs) -> Predictions:
        return np.asarray(outputs.argmax(-1))

    def alike(self, one: Outputs, other: Outputs) -> NDArray[np.bool_]:
        return np.asarray(one.argmax(-1) == other.argmax(-1))

    def losses(self, outputs: "Tensor", labels: "Tensor") -> "Tensor":
        """Cross-entropy."""
        of_label = outputs.log_softmax(-1).gather(-1, labels.clamp(min=0)[:, None])[:, 0]
        return -of_label.where(self.labelled(labels), 0.0)

    def divergences(self, original: "Tensor", outputs: "Tensor", temperature: float = 1.0) -> "Tensor":
        """Kullback-Leibler, of softmaxes at a temperature, by its square (Hinton et al. 2015, arXiv 1503.02531)."""
        p, q = ((logits / temperature).log_softmax(-1) for logits in (original, outputs))
        return temperature**2 * (p.exp() * (p - q)).sum(-1)

    def drawn(self, outputs: Outputs, rng: np.random.Generator) -> Labels:
        return np.asarray((outputs + rng.gumbel(size=outputs.shape)).argmax(-1))

    def labelled(self, labels: Any) -> Any:
        return labels >= 0

    def unlabelled(self, like: Label) -> Label:
        return UNLABELED


CLASSIFICATION = Classification()
# Stands for the class of a row that nobody labelled.
UNLABELED = -1


def _confusion(labels: Labels, predictions: Predictions) -> NDArray[np.int64]:
    """Rows by true (first axis) and predicted class."""
    size = max(2, int(labels.max()) + 1, int(predictions.max()) + 1)
    return np.bincount(labels * size + predictions, minlength=size * size).reshape(size, size)
