"""What limits on answers beside the metric count, row by row. Knows outputs, labels and slices; knows no models.

`disagreement`: rows on which the two models do not say the same. `negative_flips`: rows that only the original has
right (Yan et al. 2021, arXiv 2011.09161). Both are shares of all rows. `class_drop` and `slice_drop`: the largest loss
of accuracy over the classes, and over the groups that a column names, each on its own rows. `calibration_rise`: by how
much the expected calibration error is larger than the original's (Guo et al. 2017, arXiv 1706.04599).
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincinv

from evaluators.base import Guard
from evaluators.metrics.accuracy import agresti_min
from evaluators.metrics.calibration import calibration_terms
from evaluators.problems.base import Labels, Outputs, Problem
from evaluators.problems.classes import CLASSIFICATION

# A class or slice with fewer rows says nothing.
FEWEST_IN_GROUP = 30
_ALL = "all"


def guards(
    problem: Problem,
    original: Outputs,
    outputs: Outputs,
    labels: Labels | None,
    slices: Sequence[str] = (),
    classes: Sequence[str] = (),
) -> dict[str, Guard]:
    """By name what is counted of a model's outputs (rows, ...) against the original's on the same rows.

    Args:
        problem: what outputs mean.
        original, outputs: of the two models.
        labels: (rows, ...); without them there is a disagreement alone, as where a row is not right or wrong.
        slices: per row its group, or none at all.
        classes: names of the classes; numbers stand for them where none are given.
    """
    found = {"disagreement": _share(~problem.alike(original, outputs))}
    if labels is None or problem != CLASSIFICATION:
        return found
    was, now = (problem.predictions(each) == labels for each in (original, outputs))
    lost = was.astype(np.float64) - now  # (rows,): 1, 0 or -1
    found["negative_flips"] = _share(lost > 0)
    named = np.array([classes[label] for label in labels] if classes else labels.astype(str))
    for name, groups in (("class_drop", named), ("slice_drop", np.array(slices))):
        parts = {str(group): lost[groups == group] for group in np.unique(groups)}
        enough = {group: rows for group, rows in parts.items() if len(rows) >= FEWEST_IN_GROUP}
        if enough:
            found[name] = _largest(enough)
    found["calibration_rise"] = _mean(calibration_terms(outputs, labels) - calibration_terms(original, labels))
    return found


def clopper_pearson(count: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """The exact two-sided interval of a share of `n` rows (Clopper and Pearson 1934)."""
    beyond = (1 - confidence) / 2
    low = 0.0 if count == 0 else float(betaincinv(count, n - count + 1, beyond))
    return low, 1.0 if count == n else float(betaincinv(count + 1, n - count, 1 - beyond))


def _share(lost: NDArray[np.bool_]) -> Guard:
    count, n = int(lost.sum()), len(lost)
    return Guard({_ALL: tuple(lost.astype(float).tolist())}, count / n, *clopper_pearson(count, n), _ALL)


def _mean(rows: NDArray[np.float64]) -> Guard:
    """Of all rows, with a normal interval."""
    value, half = float(rows.mean()), 1.96 * float(rows.std(ddof=1)) / math.sqrt(len(rows))
    return Guard({_ALL: tuple(rows.tolist())}, value, value - half, value + half, _ALL)


def _largest(groups: Mapping[str, NDArray[np.float64]]) -> Guard:
    """The group that loses most."""
    group = max(groups, key=lambda name: (groups[name].mean(), name))
    rows = groups[group]
    interval = agresti_min(int((rows > 0).sum()), int((rows < 0).sum()), len(rows))
    losses = {name: tuple(each.tolist()) for name, each in groups.items()}
    return Guard(losses, float(rows.mean()), *interval, group)
