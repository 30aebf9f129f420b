"""Any number of labels per row, each there or not. Knows scores of labels; knows no models."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from evaluators.problems.base import Function, Label, Labels, Outputs, Predictions, Summed, mean_of, share

if TYPE_CHECKING:
    from torch import Tensor


def _of_pairs(labels: Labels, predictions: Predictions) -> NDArray[np.float64]:
    """Per row, over all labels, twice those that are there and predicted, and those there and those predicted."""
    return np.stack([2 * (labels & predictions).sum(-1), labels.sum(-1) + predictions.sum(-1)], -1).astype(np.float64)


def _of_each(labels: Labels, predictions: Predictions) -> NDArray[np.float64]:
    """The same of every label, one behind the other."""
    pairs = np.stack([2 * (labels & predictions), labels + predictions], -1)  # (rows, labels, 2)
    return pairs.reshape(len(labels), -1).astype(np.float64)


def _mean_over_labels(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    pairs = sums.reshape(*sums.shape[:-1], -1, 2)
    there = (pairs[..., 1] > 0).sum(-1)
    return np.asarray(share(pairs).sum(-1) / np.maximum(there, 1))


# F1 over all pairs of row and label; 0 where nothing is predicted or nothing is there.
f1_micro = Summed(_of_pairs, share)
# Mean over the labels that occur or are predicted of their F1.
f1_macro = Summed(_of_each, _mean_over_labels)
# Share of the rows whose labels are all right.
exact = mean_of(lambda labels, predictions: (labels == predictions).all(-1))


@dataclass(frozen=True)
class MultiLabel:
    """Outputs (rows, labels), each the log-odds that a label is there; labels (rows, labels) of 1 and 0, -1 in rows
    that nobody labelled."""

    name: str = "multi-label"
    problem_type: str = "multi_label_classification"
    words: ClassVar[int] = 0

    @property
    def metrics(self) -> Mapping[str, Function]:
        return {"f1_micro": f1_micro, "f1_macro": f1_macro, "exact": exact}

    def predictions(self, outputs: Outputs) -> Predictions:
        return (outputs > 0).astype(np.int64)

    def alike(self, one: Outputs, other: Outputs) -> NDArray[np.bool_]:
        """Whether all labels are the same."""
        return np.asarray(((one > 0) == (other > 0)).all(-1))

    def losses(self, outputs: "Tensor", labels: "Tensor") -> "Tensor":
        """Mean over labels of the binary cross-entropy."""
        from torch.nn import functional

        truth = labels.clamp(min=0).to(outputs.dtype)
        found = functional.binary_cross_entropy_with_logits(outputs, truth, reduction="none").mean(-1)
        return found.where(self.labelled(labels), 0.0)

    def divergences(self, original: "Tensor", outputs: "Tensor", temperature: float = 1.0) -> "Tensor":
        """Sum over labels of the Kullback-Leibler divergence between their probabilities."""
        from torch.nn.functional import logsigmoid

        one, other = original / temperature, outputs / temperature
        p = one.sigmoid()
        there = p * (logsigmoid(one) - logsigmoid(other))
        absent = (1 - p) * (logsigmoid(-one) - logsigmoid(-other))
        return temperature**2 * (there + absent).sum(-1)

    def drawn(self, outputs: Outputs, rng: np.random.Generator) -> Labels:
        return (outputs + rng.logistic(size=outputs.shape) > 0).astype(np.int64)

    def labelled(self, labels: Any) -> Any:
        return labels[:, 0] >= 0

    def unlabelled(self, like: Label) -> Label:
        assert isinstance(like, tuple), "a row has several labels"
        return (-1,) * len(like)


MULTI_LABEL = MultiLabel()
