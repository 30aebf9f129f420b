"""Classes with their probabilities, from logits. Knows arrays; knows nothing of where they come from."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Prediction:
    """A class with its probability.

    Args:
        label: name of the class.
        score: its softmax probability.
        index: its index among the classes.
    """

    label: str
    score: float
    index: int


def predictions(logits: NDArray[np.float32], classes: Sequence[str]) -> list[Prediction]:
    """The likeliest of `classes` per row of `logits` (rows, classes)."""
    exact = logits.astype(np.float64)
    scores = np.exp(exact - exact.max(axis=1, keepdims=True))
    scores /= scores.sum(axis=1, keepdims=True)
    return [Prediction(classes[index], float(row[index]), int(index)) for row in scores for index in [row.argmax()]]
