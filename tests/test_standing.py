"""Who is tied and who is beaten: by figures made up so that noise hides or shows the difference."""

from dataclasses import replace

import pytest

from search.figures import Estimate, MemberFigures
from search.standing import unsettled, with_standings
from tests.made_members import accuracy, member


def noisy(key: str, ms: float, half: float) -> MemberFigures:
    """A member whose ratio to the original, 4.5 ms, is known within the share `half`."""
    known = member(key, 0.006, ms, 12.0)
    assert known.latency is not None
    ratio = 4.5 / ms
    speedup = {"fair": Estimate(ratio, ratio * (1 - half), ratio * (1 + half))}
    return replace(known, latency=replace(known.latency, speedup=speedup))


def standing(*members: MemberFigures) -> dict[str, tuple[tuple[str, ...], tuple[str, ...]]]:
    return {each.key: (each.ties, each.beaten_by) for each in with_standings(members)}


@pytest.mark.parametrize(
    "other",
    [
        member("b", 0.010, 1.0, 12.0),  # less accurate, within the noise of both
        member("b", 0.006, 1.04, 12.0),  # slower by what machines differ from minute to minute
        member("b", 0.006, 1.0, 12.1),  # larger by less than anybody cares about
    ],
)
def test_what_noise_hides_is_a_tie(other: MemberFigures) -> None:
    assert standing(member("a", 0.006, 1.0, 12.0), other) == {"a": (("b",), ()), "b": (("a",), ())}


@pytest.mark.parametrize(
    "other", [member("b", 0.030, 1.0, 12.0), member("b", 0.006, 1.2, 12.0), member("b", 0.006, 1.0, 15.0)]
)
def test_who_is_surely_worse_in_one_thing_and_better_in_none_is_beaten(other: MemberFigures) -> None:
    assert standing(member("a", 0.006, 1.0, 12.0), other) == {"a": ((), ()), "b": ((), ("a",))}


def test_a_gain_that_may_be_luck_is_enough_not_to_be_beaten() -> None:
    found = standing(member("a", 0.006, 1.0, 12.0), member("b", 0.005, 1.2, 12.0))
    assert found == {"a": ((), ()), "b": ((), ())}


def test_only_sound_verified_members_of_a_kind_are_compared() -> None:
    best = member("a", 0.0, 1.0, 5.0)
    others = (
        member("idle", 0.03, 2.0, 20.0, verified=False),
        member("one class", 0.03, 2.0, 20.0, note="collapsed: it answers every row alike"),
        replace(member("pair", 0.03, 2.0, 20.0), kind="cascade"),
    )
    assert set(standing(best, *others).values()) == {((), ())}


def test_neighbours_that_noise_hides_are_to_be_timed_again() -> None:
    hidden = [noisy("a", 1.0, 0.1), noisy("b", 1.1, 0.1), noisy("c", 3.0, 0.1)]
    assert unsettled(with_standings(hidden)) == ["a", "b"]
    assert unsettled(with_standings([noisy("a", 1.0, 0.01), noisy("b", 1.1, 0.01)])) == []
    assert unsettled(with_standings([noisy("a", 1.0, 0.1), noisy("b", 1.03, 0.1)])) == []  # alike on any machine


def test_who_is_beaten_anyway_is_not_timed_again() -> None:
    worse = replace(noisy("b", 1.1, 0.1), accuracy={"confirm": accuracy(0.04)})
    assert unsettled(with_standings([noisy("a", 1.0, 0.1), worse])) == []
