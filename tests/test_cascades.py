"""Cascades planned from kept logits: against a walk row by row, all pairs by brute force, and their own answers."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest

from evaluators.cascade import answers, judged, numbered
from search.cascade_front import cascade_front
from search.cascades import Candidate, Floats, Plan, cascade_figures, choose
from search.figures import AccuracyFigure, Estimate, LatencyFigure, MemberFigures, SizeFigure
from spaces.objectives import Bound

CALIBRATION, SEARCH = 60, 80
TIMED = tuple(range(0, SEARCH, 7))
LEVELS = np.linspace(0, 1, 52)[1:-1]


def candidates(count: int, seed: int = 0) -> list[Candidate]:
    """The slower the more often right; confident where right, mostly; the first one as the linear baseline is."""
    rng = np.random.default_rng(seed)
    made = []
    for number in range(count):
        right = {n: rng.random(rows) < 0.6 + 0.08 * number for n, rows in _SPLITS}
        sure = {n: np.clip(0.7 + 0.15 * hit + rng.normal(0, 0.1, len(hit)), 0.5, 1) for n, hit in right.items()}
        latency = 2.0**number * rng.uniform(0.8, 1.2, len(TIMED))
        times = latency, latency + 0.05, latency * rng.uniform(1.0, 1.3, len(TIMED)) + 0.1
        made.append(Candidate(f"m{number}", 1.0 + number, sure, right, *times, 1000 * (number + 1), number == 0))
    return made


_SPLITS = (("calibration", CALIBRATION), ("search", SEARCH))


def first_ms(member: Candidate, threshold: float) -> Floats:
    """A first stage finds the caches taken as often as the row before went on."""
    taken = float(np.mean(np.concatenate([member.confidence[split] for split, _ in _SPLITS]) < threshold))
    return (1 - taken) * member.first_ms + taken * member.later_ms


def walked(members: Sequence[Candidate], thresholds: Sequence[float]) -> tuple[float, float, float]:
    """Accuracy, mean latency of the timed rows and of all rows, by sending one row after the other through."""
    right, all_ms, timed_ms = 0, 0.0, [0.0] * len(TIMED)
    times = [first_ms(members[0], (*thresholds, 0.0)[0]), *(each.later_ms for each in members[1:])]
    for split, rows in _SPLITS:
        for row in range(rows):
            for member, threshold, ms in zip(members, (*thresholds, 0.0), times, strict=True):
                all_ms += float(ms.mean())
                if split == "search" and row in TIMED:
                    timed_ms[TIMED.index(row)] += float(ms[TIMED.index(row)])
                if member.confidence[split][row] >= threshold:
                    right += bool(member.right[split][row])
                    break
    return right / (CALIBRATION + SEARCH), sum(timed_ms) / len(TIMED), all_ms / (CALIBRATION + SEARCH)


def all_pairs(members: Sequence[Candidate], most_lost: float) -> list[tuple[float, float]]:
    """Accuracy and latency of every pair at every threshold of the grid."""
    found = []
    for first, last in permutations(members, 2):
        alone, _, ms = walked([last], ())
        less_right, _, less_ms = walked([first], ())
        if last.first_only or alone <= less_right or ms <= less_ms:
            continue
        for threshold in np.quantile(first.confidence["calibration"], LEVELS):
            accuracy, timed_ms, all_ms = walked([first, last], [float(threshold)])
            if accuracy >= alone - most_lost - 1e-12:
                found.append((accuracy, max(timed_ms, all_ms)))
    return found


def by_key(members: Sequence[Candidate], plan: Plan) -> list[Candidate]:
    return [{member.key: member for member in members}[key] for key in plan.keys]


def beats(one: tuple[float, float], other: tuple[float, float], slack: float = 1e-9) -> bool:
    """Whether `one` (accuracy, ms) is nowhere worse and somewhere clearly better."""
    nowhere_worse = one[0] >= other[0] - slack and one[1] <= other[1] + slack
    return nowhere_worse and (one[0] > other[0] + slack or one[1] < other[1] - slack)


def test_a_plan_says_what_a_walk_row_by_row_finds() -> None:
    members = candidates(4)
    plans = cascade_front(members, TIMED)
    assert {len(plan.keys) for plan in plans} == {2, 3}
    for plan in plans:
        accuracy, timed_ms, all_ms = walked(by_key(members, plan), plan.thresholds)
        assert plan.accuracy == pytest.approx(accuracy)
        assert plan.predicted_ms == pytest.approx(timed_ms)
        assert plan.latency_ms == pytest.approx(max(timed_ms, all_ms))
        assert plan.size == sum(member.size for member in by_key(members, plan))
        assert plan.temperatures == tuple(member.temperature for member in by_key(members, plan))


@pytest.mark.parametrize("seed", range(3))
def test_the_front_is_that_of_all_pairs_or_better(seed: int) -> None:
    members = candidates(3, seed)
    plans = [(plan.accuracy, plan.latency_ms) for plan in cascade_front(members, TIMED, most_lost=0.02)]
    singles = [walked([member], ())[:2] for member in members]
    pairs = all_pairs(members, 0.02)
    for plan in plans:
        assert not [other for other in (*plans, *singles, *pairs) if beats(other, plan)]
    for pair in pairs:
        assert [best for best in (*plans, *singles) if beats(best, pair) or best == pytest.approx(pair)]


def test_no_plan_loses_more_against_its_last_member_than_allowed() -> None:
    members = candidates(4, seed=3)
    for most_lost in (-0.01, 0.0, 0.05):
        plans = cascade_front(members, TIMED, most_lost=most_lost)
        assert plans
        for plan in plans:
            alone, _, _ = walked(by_key(members, plan)[-1:], ())
            assert plan.accuracy >= alone - most_lost - 1e-12


def test_every_stage_is_slower_and_more_often_right_than_the_one_before() -> None:
    members = candidates(5, seed=1)
    for plan in cascade_front(members, TIMED, most_lost=0.2):
        alone = [walked([member], ()) for member in by_key(members, plan)]
        assert alone == sorted(alone)
        assert [ms for _, ms, _ in alone] == sorted(ms for _, ms, _ in alone)


def test_the_linear_baseline_comes_first_or_not_at_all() -> None:
    plans = cascade_front(candidates(4), TIMED, most_lost=0.2)
    assert any(plan.keys[0] == "m0" for plan in plans)
    assert not any("m0" in plan.keys[1:] for plan in plans)


def test_luck_on_the_timed_rows_does_not_count() -> None:
    first, last = candidates(2)
    sure = np.full(SEARCH, 0.5)
    sure[list(TIMED)] = 1.0
    first = replace(first, confidence={"calibration": first.confidence["calibration"], "search": sure})
    plans = cascade_front([first, last], TIMED, most_lost=1.0)
    assert plans
    for plan in plans:
        assert plan.predicted_ms == pytest.approx(first_ms(first, plan.thresholds[0]).mean())
        assert plan.latency_ms > plan.predicted_ms + 0.3 * last.latency_ms.mean()


def test_a_call_on_several_rows_costs_as_much_of_it_as_goes_on() -> None:
    first, last = candidates(2)
    calls = [0, 1, 1]  # the third row is alone in the second call
    times = [np.array([2.0, 4.0]) * (1 + each.size) for each in (first, last)]
    first, last = (
        replace(each, latency_ms=ms, first_ms=ms, later_ms=1.1 * ms)
        for each, ms in zip((first, last), times, strict=True)
    )
    for plan in cascade_front([first, last], (0, 1, 2), batch_size=2, most_lost=1.0):
        on = first.confidence["search"][:3] < plan.thresholds[0]
        share = [on[:2].mean(), on[2:].mean()]
        ms = first_ms(first, plan.thresholds[0])
        expected = [ms[call] + share[call] * last.later_ms[call] for call in sorted(set(calls))]
        assert plan.predicted_ms == pytest.approx(np.mean(expected))


def test_one_candidate_makes_no_cascade() -> None:
    assert cascade_front(candidates(1), TIMED) == []
    assert cascade_front([], TIMED) == []


def test_rows_that_look_all_alike_make_no_cascade() -> None:
    alike = [replace(each, confidence={n: np.full(rows, 0.9) for n, rows in _SPLITS}) for each in candidates(3)]
    assert cascade_front(alike, TIMED, most_lost=1.0) == []


def test_a_plan_is_what_the_cascade_answers() -> None:
    rng = np.random.default_rng(0)
    labels = {name: rng.integers(0, 3, rows) for name, rows in _SPLITS}
    logits, members = {}, []
    for number, signal in enumerate((1.0, 2.0, 4.0)):
        rows = {n: signal * np.eye(3)[truth] + rng.normal(0, 1, (len(truth), 3)) for n, truth in labels.items()}
        logits[f"m{number}"] = {name: part.astype(np.float32) for name, part in rows.items()}
        found = judged(logits[f"m{number}"], labels)
        times = np.full(len(TIMED), 3.0**number)
        members.append(
            Candidate(f"m{number}", found.temperature, found.confidence, found.right, times, times, times, 1)
        )
    plans = cascade_front(members, TIMED)
    assert plans
    for plan in plans:
        stages = numbered(plan.temperatures, plan.thresholds)
        parts = [answers([logits[key][name] for key in plan.keys], stages) for name, _ in _SPLITS]
        answered, answering = (np.concatenate(part) for part in zip(*parts, strict=True))
        truth = np.concatenate([labels[name] for name, _ in _SPLITS])
        right = answered.argmax(-1) == truth
        assert plan.accuracy == pytest.approx(right.mean())
        assert plan.search_accuracy == pytest.approx(right[CALIBRATION:].mean())
        assert plan.reached == pytest.approx([(answering >= number).mean() for number in range(len(plan.keys))])


def drop(at_most: float) -> Bound:
    return Bound("accuracy_drop", at_most, f"{at_most * 100:g}pt")


def test_the_fastest_within_each_limit_is_always_chosen() -> None:
    plans, fair = cascade_front(candidates(5), TIMED, most_lost=0.05), (0.9, 0.88)
    bounds = [drop(at_most) for at_most in (0.02, 0.05, 0.1, 0.3)]
    for count in (1, 4, 8):
        chosen = choose(plans, fair, bounds, count)
        assert len({plan.key for plan in chosen}) == len(chosen)
        assert len(chosen) <= max(count, len(bounds))
        previous = np.inf
        for bound in bounds:
            within = [
                plan
                for plan in plans
                if fair[0] - plan.accuracy <= bound.at_most and fair[1] - plan.search_accuracy <= bound.at_most
            ]
            if within:
                fastest = min(plan.latency_ms for plan in within)
                assert fastest <= previous  # more may be lost, so nothing has to be slower
                previous = fastest
                assert any(plan in chosen and plan.latency_ms == fastest for plan in within)
    assert {plan.key for plan in chosen} <= {plan.key for plan in plans}


def test_what_is_chosen_spreads_over_the_front() -> None:
    plans = cascade_front(candidates(5), TIMED, most_lost=0.05)
    chosen = choose(plans, (0.9, 0.9), (), 6)
    assert len(chosen) == 6
    assert min(plan.latency_ms for plan in chosen) == min(plan.latency_ms for plan in plans)
    assert max(plan.accuracy for plan in chosen) == max(plan.accuracy for plan in plans)
    assert choose([], (0.9, 0.9), [drop(0.01)], 6) == []


def test_a_key_depends_on_members_thresholds_and_temperatures() -> None:
    plan = Plan(("a", "b"), (1.0, 2.0), (0.9,), (1.0, 0.2), 0.86, 0.85, 1.0, 1.1, 3000)
    others = [
        replace(plan, keys=("b", "a")),
        replace(plan, thresholds=(0.8,)),
        replace(plan, temperatures=(1.0, 3.0)),
    ]
    assert len({plan.key, *(other.key for other in others)}) == 4
    assert replace(plan, accuracy=0.5, predicted_ms=9.0, size=1).key == plan.key


def test_figures_name_members_stages_and_what_was_predicted() -> None:
    plan = Plan(("a", "b"), (1.5, 2.0), (0.9,), (1.0, 0.2), 0.86, 0.85, 1.0, 1.1, 3000)
    scored = AccuracyFigure(0.86, (0.84, 0.88), 1500, Estimate(0.0, -0.01, 0.01))
    figures = cascade_figures(
        plan,
        accuracy={"search": scored, "confirm": scored},
        latency=LatencyFigure(1.05, 0.7, 3.0, 9, 3),
        size=SizeFigure(3100, 700),
        agreement=1.0,
        artifact=f"models/{plan.key}",
    )
    assert (figures.key, figures.kind, figures.parents) == (plan.key, "cascade", ("a", "b"))
    assert figures.stages == (
        {"key": "a", "temperature": 1.5, "threshold": 0.9, "reached": 1.0},
        {"key": "b", "temperature": 2.0, "threshold": None, "reached": 0.2},
    )
    assert figures.fidelity == {"agreement": 1.0, "predicted_ms": 1.0, "predicted_bytes": 3000.0}
    assert MemberFigures.from_json(figures.to_json()) == figures
