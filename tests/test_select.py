"""Picking by budget: what decides by default, what is never picked, and what is said when nothing fits."""

import re
from collections.abc import Sequence

import pytest

from evaluators.base import Accuracy
from search.certificate import Certificate, Test, rows_needed
from search.figures import MemberFigures, Pick
from search.front_file import FrontFile
from search.picks import picks, to_certify
from search.select import Preference, default_preference, eligible, knee, meets, safest, select, within
from spaces.errors import InfeasibleError
from spaces.objectives import Bound
from tests.made_members import FAIR_ACCURACY, member

SAFE = member("safe", 0.0, 4.0, 60.0)
MIDDLE = member("middle", 0.006, 1.0, 12.0)
SMALL = member("small", 0.009, 1.5, 6.0)
FAST = member("fast", 0.03, 0.4, 9.0)
MEMBERS = (SAFE, MIDDLE, SMALL, FAST)

LATENCY = Bound("latency", 2.0, "2ms")
SIZE = Bound("size", 10e6, "10MB")
DROP = Bound("accuracy_drop", 0.01, "1pt")


def _front(members: Sequence[MemberFigures] = MEMBERS) -> FrontFile:
    return FrontFile(run="results/a", seed=0, members=tuple(members))


def _named(found: Sequence[Pick]) -> dict[str, Pick]:
    return {pick.name: pick for pick in found}


class TestSelect:
    @pytest.mark.parametrize(
        ("bounds", "preference", "key"),
        [
            ((), "knee", "middle"),
            ((LATENCY,), "accuracy", "middle"),
            ((SIZE,), "accuracy", "small"),
            ((DROP,), "latency", "middle"),
            ((DROP, LATENCY), "size", "small"),
            ((DROP, SIZE), "latency", "small"),
            ((LATENCY, SIZE), "accuracy", "small"),
            ((DROP, LATENCY, SIZE), "latency", "small"),
        ],
    )
    def test_the_first_objective_without_a_limit_decides(
        self, bounds: tuple[Bound, ...], preference: Preference, key: str
    ) -> None:
        assert default_preference(bounds) == preference
        assert select(_front(), bounds).key == key

    @pytest.mark.parametrize(("prefer", "key"), [("accuracy", "safe"), ("latency", "middle"), ("size", "small")])
    def test_unless_one_is_preferred(self, prefer: Preference, key: str) -> None:
        assert select(_front(), (DROP,), prefer).key == key

    def test_least_accuracy_is_a_limit_like_others(self) -> None:
        assert select(_front(), (), min_accuracy=FAIR_ACCURACY - 0.007).key == "middle"
        assert select(_front(), (SIZE,), min_accuracy=FAIR_ACCURACY - 0.01).key == "small"

    def test_a_limit_on_the_95th_percentile_is_held_against_it(self) -> None:
        assert meets(MIDDLE, (Bound("latency", 1.2, "1.2ms", "p95"),))["latency"] == pytest.approx(0.25)
        assert meets(MIDDLE, (Bound("latency", 1.2, "1.2ms"),))["latency"] < 0

    def test_ties_go_to_the_better_elsewhere_then_to_the_key(self) -> None:
        equals = [member("b", 0.0, 1.0, 9.0), member("a", 0.0, 1.0, 9.0), member("c", 0.001, 1.0, 9.0)]
        assert select(_front(equals), (), "latency").key == "a"
        assert knee(equals).key == "a"

    def test_one_member_is_every_pick(self) -> None:
        assert {select(_front([FAST]), (), prefer).key for prefer in (None, "accuracy", "size", "knee")} == {"fast"}

    def test_having_met_the_limit_on_search_too_counts_where_any_has(self) -> None:
        lucky = member("lucky", 0.009, 0.5, 5.0, search_drop=0.02)
        assert select(_front([SAFE, MIDDLE, lucky]), (DROP,)).key == "middle"
        assert within([lucky], (DROP,)) == [lucky]


