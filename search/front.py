"""Fronts and hypervolume. Knows costs (smaller is better); reads no files and knows no designs.

The algorithms are moocore's, which takes 0.1 s to load: it is imported where it is used.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Costs = Sequence[float]
T = TypeVar("T")

# Where the axes of the normalised hypervolume end: five points of accuracy, and a factor of 2 ** 5.
ACCURACY_RANGE = 0.05
DOUBLINGS = 5.0
# Objectives that stand on another's axis of it.
_AXES = {"kl": "accuracy", "throughput": "latency"}


def front(items: Sequence[T], costs: Callable[[T], Costs]) -> list[T]:
    """The items that no other dominates, in their order; items with equal costs stay together."""
    import moocore

    if not items:
        return []
    best = moocore.is_nondominated(_rows([costs(item) for item in items]), keep_weakly=True)
    return [item for item, kept in zip(items, best.tolist(), strict=True) if kept]


def hypervolume(points: Sequence[Costs] | NDArray[np.float64], reference: Costs) -> float:
    """Exact volume that the points dominate below `reference`.

    Args:
        points: costs, each of the reference's length; those not better than it everywhere add nothing.
        reference: the worst corner.
    """
    import moocore

    return float(moocore.hypervolume(_rows(points), ref=_corner(reference))) if len(points) else 0.0


def contributions(points: Sequence[Costs], reference: Costs) -> list[float]:
    """The volume below `reference` that each point of a front alone dominates, in their order; see `hypervolume`."""
    import moocore

    if not points:
        return []
    alone: list[float] = moocore.hv_contributions(_rows(points), ref=_corner(reference)).tolist()
    return alone


def _rows(points: Sequence[Costs] | NDArray[np.float64]) -> NDArray[np.float64]:
    """Points as an array; moocore starts at two dimensions, so a single cost gets a second one that is always 0."""
    rows = np.asarray(points, dtype=np.float64)
    return rows if rows.shape[1] > 1 else np.hstack([rows, np.zeros_like(rows)])


def _corner(reference: Costs) -> NDArray[np.float64]:
    return np.asarray(reference if len(reference) > 1 else (*reference, 1.0), dtype=np.float64)


def normalised(accuracy: float, latency: float, size: float, fair: Mapping[str, float]) -> tuple[float, float, float]:
    """Gains over the `fair` baseline: (accuracy - (fair - 0.05)) / 0.05 and doublings of speed and smallness / 5.

    Args:
        accuracy: as a fraction.
        latency: in ms.
        size: in bytes.
        fair: the baseline's `accuracy`, `latency` and `size` in the same units.

    Returns:
        Three gains, larger is better, each cut at 0; (1, 0, 0) is the baseline itself.
    """
    a = (accuracy - (fair["accuracy"] - ACCURACY_RANGE)) / ACCURACY_RANGE
    s = math.log2(fair["size"] / size) / DOUBLINGS
    speed = math.log2(fair["latency"] / latency) / DOUBLINGS
    return max(a, 0.0), max(speed, 0.0), max(s, 0.0)


def front_hypervolume(
    rows: Sequence[Mapping[str, float]], fair: Mapping[str, float], objectives: Sequence[str]
) -> float:
    """Hypervolume of normalised gains, reference the origin.

    Args:
        rows: figures with `accuracy`, `latency` and `size` each.
        fair: the baseline's figures.
        objectives: names that were searched; axes not named are left out.
    """
    searched = {_AXES.get(name, name) for name in objectives}
    axes = [i for i, name in enumerate(("accuracy", "latency", "size")) if name in searched]
    gains = [normalised(row["accuracy"], row["latency"], row["size"], fair) for row in rows]
    # Gains are to be large and costs small: seen from the origin, a gain is a negative cost.
    return hypervolume([tuple(-gain[i] for i in axes) for gain in gains], (0.0,) * len(axes))
