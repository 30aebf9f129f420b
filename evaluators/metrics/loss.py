"""Losses row by row, and what walks over them need to decide. Knows outputs and labels; knows no recipes."""

import numpy as np

from evaluators.base import ROUNDING
from evaluators.problems.base import Labels, Outputs, Problem, row_losses

# Parts of the rows, every fifth one each, whose mean losses are told apart.
FOLDS = 5


def loss_figures(problem: Problem, original: Outputs, outputs: Outputs, labels: Labels) -> dict[str, float]:
    """What a greedy walk decides by, as plain figures.

    Returns:
        `loss`: the mean over rows; `unharmed`: rows whose loss is no higher than under the original; `loss.0` ...: the
        mean over every fifth row from that one on; `predicted_classes`: how many different answers there are.
    """
    losses = row_losses(problem, outputs, labels)
    folds = {f"loss.{fold}": float(losses[fold::FOLDS].mean()) for fold in range(FOLDS)}
    return {
        "loss": float(losses.mean()),
        "unharmed": float((losses <= row_losses(problem, original, labels) + ROUNDING).sum()),
        "predicted_classes": float(len(np.unique(problem.predictions(outputs), axis=0))),
        **folds,
    }