class TestEligible:
    def test_collapsed_and_demoted_members_are_never_picked(self) -> None:
        assert select(_front([MIDDLE, member("bad", 0.0, 0.1, 1.0, note="collapsed")]), (), "latency").key == "middle"

    def test_unverified_ones_only_where_none_is_verified(self) -> None:
        guess = member("guess", 0.0, 0.1, 1.0, verified=False)
        assert eligible([MIDDLE, guess]) == [MIDDLE]
        assert eligible([guess]) == [guess]
        assert not select(_front([guess]), (DROP,)).verified

    def test_none_at_all(self) -> None:
        with pytest.raises(InfeasibleError, match=r"no sound member to pick from \(1 listed; collapsed\)"):
            select(_front([member("bad", 0.0, 1.0, 1.0, note="collapsed")]), ())


class TestSafest:
    def test_it_is_the_upper_end_that_counts(self) -> None:
        unsure = MemberFigures("a", "single", accuracy=SAFE.accuracy, latency=SAFE.latency, size=SAFE.size)
        better = member("b", -0.001, 3.0, 30.0)
        assert safest([unsure, better, FAST]).key == "b"


def _refused(bounds: Sequence[Bound], members: Sequence[MemberFigures] = MEMBERS, floor: float | None = None) -> str:
    with pytest.raises(InfeasibleError) as caught:
        select(_front(members), bounds, min_accuracy=floor)
    return str(caught.value)


class TestInfeasible:
    def test_one_limit(self) -> None:
        message = _refused((Bound("latency", 0.01, "0.01ms"),))
        assert message.splitlines() == [
            "None of 4 verified members meets latency <= 0.01ms.",
            "  latency <= 0.01ms: nearest is fast at 0.4 ms, 40 times the limit",
            "To get a pick, relax one limit, the least change first: --max-latency 0.4ms (would give fast).",
        ]

    def test_each_limit_has_its_nearest_miss_and_the_least_change_comes_first(self) -> None:
        message = _refused((Bound("latency", 0.9, "0.9ms"), Bound("size", 10e6, "10MB"), DROP))
        assert "latency <= 0.9ms: nearest is small at 1.5 ms, 66.7% over" in message
        assert (
            "size <= 10MB: nearest of all is small at 6 MB, which is within, but not within the other limits" in message
        )
        assert "accuracy drop <= 1pt: nearest is fast at 3.00 pt, 2.00 pt short" in message
        assert message.endswith("--max-latency 1.5ms (would give small); or --max-accuracy-drop 3pt (would give fast).")

    def test_where_no_single_limit_is_enough(self) -> None:
        message = _refused((Bound("latency", 0.3, "0.3ms"), Bound("size", 5e6, "5MB")))
        assert "No limit stands alone in the way: relax 2 of them, --max-latency 0.4ms --max-size 9MB" in message

    def test_the_advice_works(self) -> None:
        odd = member("odd", 0.01234567, 1.23456, 7.654321)
        for bound, name in (
            (Bound("latency", 0.5, "0.5ms"), "latency"),
            (Bound("size", 5e6, "5MB"), "size"),
            (DROP, "accuracy-drop"),
        ):
            found = re.search(rf"--max-{name} ([\d.]+)", _refused((bound,), [odd]))
            assert found is not None
            factor = {"latency": 1.0, "size": 1e6, "accuracy-drop": 0.01}[name]
            relaxed = Bound(bound.name, float(found[1]) * factor, found[1])
            assert select(_front([odd]), (relaxed,)) == odd

    def test_least_accuracy(self) -> None:
        message = _refused((), floor=0.9)
        assert "accuracy >= 0.9: nearest is safe at 0.8600, 4.00 pt short" in message
        assert "--min-accuracy 0.86 (would give safe)" in message

    def test_a_drop_of_nothing(self) -> None:
        assert "0.60 pt short" in _refused((Bound("accuracy_drop", 0.0, "0pt"),), [MIDDLE])

    def test_unverified_members_are_said_to_be(self) -> None:
        assert _refused((LATENCY,), [member("guess", 0.0, 3.0, 1.0, verified=False)]).startswith("None of 1 unverified")


def _answered(lost: int, won: int, rows: int = 1000) -> Accuracy:
    """Of a member that loses and wins so many confirm rows."""
    drop, losses = (lost - won) / rows, (1.0,) * lost + (-1.0,) * won + (0.0,) * (rows - lost - won)
    return Accuracy(0.9 - drop, 0.88, 0.92, rows, drop, drop - 0.01, drop + 0.01, False, losses)


