import math
import random

import numpy as np
import pytest
from optuna._hypervolume import compute_hypervolume

from search.front import contributions, front, front_hypervolume, hypervolume, normalised

FAIR = {"accuracy": 0.86, "latency": 5.0, "size": 90e6}


def by_definition(points: list[tuple[int, ...]]) -> list[tuple[int, ...]]:
    def better(a: tuple[int, ...], b: tuple[int, ...]) -> bool:
        return all(x <= y for x, y in zip(a, b, strict=True)) and any(x < y for x, y in zip(a, b, strict=True))

    return [p for p in points if not any(better(q, p) for q in points)]


@pytest.mark.parametrize("dimensions", [1, 2, 3, 4])
def test_front_equals_its_definition_on_random_sets_with_ties(dimensions: int) -> None:
    rng = random.Random(dimensions)
    for _ in range(100):
        points = [tuple(rng.randint(0, 5) for _ in range(dimensions)) for _ in range(rng.randint(0, 40))]
        assert front(points, costs=lambda point: point) == by_definition(points)


def test_equal_points_do_not_dominate_each_other_and_stay_together() -> None:
    assert front(["a", "b", "c"], costs={"a": (1, 2), "b": (1, 2), "c": (2, 2)}.__getitem__) == ["a", "b"]


@pytest.mark.parametrize(
    ("points", "reference", "volume"),
    [
        ([], (1.0,), 0.0),
        ([(0.25,), (0.5,)], (1.0,), 0.75),
        ([(0.0, 0.5), (0.5, 0.0)], (1.0, 1.0), 0.75),
        ([(0.0, 0.0), (0.5, 0.5)], (1.0, 1.0), 1.0),
        ([(2.0, 0.0)], (1.0, 1.0), 0.0),
        ([(0.0, 0.0, 0.0)], (1.0, 2.0, 3.0), 6.0),
        ([(0.0, 0.5, 0.5), (0.5, 0.0, 0.5), (0.5, 0.5, 0.0)], (1.0, 1.0, 1.0), 0.5),
    ],
)
def test_hypervolume_of_known_sets(
    points: list[tuple[float, ...]], reference: tuple[float, ...], volume: float
) -> None:
    assert hypervolume(points, reference) == pytest.approx(volume)


def test_hypervolume_agrees_with_monte_carlo() -> None:
    rng = random.Random(0)
    points = [(rng.random(), rng.random(), rng.random()) for _ in range(12)]
    draws = [(rng.random(), rng.random(), rng.random()) for _ in range(20_000)]
    share = sum(any(all(x <= y for x, y in zip(p, draw, strict=True)) for p in points) for draw in draws) / len(draws)
    assert hypervolume(points, (1.0, 1.0, 1.0)) == pytest.approx(share, abs=4 * math.sqrt(0.25 / len(draws)))


@pytest.mark.parametrize("dimensions", [2, 3, 4])
def test_hypervolume_agrees_with_optunas(dimensions: int) -> None:
    """Which is another implementation, by other algorithms."""
    rng = random.Random(dimensions)
    for _ in range(500):
        points = [tuple(rng.uniform(0, 1.2) for _ in range(dimensions)) for _ in range(rng.randint(1, 15))]
        reference = tuple(rng.uniform(0.8, 1.2) for _ in range(dimensions))
        inside = [point for point in points if all(x <= r for x, r in zip(point, reference, strict=True))]
        expected = compute_hypervolume(np.array(inside), np.array(reference)) if inside else 0.0
        assert hypervolume(points, reference) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("dimensions", [1, 2, 3, 4])
def test_contributions_are_what_is_lost_without_a_point(dimensions: int) -> None:
    rng = random.Random(dimensions)
    reference = (1.1,) * dimensions
    points = front([tuple(rng.random() for _ in range(dimensions)) for _ in range(30)], costs=lambda point: point)
    whole = hypervolume(points, reference)
    lost = [whole - hypervolume([*points[:i], *points[i + 1 :]], reference) for i in range(len(points))]
    assert contributions(points, reference) == pytest.approx(lost)
    assert contributions([], reference) == []


def test_gains_are_doublings_and_five_points_of_accuracy() -> None:
    assert normalised(0.86, 5.0, 90e6, FAIR) == pytest.approx((1.0, 0.0, 0.0))
    assert normalised(0.835, 2.5, 90e6 / 32, FAIR) == pytest.approx((0.5, 0.2, 1.0))
    assert normalised(0.70, 10.0, 91e6, FAIR) == (0.0, 0.0, 0.0)


def test_front_hypervolume_leaves_out_what_was_not_searched() -> None:
    rows = [{"accuracy": 0.835, "latency": 2.5, "size": 90e6 / 32}]
    assert front_hypervolume(rows, FAIR, ["accuracy", "latency", "size"]) == pytest.approx(0.5 * 0.2 * 1.0)
    assert front_hypervolume(rows, FAIR, ["kl", "latency"]) == pytest.approx(0.5 * 0.2)
    assert front_hypervolume([*rows, {**rows[0], "latency": 5.0}], FAIR, ["latency"]) == pytest.approx(0.2)
