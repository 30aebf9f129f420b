"""Dominance, fronts and hypervolume. Knows costs (smaller is better); reads no files and knows no designs."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

Costs = Sequence[float]
T = TypeVar("T")

# Where the axes of the normalised hypervolume end: five points of accuracy, and a factor of 2 ** 5.
_ACCURACY_RANGE = 0.05
_DOUBLINGS = 5.0
# Objectives that stand on another's axis of it.
_AXES = {"kl": "accuracy", "throughput": "latency"}
# Of the exact hypervolume.
MOST_DIMENSIONS = 3


def dominates(a: Costs, b: Costs) -> bool:
    """Whether `a` is nowhere worse than `b` and somewhere better."""
    return all(x <= y for x, y in zip(a, b, strict=True)) and tuple(a) != tuple(b)


def front(items: Sequence[T], costs: Callable[[T], Costs]) -> list[T]:
    """The items that no other dominates, in their order; items with equal costs stay together."""
    points = [tuple(costs(item)) for item in items]
    kept: list[tuple[float, ...]] = []
    # In lexicographic order whatever dominates a point comes before it.
    for point in sorted(set(points)):
        if not any(dominates(other, point) for other in kept):
            kept.append(point)
    best = set(kept)
    return [item for item, point in zip(items, points, strict=True) if point in best]


def hypervolume(points: Sequence[Costs], reference: Costs) -> float:
    """Exact volume that the points dominate below `reference`, for one to three dimensions.

    Args:
        points: costs, each of the reference's length; those not better than it everywhere add nothing.
        reference: the worst corner.

    Raises:
        ValueError: more than three dimensions.
    """
    if not 1 <= len(reference) <= MOST_DIMENSIONS:
        raise ValueError(
            f"hypervolume() sweeps 1 to {MOST_DIMENSIONS} dimensions, found {len(reference)}. Leave objectives out."
        )
    inside = {tuple(p) for p in points if all(x < r for x, r in zip(p, reference, strict=True))}
    return _sweep(sorted(inside, key=lambda point: point[-1]), tuple(reference))


def contributions(points: Sequence[Costs], reference: Costs) -> list[float]:
    """The volume below `reference` that each point alone dominates, in their order; see `hypervolume`."""
    whole = hypervolume(points, reference)
    return [whole - hypervolume([*points[:i], *points[i + 1 :]], reference) for i in range(len(points))]


def _sweep(points: Sequence[tuple[float, ...]], reference: tuple[float, ...]) -> float:
    """Volume as slabs along the last dimension, by which the points are sorted."""
    if not points:
        return 0.0
    if len(reference) == 1:
        return reference[0] - points[0][0]
    if len(reference) == 2:
        return _area(points, reference)
    ends = [point[-1] for point in points[1:]] + [reference[-1]]
    volume = 0.0
    for count, (point, end) in enumerate(zip(points, ends, strict=True), start=1):
        if end > point[-1]:
            section = sorted({p[:-1] for p in points[:count]}, key=lambda p: p[-1])
            volume += (end - point[-1]) * _area(section, reference[:-1])
    return volume


def _area(points: Sequence[tuple[float, ...]], reference: tuple[float, ...]) -> float:
    """Area in two dimensions; points sorted by their second."""
    area, right = 0.0, reference[0]
    for x, y in points:
        if x < right:
            area += (right - x) * (reference[1] - y)
            right = x
    return area


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
    a = (accuracy - (fair["accuracy"] - _ACCURACY_RANGE)) / _ACCURACY_RANGE
    s = math.log2(fair["size"] / size) / _DOUBLINGS
    speed = math.log2(fair["latency"] / latency) / _DOUBLINGS
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