class TestPicks:
    def test_without_limits(self) -> None:
        found = picks(MEMBERS, ())
        assert [(pick.name, pick.key) for pick in found] == [
            ("knee", "middle"),
            ("fastest", "fast"),
            ("smallest", "small"),
            ("safest", "safe"),
        ]
        assert all(pick.reason and not pick.certified for pick in found)

    def test_the_certified_pick_stands_beside_the_point_estimates(self) -> None:
        certificate = Certificate({"safe": Test(0.0, 0.004, 0.001, True), "middle": Test(0.006, 0.013, 0.2, False)})
        confirm = {key: _answered(*counts) for key, counts in {"middle": (23, 17), "fast": (50, 30)}.items()}
        found = _named(picks(MEMBERS, (DROP,), certificate, confirm))
        within = ["limits", "certified", "fastest_within", "smallest_within"]
        assert list(found) == [*within, "knee", "fastest", "smallest", "safest"]
        assert (found["limits"].key, found["limits"].certified) == ("middle", False)
        assert (
            found["limits"].reason
            == "fastest member within accuracy drop <= 1pt, by its point estimates on search and confirm"
        )
        assert found["limits"].rows_needed == rows_needed(0.006, 0.04, 0.01)
        assert found["certified"] == Pick(
            "certified", "safe", True, "most aggressive member certified within 1pt of accuracy drop"
        )
        assert (found["fastest_within"].key, found["smallest_within"].key) == ("middle", "small")
        assert found["safest"].certified
        assert found["fastest"].rows_needed is None

    def test_one_member_may_be_both(self) -> None:
        certificate = Certificate({"middle": Test(0.006, 0.009, 0.01, True)})
        limits = _named(picks(MEMBERS, (DROP,), certificate))["limits"]
        assert (limits.key, limits.certified, limits.rows_needed) == ("middle", True, None)
        assert limits.reason == "fastest member within accuracy drop <= 1pt, certified at 95% confidence"

    def test_luck_on_confirm_is_said(self) -> None:
        lucky = member("lucky", 0.009, 0.5, 5.0, search_drop=0.02)
        assert "confirm only" in _named(picks([lucky], (DROP,)))["limits"].reason

    def test_nothing_within_the_limits(self) -> None:
        found = _named(picks(MEMBERS, (Bound("latency", 0.01, "0.01ms"),)))
        cure = "To get a pick, relax one limit, the least change first: --max-latency 0.4ms (would give fast)."
        assert found["limits"] == Pick("limits", None, False, f"no member meets latency <= 0.01ms. {cure}")
        assert found["fastest_within"].reason == "no member meets latency <= 0.01ms"
        assert found["knee"].key == "middle"

    def test_nothing_certified(self) -> None:
        certificate = Certificate({"safe": Test(0.0, 0.0123, 0.1, False)})
        certified = _named(picks(MEMBERS, (DROP,), certificate, {"safe": _answered(12, 8)}))["certified"]
        assert (certified.key, certified.certified) == (None, False)
        assert (
            "not even the safest candidate safe could be certified: its drop may be 1.23 pt, asked 1pt"
            in certified.reason
        )
        assert certified.rows_needed is not None

    def test_unverified_picks_say_so(self) -> None:
        found = picks([member("guess", 0.0, 3.0, 1.0, verified=False)], (LATENCY,))
        assert _named(found)["limits"].key is None
        assert _named(found)["knee"].reason.endswith("(not verified yet)")

    def test_no_member_at_all(self) -> None:
        assert {pick.key for pick in picks([], (DROP,), Certificate({}))} == {None}


def test_candidates_of_a_certificate_meet_the_other_limits() -> None:
    guess = member("guess", 0.0, 0.2, 1.0, verified=False)
    bounds = (DROP, LATENCY)
    given = to_certify([*MEMBERS, guess], bounds)
    over = {"middle": 0.006, "small": 0.009, "fast": 0.03}  # of what a point allows, the rest
    assert {each.key: each.drop for each in given} == pytest.approx({key: drop - 0.01 for key, drop in over.items()})
    assert [each.cost for each in given] == [1.0, 1.5, 0.4]
    assert given[0].error == pytest.approx(0.008 / 1.96, rel=1e-4)
    assert [candidate.cost for candidate in to_certify(MEMBERS, bounds, "size")] == [12e6, 6e6, 9e6]
