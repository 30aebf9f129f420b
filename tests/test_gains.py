"""Gains of accuracy: what choosing is worth, when a gain counts, and what the pick says."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from evaluators.base import Accuracy, Remeasured, Timing
from search import front_file, present
from search.config import RunConfig
from search.figures import MemberFigures
from search.front_file import FrontFile
from search.gain_pick import gain_pick, judged, with_gain
from search.gains import Contender, Contest, CrossFitted, Gain, Leader, contest, cross_fitted
from search.page import certificate
from search.picks import picks
from search.present import Asked
from search.remeasured import remeasured
from spaces.objectives import Bound
from spaces.target import Target
from tests.made_members import member

ROWS = 600
LATENCY = Bound("latency", 2.0, "2ms")
DROP = Bound("accuracy_drop", 0.01, "1pt")


def _losses(rng: np.random.Generator, gain: float, rows: int = ROWS, discordance: float = 0.06) -> NDArray[np.float64]:
    """Paired losses of a design whose true gain is `gain`."""
    shares = [(discordance - gain) / 2, (discordance + gain) / 2]
    return rng.choice([1.0, -1.0, 0.0], size=rows, p=[*shares, 1 - sum(shares)])


def _contenders(seed: int, gains: Mapping[int, float], designs: int = 40) -> list[Contender]:
    """The original, then designs whose true gain is 0 unless it is given by their number."""
    rng = np.random.default_rng(seed)
    original = Contender("original", 4.0, (0.0,) * ROWS)
    others = (
        Contender(f"{i:03}", 1.0 + i / 100, tuple(_losses(rng, gains.get(i, 0.0)).tolist())) for i in range(designs)
    )
    return [original, *others]


class TestCrossFitting:
    def test_nothing_is_gained_where_there_is_nothing_to_gain(self) -> None:
        searches = [_contenders(seed, {}) for seed in range(60)]
        found = [contest(each, "original", seed=0) for each in searches]
        naive = np.mean([each.leaders[0].search for each in found])
        fitted = [each.cross_fitted for each in found]
        assert all(fitted)
        values = np.array([each.value for each in fitted if each is not None])
        assert naive > 0.018  # about two points, all of them luck
        assert abs(values.mean()) < 2.5 * values.std() / np.sqrt(len(values))
        assert abs(values.mean()) < 0.2 * naive
        assert sum(each.at_least > 0 for each in fitted if each is not None) <= 6

    def test_a_real_gain_is_found(self) -> None:
        found = [contest(_contenders(seed, {7: 0.05}), "original", seed=0) for seed in range(10)]
        assert [each.leaders[0].key for each in found] == ["007"] * 10
        values = [each.cross_fitted.value for each in found if each.cross_fitted is not None]
        assert np.mean(values) == pytest.approx(0.05, abs=0.01)
        assert sum(each.cross_fitted.at_least > 0 for each in found if each.cross_fitted is not None) >= 8

    def test_it_is_the_definition(self) -> None:
        """Every fold is scored by what is best on the others, the fastest of equals."""
        rng = np.random.default_rng(3)
        contenders = [Contender(str(i), 5.0 - i, tuple(_losses(rng, 0.0, 50).tolist())) for i in range(4)]
        folds = np.random.default_rng([9, 0]).permutation(50) % 5
        gained = np.zeros(50)
        for fold in range(5):
            held_out = folds == fold
            best = max(contenders, key=lambda c: (-np.array(c.losses)[~held_out].sum(), -c.latency_ms))
            gained[held_out] = -np.array(best.losses)[held_out]
        found = cross_fitted(contenders, repeats=1, seed=9)
        assert found is not None
        assert found.value == pytest.approx(gained.mean())
        variance = gained.var(ddof=1) / 50 * (1 + 5 / 4)
        assert found.at_least == pytest.approx(gained.mean() - 1.6448536 * np.sqrt(variance))

    def test_the_fastest_of_equals_leads_and_who_gains_nothing_does_not(self) -> None:
        won, lost = (-1.0,) + (0.0,) * 9, (1.0,) + (0.0,) * 9
        contenders = [Contender("slow", 3.0, won), Contender("b", 1.0, won), Contender("a", 1.0, won)]
        found = contest([*contenders, Contender("worse", 0.1, lost)], "original", seed=0)
        assert [leader.key for leader in found.leaders] == ["a", "b", "slow"]
        assert found.leaders[0].search == pytest.approx(0.1)
        assert contest([Contender("worse", 0.1, lost)], "original", seed=0).leaders == ()

    def test_rows_that_only_some_were_scored_on_do_not_count(self) -> None:
        short = Contender("short", 1.0, (-1.0, 0.0, 0.0, 0.0, 0.0, 0.0))
        long = Contender("long", 1.0, (0.0,) * 6 + (-1.0,) * 6)
        found = contest([short, long], "original", seed=0)
        assert (found.rows, [leader.key for leader in found.leaders]) == (6, ["short"])

    @pytest.mark.parametrize("contenders", [[], [Contender("a", 1.0, (-1.0, 0.0))]], ids=["no designs", "few rows"])
    def test_without_designs_or_rows_there_is_no_estimate(self, contenders: list[Contender]) -> None:
        assert contest(contenders, "original", seed=0).cross_fitted is None


ORIGINAL = member("original", 0.0, 4.0, 90.0)
BETTER = member("better", -0.02, 1.0, 12.0)
SECOND = member("second", -0.01, 1.5, 20.0)
MEMBERS = (ORIGINAL, BETTER, SECOND)


def _confirm(gain: float, rows: int = 1500, discordance: float = 0.06) -> Accuracy:
    lost = round(rows * (discordance - gain) / 2)
    won = lost + round(rows * gain)
    losses = (1.0,) * lost + (-1.0,) * won + (0.0,) * (rows - lost - won)
    drop = (lost - won) / rows
    return Accuracy(0.9 - drop, 0.88, 0.92, rows, drop, drop - 0.01, drop + 0.01, False, losses)


def _contest(cross_fitted: float | None = 0.004, **changes: object) -> Contest:
    fitted = None if cross_fitted is None else CrossFitted(cross_fitted, cross_fitted - 0.006)
    leaders = (Leader("better", 0.008), Leader("second", 0.007))
    return replace(Contest(leaders, "original", fitted, 200, 0, 1500), **changes)  # type: ignore[arg-type]


def _judged(
    found: Contest,
    on_confirm: float,
    members: tuple[MemberFigures, ...] = MEMBERS,
    bounds: tuple[Bound, ...] = (),
) -> Gain:
    confirm = {"original": _confirm(0.0), "better": _confirm(on_confirm), "second": _confirm(0.03)}
    return judged(found, members, bounds, confirm, 0.95)


class TestPick:
    def test_a_gain_counts_where_both_agree_and_is_certified_where_confirm_is_sure(self) -> None:
        gain = _judged(_contest(), 0.03)
        pick = gain_pick(gain, MEMBERS, (), 0.95)
        assert (pick.name, pick.key, pick.certified, pick.rows_needed) == ("gain", "better", True, None)
        assert gain.at_least is not None
        assert gain.at_least > 0
        for said in (
            "+0.80 pt on the search",
            "+0.40 pt cross-fitted over 200 designs",
            "+3.00 pt on confirm",
            "above 0 at",
        ):
            assert said in pick.reason

    def test_a_gain_that_counts_may_be_uncertain(self) -> None:
        gain = _judged(_contest(), 0.006)
        pick = gain_pick(gain, MEMBERS, (), 0.95)
        assert (pick.key, pick.certified) == ("better", False)
        assert "not above 0 at 95%" in pick.reason
        assert pick.rows_needed is not None
        assert pick.rows_needed > 1500

    @pytest.mark.parametrize(
        ("fitted", "on_confirm"), [(0.004, -0.004), (0.004, 0.0), (0.0, 0.03), (-0.001, 0.03), (-0.001, -0.004)]
    )
    def test_where_either_disagrees_the_original_stays(self, fitted: float, on_confirm: float) -> None:
        gain = _judged(_contest(fitted), on_confirm)
        pick = gain_pick(gain, MEMBERS, (), 0.95)
        assert (pick.key, pick.certified, gain.counts) == ("original", False, False)
        assert pick.reason.startswith("no gain counts: +0.80 pt on the search rows, ")
        assert f"{fitted * 100:+z.2f} pt cross-fitted" in pick.reason
        assert f"{on_confirm * 100:+z.2f} pt on confirm; keep the original" in pick.reason

    def test_confirm_rows_choose_nothing(self) -> None:
        """The second one is better on confirm, and is not taken for that."""
        assert gain_pick(_judged(_contest(), -0.004), MEMBERS, (), 0.95).key == "original"

    def test_the_next_leader_is_taken_where_the_first_is_unsound(self) -> None:
        members = (ORIGINAL, replace(BETTER, note="demoted: ..."), SECOND)
        gain = _judged(_contest(), 0.03, members)
        assert gain.chosen == Leader("second", 0.007)
        assert gain_pick(gain, members, (), 0.95).key == "second"

    def test_limits_hold_as_measured(self) -> None:
        slow = member("better", -0.02, 2.5, 12.0)
        members = (ORIGINAL, slow, SECOND)
        assert gain_pick(_judged(_contest(), 0.03, members, (LATENCY,)), members, (LATENCY,), 0.95).key == "second"
        members = (ORIGINAL, slow)
        pick = gain_pick(_judged(_contest(), 0.03, members, (LATENCY,)), members, (LATENCY,), 0.95)
        assert pick.key is None
        assert "none of the best 2 could be verified within the limits" in pick.reason
        assert "the original is not within the limits" in pick.reason

    def test_an_original_that_was_not_verified_is_kept_in_words(self) -> None:
        pick = gain_pick(_judged(_contest(), -0.004, (BETTER,)), (BETTER,), (DROP,), 0.95)
        assert pick.key is None
        assert pick.reason.endswith("keep the original")

    @pytest.mark.parametrize(
        ("found", "said"),
        [
            (_contest(leaders=()), "none of 200 designs is more accurate than the original on the search rows"),
            (_contest(None, designs=0, leaders=()), "no design is within the limits"),
            (_contest(None, rows=4), "4 search rows are too few"),
            (_contest(left_out=3), "(3 designs whose answers were not kept are left out)"),
        ],
        ids=["nobody gains", "nobody competes", "few rows", "lost answers"],
    )
    def test_the_reason_says_what_is_missing(self, found: Contest, said: str) -> None:
        pick = gain_pick(_judged(found, -0.004), MEMBERS, (), 0.95)
        assert pick.key == "original"
        assert said in pick.reason

    def test_it_stands_behind_limits_or_first_and_only_where_asked(self) -> None:
        confirm = {key: _confirm(0.0) for key in ("original", "better", "second")}
        for bounds, place in (((LATENCY,), 1), ((), 0)):
            answers = picks(MEMBERS, bounds)
            _, found = with_gain(_contest(), answers, MEMBERS, bounds, confirm, 0.95)
            assert [pick.name for pick in found].index("gain") == place
            assert [pick for pick in found if pick.name != "gain"] == list(answers)
        assert with_gain(None, answers, MEMBERS, (), confirm, 0.95) == (None, answers)


@pytest.mark.parametrize("gain", [_judged(_contest(), 0.006), Gain(_contest(None, leaders=()))])
def test_a_gain_survives_json(gain: Gain) -> None:
    assert Gain.from_json(gain.to_json()) == gain


def _run(folder: Path, gain: Gain) -> Path:
    """A run's front.json with the pick of that gain."""
    made = gain_pick(gain, MEMBERS, (), 0.95)
    members = tuple(replace(each, decoded=None) for each in MEMBERS)
    front_file.write(folder, FrontFile(run="a", seed=0, members=members, picks=(made,), gain=gain))
    return folder


