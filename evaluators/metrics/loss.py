"""Losses row by row, and what walks over them need to decide. Knows logits and labels; knows no recipes."""

import numpy as np
from numpy.typing import NDArray

from evaluators.base import ROUNDING
from evaluators.metrics.accuracy import Labels, Logits
from evaluators.metrics.fidelity import log_softmax

# Parts of the rows, every fifth one each, whose mean losses are told apart.
FOLDS = 5


def row_losses(logits: Logits, labels: Labels) -> NDArray[np.float64]:
    """Cross-entropy per row in nats; the squared error where there is one output. Logits (rows, outputs)."""
    if logits.shape[-1] == 1:
        return np.asarray((logits[:, 0].astype(np.float64) - labels) ** 2)
    return np.asarray(-log_softmax(logits)[np.arange(len(labels)), labels])


def loss_figures(original: Logits, logits: Logits, labels: Labels) -> dict[str, float]:
    """What a greedy walk decides by, as plain figures.

    Returns:
        `loss`: the mean over rows; `unharmed`: rows whose loss is no higher than under the original; `loss.0` ...: the
        mean over every fifth row from that one on; `predicted_classes`: how many classes are predicted at all.
    """
    losses = row_losses(logits, labels)
    folds = {f"loss.{fold}": float(losses[fold::FOLDS].mean()) for fold in range(FOLDS)}
    return {
        "loss": float(losses.mean()),
        "unharmed": float((losses <= row_losses(original, labels) + ROUNDING).sum()),
        "predicted_classes": float(len(np.unique(logits.argmax(-1)))),
        **folds,
    }
