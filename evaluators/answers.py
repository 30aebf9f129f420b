"""What a model says of a row, in words, from its outputs. Knows arrays; knows nothing of where they come from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evaluators.metrics.calibration import log_softmax

SEPARATOR = "|"  # between several labels of a row


@dataclass(frozen=True)
class Prediction:
    """An answer with how sure it is.

    Args:
        label: name of the class; of several labels all, parted by `|`; of words one each, parted by blanks, as far as
            they were read; of a number what it is called.
        score: the class's softmax probability; of several labels the probability that just these are right, each on
            its own; of words that of the least sure; of a number the number, of a vector its length.
        index: the class's index among the classes; 0 where there is no class.
        vector: of an encoder of sentences; empty elsewhere.
    """

    label: str
    score: float
    index: int
    vector: tuple[float, ...] = ()


def predictions(
    outputs: NDArray[np.float32], classes: Sequence[str], problem: str = "classification"
) -> list[Prediction]:
    """One per row of `outputs` (rows, ...), as a problem of that name means them."""
    exact = outputs.astype(np.float64)
    if problem == "embeddings":
        return [Prediction("embedding", float(np.linalg.norm(row)), 0, tuple(row.tolist())) for row in exact]
    if problem == "regression":
        return [Prediction(classes[0], float(row[0]), 0) for row in exact]
    if problem == "multi-label":
        return [_several(row, classes) for row in exact]
    if problem == "token-classification":
        return [_of_words(row[(row != 0).any(-1)], classes) for row in exact]
    scores = np.exp(log_softmax(exact))
    return [Prediction(classes[index], float(row[index]), int(index)) for row in scores for index in [row.argmax()]]


def problem_in(design: Mapping[str, Any]) -> str:
    """Name of the problem that design.json speaks of; older exports, and cascades, are of classes."""
    return str(design.get("problem", "classification"))


def unnamed(classes: Sequence[str]) -> bool:
    """Whether they are what transformers calls classes that nobody named."""
    return all(name == f"LABEL_{index}" for index, name in enumerate(classes))


def _of_words(exact: NDArray[np.float64], classes: Sequence[str]) -> Prediction:
    sure = np.exp(log_softmax(exact)).max(-1, initial=0.0)
    return Prediction(" ".join(classes[index] for index in exact.argmax(-1)), float(sure.min(initial=1.0)), 0)


def _several(log_odds: NDArray[np.float64], classes: Sequence[str]) -> Prediction:
    there = [name for name, each in zip(classes, log_odds, strict=True) if each > 0]
    return Prediction(SEPARATOR.join(there), float(np.prod(1 / (1 + np.exp(-np.abs(log_odds))))), 0)