class TestSelect:
    ACCURATE = Asked({}, None, "accuracy", keep=True)

    def test_the_most_accurate_member_does_not_pass_for_a_gain(self, tmp_path: Path) -> None:
        run = _run(tmp_path, _judged(_contest(-0.001), 0.03))
        shown = present.select(run, self.ACCURATE, None, "table")
        assert shown.startswith("better: ")
        assert "Pick `gain`: original (models/original); no gain counts: +0.80 pt on the search rows" in shown
        remark = json.loads(present.select(run, self.ACCURATE, None, "json"))["remark"]
        assert remark in shown

    @pytest.mark.parametrize(
        ("fitted", "prefer"), [(0.004, "accuracy"), (-0.001, "latency")], ids=["they agree", "not asked for"]
    )
    def test_nothing_is_said_where_nothing_contradicts(self, tmp_path: Path, fitted: float, prefer: str) -> None:
        run = _run(tmp_path, _judged(_contest(fitted), 0.03))
        asked = replace(self.ACCURATE, prefer=prefer)
        assert "Pick `gain`" not in present.select(run, asked, None, "table")
        assert "remark" not in json.loads(present.select(run, asked, None, "json"))


@pytest.mark.parametrize(
    ("fitted", "on_confirm", "said"),
    [
        (0.004, 0.03, "certified at 95 %: more accurate than the original"),
        (0.004, 0.006, "confirm rows would be needed"),
        (-0.001, 0.03, "none needed: it is the original"),
    ],
)
def test_the_page_says_what_is_certified(tmp_path: Path, fitted: float, on_confirm: float, said: str) -> None:
    front = front_file.read(_run(tmp_path, _judged(_contest(fitted), on_confirm)))
    assert said in certificate(front.picks[0], front)


