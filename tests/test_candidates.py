"""Which members are verified: what decides picks always, the rest spread out."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest

from search.candidates import Point, choose
from spaces.objectives import Bound

DROP = Bound("accuracy_drop", 0.01, "1pt")
LATENCY = Bound("latency", 1.0, "1ms")
SIZE = Bound("size", 10e6, "10MB")


def _keys(points: Sequence[Point], bounds: Sequence[Bound], n: int = 24) -> list[str]:
    return [point.key for point in choose(points, bounds, n)]


def _front(n: int = 120) -> list[Point]:
    """A front on which less divergence costs latency and size, in changing shares."""
    rng = np.random.default_rng(0)
    level, share = rng.uniform(0, 1, n), rng.uniform(0, 1, n)
    return [
        Point(f"{i:03}", 0.3 * a**2, 0.05 * a**2, 4.0 * 0.1 ** (a * s), 90e6 * 0.05 ** (a * (1 - s)))
        for i, (a, s) in enumerate(zip(level, share, strict=True))
    ]


@pytest.mark.parametrize("bounds", [(), (DROP,), (LATENCY,), (DROP, LATENCY, SIZE)], ids=len)
def test_as_many_as_asked_without_repetition(bounds: tuple[Bound, ...]) -> None:
    chosen = _keys(_front(), bounds)
    assert len(chosen) == len(set(chosen)) == 24


def test_extremes_and_knee() -> None:
    points = [
        Point("accurate", 0.0, 0.0, 4.0, 90e6),
        Point("fast", 0.2, 0.03, 0.4, 80e6),
        Point("small", 0.25, 0.03, 3.5, 5e6),
        Point("knee", 0.01, 0.005, 0.8, 10e6),
        Point("corner", 0.15, 0.02, 3.0, 60e6),
    ]
    assert set(_keys(points, (), n=4)) == {"accurate", "fast", "small", "knee"}


def test_next_to_each_limit_on_either_side() -> None:
    points = _front()
    chosen = set(_keys(points, (DROP, LATENCY, SIZE), n=12))
    figures: dict[Bound, Callable[[Point], float]] = {
        DROP: lambda p: p.drop_estimate or 0.0,
        LATENCY: lambda p: p.latency_ms,
        SIZE: lambda p: p.size_bytes,
    }
    for bound, figure in figures.items():
        inside = max((p for p in points if figure(p) <= bound.at_most), key=figure)
        outside = min((p for p in points if figure(p) > bound.at_most), key=figure)
        assert {inside.key, outside.key} <= chosen


def test_what_is_necessary_comes_even_where_fewer_are_asked() -> None:
    assert 4 <= len(_keys(_front(), (DROP, LATENCY, SIZE), n=2)) <= 10


def test_several_that_seem_to_meet_the_accuracy_limit() -> None:
    points = {point.key: point for point in _front()}
    feasible = [
        points[key] for key in _keys(list(points.values()), (DROP,)) if (points[key].drop_estimate or 0) <= 0.01
    ]
    assert len(feasible) >= 8
    allowed = [point for point in points.values() if (point.drop_estimate or 0) <= 0.01]
    assert min(allowed, key=lambda p: p.latency_ms) in feasible
    assert min(allowed, key=lambda p: p.size_bytes) in feasible


def test_those_that_only_measuring_can_tell_to_meet_the_latency_limit() -> None:
    near = {
        f"near{i}": Point(f"near{i}", 0.01 + i * 1e-3, 0.002, 1.2, 50e6, between_ms={"latency": (0.9, 1.5)})
        for i in range(3)
    }
    sure = [Point(f"sure{i}", 0.01 + i * 1e-3, 0.002, 1.3, 50e6, between_ms={"latency": (1.1, 1.5)}) for i in range(9)]
    crowd = [Point(f"crowd{i}", 0.02 + i * 1e-6, 0.002, 1.01, 49e6) for i in range(50)]
    points = [*_front(), *sure, *crowd, *near.values()]
    assert near.keys() <= set(_keys(points, (LATENCY, DROP)))
    lossy = [replace(point, drop_estimate=0.5) for point in near.values()]
    assert not near.keys() <= set(_keys([*_front(), *sure, *crowd, *lossy], (LATENCY, DROP)))


def test_the_rest_is_spread_out() -> None:
    crowd = [Point(f"crowd{i}", 0.1 + i * 1e-6, None, 1.0, 20e6) for i in range(50)]
    lonely = Point("lonely", 0.02, None, 3.0, 10e6)
    ends = [Point("a", 0.0, None, 4.0, 90e6), Point("b", 0.5, None, 0.2, 5e6)]
    assert "lonely" in _keys([*crowd, *ends, lonely], (), n=5)


def test_the_order_of_points_does_not_matter() -> None:
    points = _front()
    assert set(_keys(points, (DROP,))) == set(_keys(points[::-1], (DROP,)))


def test_a_short_front_is_taken_whole() -> None:
    points = _front(5)
    assert set(_keys(points, (DROP, SIZE))) == {point.key for point in points}


def test_one_point_and_none() -> None:
    only = Point("only", 0.1, None, 1.0, 1e6)
    assert _keys([only], (DROP, LATENCY)) == ["only"]
    assert _keys([], (DROP,)) == []
