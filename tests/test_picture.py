"""What the picture shows, and where its names go."""

import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from search.figures import Pick
from search.front_file import FrontFile
from search.labels import Box, place
from search.picture import known_bounds, panel, staircase
from search.trials import TrialRow
from tests.made_members import member

PLANE = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=12)


@pytest.fixture
def front() -> FrontFile:
    return FrontFile(
        run="example",
        seed=0,
        limits={"accuracy_drop": "1pt", "size": "25%", "latency": "2ms"},
        baselines={"fair": member("fair", 0.0, 4.5, 80)},
        members=(
            member("slow", 0.0, 3.0, 20),
            member("fast", 0.02, 1.0, 8),
            member("new", 0.01, 2.0, 9, verified=False),
        ),
        picks=(
            Pick("limits", "fast", True, ""),
            Pick("smallest_within", "fast", False, ""),
            Pick("knee", None, False, ""),
        ),
    )


def dominated(key: str) -> TrialRow:
    return TrialRow(key, "complete", {"latency": 3.5, "size": 30e6}, {"accuracy_drop": 0.05}, 0.0, 1.0, 1.0, "")


@given(PLANE)
def test_the_staircase_is_what_no_other_beats(points: list[tuple[int, int]]) -> None:
    best = {(x, y) for x, y in points if not any(a <= x and b <= y and (a, b) != (x, y) for a, b in points)}
    assert staircase(points) == tuple(sorted(best))


def test_verified_members_in_points_with_their_intervals(front: FrontFile) -> None:
    shown = panel("latency", front, [])
    assert shown.verified
    fast = next(point for point in shown.members if point.name == "fast")
    assert (fast.cost, fast.drop) == (1.0, 2.0)
    assert (fast.low, fast.high) == pytest.approx((1.2, 2.8))
    assert shown.steps == ((1.0, 2.0), (3.0, 0.0))


def test_the_rest_is_unverified_members_and_dominated_trials(front: FrontFile) -> None:
    shown = panel("size", front, [dominated("other"), dominated("fast"), replace(dominated("unlabelled"), extras={})])
    assert sorted(point.cost for point in shown.others) == [9.0, 30.0]


def test_limits_of_the_panel_in_its_units(front: FrontFile) -> None:
    latency, size = (panel(axis, front, []) for axis in ("latency", "size"))
    assert (latency.cost_limit, latency.drop_limit) == (2.0, 1.0)
    assert (size.cost_limit, size.drop_limit) == (20.0, 1.0)


def test_a_pick_is_named_once_with_all_its_names(front: FrontFile) -> None:
    assert [point.name for point in panel("latency", front, []).picks] == ["limits, smallest within"]


def test_a_run_without_verified_members_shows_those_of_the_search(front: FrontFile) -> None:
    shown = panel("latency", replace(front, members=front.members[2:]), [])
    assert not shown.verified
    assert [point.name for point in shown.members] == ["new"]
    assert shown.others == ()


def test_members_without_a_figure_are_left_out(front: FrontFile) -> None:
    bare = tuple(replace(made, latency=None) for made in front.members)
    assert panel("latency", replace(front, members=bare), []).members == ()
    assert len(panel("size", replace(front, members=bare), []).members) == 2


def test_shares_of_an_unmeasured_baseline_are_not_known(front: FrontFile) -> None:
    assert {bound.name for bound in known_bounds(replace(front, baselines={}))} == {"accuracy_drop", "latency"}


def test_names_far_apart_stand_right_of_their_points() -> None:
    boxes = place([(100, 100), (500, 500)], [40, 40], 10, [], Box(0, 0, 1000, 1000))
    assert [box.left for box in boxes] == [107, 507]


def test_names_do_not_cover_each_other_or_leave_the_frame() -> None:
    rng, frame = random.Random(0), Box(0, 0, 1000, 600)
    points = [(rng.uniform(900, 1000), rng.uniform(250, 350)) for _ in range(6)]
    boxes = place(points, [80] * 6, 12, [], frame)
    assert all(box.overlap(frame) == pytest.approx(box.area) for box in boxes)
    assert all(a.overlap(b) == 0 for n, a in enumerate(boxes) for b in boxes[:n])