@pytest.mark.parametrize(("on_confirm", "key"), [(0.03, "better"), (-0.004, "original")])
def test_answers_of_another_machine_judge_anew(on_confirm: float, key: str) -> None:
    """The search rows' part stays; int8 answers, and so the gain on confirm, are those of the machine that serves."""
    before = FrontFile(
        run="a",
        seed=0,
        targets=(Target().to_json(),),
        baselines={"fair": replace(ORIGINAL, key="fair", kind="baseline")},
        members=MEMBERS,
        gain=_judged(_contest(), 0.01),
    )
    timing = Timing(1.0, 1.0, 1.0, 9, 3, {})
    answers = {"original": _confirm(0.0), "better": _confirm(on_confirm), "second": _confirm(0.03)}
    after = remeasured(before, Target(), {name: Remeasured(timing, each, 1.0) for name, each in answers.items()})
    assert after.gain is not None
    assert after.gain.contest == _contest()
    assert (after.picks[0].name, after.picks[0].key) == ("gain", key)


@pytest.mark.parametrize(("quality", "rows"), [("kl", 512), ("metric", None)])
def test_gains_are_looked_for_on_all_search_rows(quality: str, rows: int | None) -> None:
    assert RunConfig.parse({"quality": quality}).score_rows == rows
    assert RunConfig.parse({"quality": quality, "search": {"rows": 100}}).score_rows == 100
