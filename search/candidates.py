"""Which members of a front are verified. Knows search figures; knows nothing of building or measuring."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from spaces.objectives import GUARDS, Bound


@dataclass(frozen=True)
class Point:
    """What search knows of a member.

    Args:
        key: the member's.
        quality: mean KL divergence to the original, or another cost; smaller is better, at least 0.
        drop_estimate: drop of accuracy on search rows, as a fraction; None without labels.
        latency_ms: measured or predicted.
        size_bytes: predicted.
        further: latency at further targets, and what limits on answers beside the metric count, by the limit's name.
        between_ms: ends of the interval of a latency that is predicted, by the limit's name.
    """

    key: str
    quality: float
    drop_estimate: float | None
    latency_ms: float
    size_bytes: float
    further: Mapping[str, float] = field(default_factory=dict, hash=False)
    between_ms: Mapping[str, tuple[float, float]] = field(default_factory=dict, hash=False)


def choose(points: Sequence[Point], bounds: Sequence[Bound], n: int = 24) -> list[Point]:
    """The members worth building and measuring, most necessary first.

    Always: the extremes, the knee, and next to each limit the nearest on either side. Then, a sixth of the places
    each, those whose predicted latency may be on either side of its limit, the best ones first, and the fastest and the
    smallest ones that seem to meet the limits, spread from risky to safe: picks and certificates come from there. The
    rest as far as possible from those chosen already, in the square root of quality, log latency and log size.

    Args:
        points: members of the front.
        bounds: limits of the run.
        n: how many; more only where those always chosen are more.
    """
    space = _coordinates(points)
    necessary = [*_extremes(points), *_knee(points, space), *_nearest(points, bounds)]
    feasible = [point for point in points if all(_cost(point, bound.name) <= bound.at_most for bound in bounds)]
    contenders = [
        *_straddling(points, bounds)[: n // 6],
        *_spread(_path(feasible, lambda point: point.latency_ms), n // 6, lambda point: point.latency_ms),
        *_spread(_path(feasible, lambda point: point.size_bytes), n // 6, lambda point: point.size_bytes),
    ]
    always = _unique(necessary)
    chosen = _unique([*always, *contenders])[: max(n, len(always))]
    return _filled(points, space, chosen, n)


def _cost(point: Point, name: str) -> float:
    """The figure a limit is held against; what is not known of answers never stands in the way."""
    drop = {} if point.drop_estimate is None else {"accuracy_drop": point.drop_estimate}
    figures = {"latency": point.latency_ms, "size": point.size_bytes, **drop, **point.further}
    return figures.get(name, -math.inf) if name in ("accuracy_drop", *GUARDS) else figures[name]


def _unique(points: Iterable[Point]) -> list[Point]:
    return list({point.key: point for point in points}.values())


def _coordinates(points: Sequence[Point]) -> NDArray[np.float64]:
    """Where each point lies, per axis from 0 (best) to 1: (N, 3).

    Divergences enter by their square roots, as they grow with the square of a change.
    """
    raw = np.array([(math.sqrt(p.quality), math.log(p.latency_ms), math.log(p.size_bytes)) for p in points])
    if not len(raw):
        return np.zeros((0, 3))
    low, span = raw.min(axis=0), np.ptp(raw, axis=0)
    return np.asarray((raw - low) / np.where(span > 0, span, 1.0))


def _extremes(points: Sequence[Point]) -> list[Point]:
    if not points:
        return []
    return [
        min(points, key=lambda p: (p.quality, p.latency_ms, p.key)),
        min(points, key=lambda p: (p.latency_ms, p.quality, p.key)),
        min(points, key=lambda p: (p.size_bytes, p.quality, p.key)),
    ]


def _knee(points: Sequence[Point], space: NDArray[np.float64]) -> list[Point]:
    """The point nearest to having the best of everything."""
    distances = np.linalg.norm(space, axis=1)
    return [min(zip(distances, points, strict=True), key=lambda pair: (pair[0], pair[1].key))[1]] if points else []


def _nearest(points: Sequence[Point], bounds: Sequence[Bound]) -> list[Point]:
    """Per limit the point just within it and the one just beyond it."""
    found: list[Point] = []
    for bound in bounds:
        known = [point for point in points if math.isfinite(_cost(point, bound.name))]
        excess = [(bound.excess(_cost(point, bound.name)), point) for point in known]
        inside = [pair for pair in excess if pair[0] <= 0]
        outside = [pair for pair in excess if pair[0] > 0]
        found += [
            min(side, key=lambda pair: (abs(pair[0]), pair[1].quality, pair[1].key))[1]
            for side in (inside, outside)
            if side
        ]
    return found


def _straddling(points: Sequence[Point], bounds: Sequence[Bound]) -> list[Point]:
    """Those that only measuring can tell to meet a limit on latency, while all they are known by meets the others."""
    found = list[Point]()
    for point in points:
        doubtful = {bound for bound in bounds if _in_doubt(point, bound)}
        if doubtful and all(_cost(point, bound.name) <= bound.at_most for bound in bounds if bound not in doubtful):
            found.append(point)
    return sorted(found, key=lambda point: (point.quality, point.key))


def _in_doubt(point: Point, bound: Bound) -> bool:
    low, high = point.between_ms.get(bound.name, (math.inf, math.inf))
    return low <= bound.at_most < high


def _path(points: Sequence[Point], cost: Callable[[Point], float]) -> list[Point]:
    """Points that none beats in both quality and `cost`, cheapest (riskiest) first."""
    path: list[Point] = []
    for point in sorted(points, key=lambda p: (cost(p), p.quality, p.key)):
        if not path or point.quality < path[-1].quality:
            path.append(point)
    return path


def _spread(path: Sequence[Point], n: int, cost: Callable[[Point], float]) -> list[Point]:
    """At most `n` of the path: both ends, and those nearest to even steps of log cost between them, cheapest first."""
    if len(path) <= n:
        return list(path)
    steps = np.linspace(math.log(cost(path[0])), math.log(cost(path[-1])), n)
    return _unique(min(path, key=lambda point: (abs(math.log(cost(point)) - step), point.key)) for step in steps)


def _filled(points: Sequence[Point], space: NDArray[np.float64], chosen: list[Point], n: int) -> list[Point]:
    """`chosen` and, up to `n`, the points farthest from all chosen before (greedy max-min; Gonzalez 1985)."""
    index = {point.key: i for i, point in enumerate(points)}
    result = list(chosen)
    while len(result) < min(n, len(index)):
        taken = [index[point.key] for point in result]
        free = [i for i in index.values() if i not in set(taken)]
        gaps = [float(np.linalg.norm(space[taken] - space[i], axis=1).min()) for i in free]
        widest = min(zip(gaps, free, strict=True), key=lambda pair: (-pair[0], points[pair[1]].key))
        result.append(points[widest[1]])
    return result
