"""Verification: what is demoted, what is tested, what is picked, and in which order things happen."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from evaluators.base import Accuracy, Baseline, Job, Score, Served, Timing, Verify, Watch
from evaluators.synthetic import SyntheticConfig, SyntheticEvaluator, dtlz2, synthetic_space
from search import front_file
from search.figures import Estimate, LatencyFigure, ThroughputFigure
from search.front_file import FrontFile
from search.record import Record
from search.situation import Situation
from search.standing import unsettled
from search.verify import verify_front
from spaces.design import Design, Member
from spaces.objectives import ACCURACY, KL, LATENCY, SIZE, THROUGHPUT, Bound, Complete, Evaluation, Failed
from spaces.target import Target

ROWS = 1500
HERE = Target()
FAR = {"latency@far": 3.0}  # what search predicted of every member there
SPACE = synthetic_space(3)
ORIGINAL = SPACE.decode(SPACE.identity()).key


def point(x: float, y: float) -> Design:
    return Design({"x.0": x, "x.1": y, "x.2": 0.5})


class Bench:
    """An assessor whose figures follow from the synthetic objectives, and a runner of its jobs; keeps a diary."""

    slots = 2
    noise = 0.1  # of ratios to the original

    def __init__(self, *, differs: str = "", collapses: str = "", breaks: str = "", wins: int = 0) -> None:
        self.diary: list[str] = []
        self.folder = Path()
        self.learnt: dict[str, dict[str, float]] = {}
        self._differs, self._collapses, self._breaks = differs, collapses, breaks
        self._jobs: list[Job] = []
        self._wins = wins

    def lost(self, member: Member) -> int:
        """Rows that it loses on every split, fewer by `wins` than its figures say; the original none."""
        return 0 if member.key == ORIGINAL else predicted_losses(member) - self._wins

    def build(self, member: Member, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "member.json").write_text(json.dumps(member.decoded))

    def baselines(self, watch: Watch) -> Mapping[str, Baseline]:
        return {name: Baseline(self.folder / name, b"0", name) for name in ("fair", "one_liner")}

    def accuracy(self, split: str, predictions: bytes) -> Accuracy:
        lost = int(predictions)
        losses = (1.0,) * lost + (-1.0,) * -lost + (0.0,) * (ROWS - abs(lost))
        drop = lost / ROWS
        collapsed = predictions == self._collapses.encode()
        return Accuracy(0.9 - drop, 0.88 - drop, 0.92 - drop, ROWS, drop, drop - 0.01, drop + 0.01, collapsed, losses)

    def losses(self, split: str, predictions: bytes) -> tuple[float, ...]:
        return self.accuracy(split, predictions).losses

    def agreement(self, split: str, left: bytes, right: bytes) -> float:
        return 0.9 if left == self._differs.encode() else 1.0

    def time(
        self, folders: Mapping[str, Path], watch: Watch, target: Target | None = None, times: int = 1
    ) -> Mapping[str, Timing]:
        """Ratios with an error that is halved when twice as many rounds are run, on a machine that grew slower."""
        self.diary.append("time" if target in (None, HERE) else f"time at {target.label}")
        figures = {name: dtlz2(_point(folder))[1] * 10 + 0.5 for name, folder in folders.items()}
        timed = {"fair": 10.0, "one_liner": 5.0, **figures}
        near, far = 1 - self.noise / times, 1 + self.noise / times
        return {
            n: Timing(ms, ms, ms, 9 * times, 3, {"fair": (10 / ms, near * 10 / ms, far * 10 / ms)}).scaled(times)
            for n, ms in timed.items()
        }

    def throughput(self, folders: Mapping[str, Path], watch: Watch) -> Mapping[str, Served]:
        self.diary.append("throughput")
        return {name: Served(1000.0, 2, 1, (3.0, 2.9, 3.1)) for name in folders}

    def vocabulary(self, member: Member) -> Mapping[str, float]:
        return {}

    def sizes(self, folder: Path) -> tuple[int, int]:
        return (int(dtlz2(_point(folder))[2] * 2e7) + 1000 if folder.exists() else 20_000_000), 700

    def predicted(self, member: Member) -> tuple[Mapping[str, float], int]:
        return {"here": 1.0, "two": 2.0, "far": 3.0}, 1000

    def expected(self, member: Member) -> Mapping[str, tuple[float, float, float]]:
        """As search predicted, until members were timed: from then on a tenth slower and surer."""
        seconds = 1.1 if self.learnt else 1.0
        return {label: (ms, 0.9 * ms, 1.1 * ms) for label, ms in (("here", 8 * seconds), ("two", 2.0))}

    def learn(self, target: Target, timed: Sequence[tuple[Member, float]]) -> None:
        self.learnt[target.label] = {member.key: ratio for member, ratio in timed}

    def submit(self, job: Job) -> None:
        self._jobs.append(job)

    def next_done(self, timeout: float | None = None) -> Evaluation | None:
        job = self._jobs.pop(0)
        assert isinstance(job, Verify)
        self.diary.append("+".join(job.splits))
        lost = str(self.lost(job.member))
        if lost == self._breaks:
            return Evaluation(job.key, Failed("OSError", "no space left"))
        return Evaluation(job.key, Complete({}), predictions=lost.encode())

    def close(self) -> None:
        self.diary.append("closed")


def _point(folder: Path) -> tuple[float, ...]:
    return tuple(json.loads((folder / "member.json").read_text())["synthetic"])


def predicted_losses(member: Member) -> int:
    """Rows lost on every split: from 0 to 300 with the first objective."""
    return round(dtlz2(member.config(SyntheticConfig).point)[0] * 300)


DESIGNS = [point(x, y) for x in (0.2, 0.5, 0.8) for y in (0.2, 0.5, 0.95, 1.0)]


def quiet(stage: str, done: int, total: int) -> None:
    """A watch that shows nothing."""


def situation(
    folder: Path, bench: Bench, bounds: tuple[Bound, ...] = (), targets: Mapping[Target, bool] | None = None
) -> Situation:
    bench.folder = folder
    record = Record.create(folder, objectives=(KL, LATENCY, SIZE), bounds=())
    for design in DESIGNS:
        member = SPACE.decode(design)
        number = record.start(design, member)
        evaluation = SyntheticEvaluator().evaluate(Score(member))
        assert isinstance(evaluation.outcome, Complete)
        outcome = Complete(evaluation.outcome.values, {**evaluation.outcome.extras, **evaluation.outcome.values, **FAR})
        lost = str(predicted_losses(member)).encode()
        record.finish(number, replace(evaluation, outcome=outcome, predictions=lost))
    return Situation(
        folder=folder,
        space=SPACE,
        record=record,
        assessor=bench,
        pool=lambda: bench,
        inline=lambda: bench,
        bounds=bounds,
        fair={"latency": 10.0, "latency@two": 20.0, "latency@far": 30.0},
        limits={bound.name: bound.asked for bound in bounds},
        objectives=(ACCURACY, LATENCY, SIZE),
        members=24,
        cascades=0,
        confidence=0.95,
        seed=0,
        targets=targets or {HERE: True},
        splits={name: (ROWS, name) for name in ("search", "confirm", "test")},
        latency_model={},
        search={},
    )


def verified(folder: Path, bench: Bench, *bounds: Bound) -> FrontFile:
    return verify_front(situation(folder, bench, bounds), lambda stage, done, total: None)


DROP = Bound("accuracy_drop", 0.05, "5pt")


def test_scores_come_first_then_time_alone_then_test(tmp_path: Path) -> None:
    bench = Bench()
    front = verified(tmp_path, bench, DROP)
    first = bench.diary.index("time")
    assert set(bench.diary[: first - 1]) == {"search+confirm"}
    assert bench.diary[first - 1] == "closed"  # nothing of the run is busy while it times
    assert set(bench.diary[first + 1 : -1]) == {"test"}
    assert front_file.read(tmp_path) == front


def test_neighbours_are_timed_again_until_noise_no_longer_hides_which_is_faster(tmp_path: Path) -> None:
    bench = Bench()
    bench.noise = 0.4
    once = verify_front(situation(tmp_path / "once", bench), quiet)
    assert bench.diary.count("time") == 1
    bench.diary.clear()
    more = verify_front(replace(situation(tmp_path / "more", bench), remeasure=3), quiet)
    rounds = {member.key: member.latency.rounds for member in more.members if member.latency}
    assert set(rounds.values()) > {9}, "some were timed again, others were not"
    assert 2 <= bench.diary.count("time") <= 4
    for before, after in zip(once.members, more.members, strict=True):
        assert before.latency is not None
        assert after.latency is not None
        assert before.latency.mean_ms == pytest.approx(after.latency.mean_ms)  # as of the first session
    assert unsettled(more.members) == []


def test_what_is_expected_of_members_that_nobody_timed_follows_those_that_were(tmp_path: Path) -> None:
    bench = Bench()
    front = verify_front(replace(situation(tmp_path, bench), members=4), quiet)
    timed = {member.key: member for member in front.members if member.verified}
    ratios = {key: 1 / member.latency.speedup["fair"].value for key, member in timed.items() if member.latency}
    assert bench.learnt == {"here": ratios}
    rest = [member for member in front.members if not member.verified]
    assert rest
    for member in rest:
        assert member.latency is not None
        assert (member.latency.mean_ms, member.latency.rounds) == (8.8, 0)
        low, high = 10 / (1.1 * 8.8), 10 / (0.9 * 8.8)
        assert member.latency.speedup["fair"].to_triple() == pytest.approx([10 / 8.8, low, high])
        assert member.by_target["far"].latency == LatencyFigure(3.0)  # of a target that the run had once
    assert front_file.read(tmp_path) == front


def test_throughput_is_measured_where_it_is_an_objective(tmp_path: Path) -> None:
    bench = Bench()
    asked = situation(tmp_path, bench)
    verify_front(replace(asked, objectives=(ACCURACY, THROUGHPUT)), lambda *_: None)
    members = [member for member in front_file.read(tmp_path).members if member.verified]
    assert members
    for member in members:
        assert member.throughput == ThroughputFigure(1000.0, 2, 1, {"fair": Estimate(3.0, 2.9, 3.1)})
    assert bench.diary.index("throughput") > bench.diary.index("time")


def test_at_most_three_members_are_tested_and_only_picks(tmp_path: Path) -> None:
    bench = Bench()
    front = verified(tmp_path, bench, DROP)
    tested = {member.key for member in front.members if "test" in member.accuracy}
    picked = {pick.key for pick in front.picks if pick.name in ("limits", "certified", "smallest_within")}
    assert tested == picked
    assert 1 <= len(tested) <= 3
    assert bench.diary.count("test") == len(tested)
    assert front.splits["test"].reads == 1


def gaining(folder: Path, bench: Bench, *bounds: Bound) -> Situation:
    """The same designs in a search that was told accuracy."""
    known = situation(folder / "kl", bench, bounds)
    bench.folder = folder
    record = Record.create(folder, objectives=(ACCURACY, LATENCY, SIZE), bounds=())
    for trial in known.record.trials():
        member = SPACE.member(trial.decoded, trial.weights)
        lost = bench.lost(member)
        values = {**trial.values, "accuracy": 0.9 - lost / ROWS}
        outcome = Complete(values, {**trial.extras, **values, "accuracy_drop_estimate": lost / ROWS})
        number = record.start(Design(trial.knobs or {}), member)
        record.finish(number, Evaluation(trial.key, outcome, predictions=str(lost).encode()))
    return replace(known, folder=folder, record=record, gains=True)


@pytest.mark.parametrize(("wins", "counts"), [(150, True), (0, False)])
def test_a_gain_is_picked_where_it_counts_and_the_original_where_not(tmp_path: Path, wins: int, counts: bool) -> None:
    bench = Bench(wins=wins)
    front = verify_front(gaining(tmp_path, bench), quiet)
    assert front.picks[0].name == "gain"
    assert front.gain is not None
    assert front.gain.counts == counts
    assert (front.picks[0].key != ORIGINAL) == counts
    assert bench.diary.count("test") == counts  # the original loses nothing against itself
    assert front.gain.contest.designs == len(DESIGNS)  # all of them, not the front alone
    assert front_file.read(tmp_path) == front


def test_who_may_be_picked_for_its_gain_is_verified_beside_the_others(tmp_path: Path) -> None:
    now = replace(gaining(tmp_path, Bench(wins=150)), members=1)
    front = verify_front(now, quiet)
    assert front.gain is not None
    verified = {member.key for member in front.members if member.verified}
    assert {leader.key for leader in front.gain.contest.leaders} | {ORIGINAL} <= verified
    assert len(front.gain.contest.leaders) == 3


def test_limits_hold_for_gains_too(tmp_path: Path) -> None:
    limit = Bound("latency", 5.0, "5ms")
    front = verify_front(gaining(tmp_path, Bench(wins=150), limit), quiet)
    assert [pick.name for pick in front.picks[:2]] == ["limits", "gain"]
    assert front.gain is not None
    assert front.gain.contest.designs < len(DESIGNS)
    picked = next(member for member in front.members if member.key == front.picks[1].key)
    assert picked.meets_limits


def test_answers_that_were_not_kept_are_said_to_be_missing(tmp_path: Path) -> None:
    now = replace(gaining(tmp_path, Bench(wins=150)), members=1)
    idle = next(member for member in verify_front(now, quiet).members if not member.verified)
    (tmp_path / "predictions" / f"{idle.key}.npz").unlink()
    front = verify_front(now, quiet)
    assert front.gain is not None
    assert (front.gain.contest.designs, front.gain.contest.left_out) == (len(DESIGNS) - 1, 1)
    assert "1 designs whose answers were not kept" in front.picks[0].reason


def test_every_read_of_test_is_counted(tmp_path: Path) -> None:
    now = situation(tmp_path, Bench(), (DROP,))
    verify_front(now, lambda stage, done, total: None)
    assert verify_front(now, lambda stage, done, total: None).splits["test"].reads == 2


def test_without_limits_test_is_not_read(tmp_path: Path) -> None:
    bench = Bench()
    front = verified(tmp_path, bench)
    assert "test" not in bench.diary
    assert front.splits["test"].reads == 0
    assert [pick.name for pick in front.picks] == ["knee", "fastest", "smallest", "safest"]


def losses_on_front(folder: Path) -> list[str]:
    front = verified(folder, Bench())
    return [str(round(member.accuracy["confirm"].drop.value * ROWS)) for member in front.members]  # type: ignore[union-attr]


def test_what_is_not_what_search_scored_is_demoted_and_never_picked(tmp_path: Path) -> None:
    odd = losses_on_front(tmp_path / "plain")[0]
    front = verified(tmp_path / "odd", Bench(differs=odd), DROP)
    notes = {member.key: member.note for member in front.members if member.note}
    assert notes
    assert all("agrees with what search scored on 90.00%" in note for note in notes.values())
    assert not {pick.key for pick in front.picks} & notes.keys()


def test_a_model_of_one_class_is_off_the_front(tmp_path: Path) -> None:
    odd = losses_on_front(tmp_path / "plain")[0]
    front = verified(tmp_path / "odd", Bench(collapses=odd))
    collapsed = [member for member in front.members if member.note and member.note.startswith("collapsed")]
    assert collapsed
    assert not {pick.key for pick in front.picks} & {member.key for member in collapsed}


def test_a_member_that_cannot_be_verified_says_why_and_the_others_go_on(tmp_path: Path) -> None:
    odd = losses_on_front(tmp_path / "plain")[0]
    front = verified(tmp_path / "odd", Bench(breaks=odd))
    broken = [member for member in front.members if not member.verified]
    assert broken
    assert all("no space left" in (member.note or "") for member in broken)
    assert any(member.verified for member in front.members)


def test_limits_that_nothing_meets_give_an_empty_pick(tmp_path: Path) -> None:
    front = verified(tmp_path, Bench(), Bound("latency", 0.1, "0.1ms"))
    limits = front.picks[0]
    assert (limits.name, limits.key) == ("limits", None)
    assert all(member.meets_limits is False for member in front.members)


def test_shares_of_the_original_are_of_what_it_takes_beside_the_members(tmp_path: Path) -> None:
    front = verified(tmp_path, Bench(), Bound("latency", 2.0, "60%"))  # of what was predicted; the original takes 10 ms
    timed = [(member.latency.mean_ms, member.meets_limits) for member in front.members if member.latency]
    assert {met for _, met in timed} == {True, False}
    assert all(met == (ms <= 6.0) for ms, met in timed)
    assert any(2.0 < ms <= 6.0 for ms, _ in timed)
    assert front.picks[0].key is not None


def test_the_certificate_allows_no_more_than_was_asked(tmp_path: Path) -> None:
    front = verified(tmp_path, Bench(), DROP)
    assert front.certificate is not None
    by_key = {member.key: member for member in front.members}
    assert front.certificate.passed
    for key in front.certificate.passed:
        drop = by_key[key].accuracy["confirm"].drop
        assert drop is not None
        assert drop.value < DROP.at_most


@pytest.mark.parametrize("name", ["fair", "one_liner"])
def test_baselines_are_measured_like_members(tmp_path: Path, name: str) -> None:
    baseline = verified(tmp_path, Bench()).baselines[name]
    assert baseline.verified
    assert baseline.latency is not None
    assert baseline.size is not None
    assert baseline.size.ratio == {"fair": 1.0}


def test_targets_of_this_machine_are_all_measured_and_those_of_others_predicted(tmp_path: Path) -> None:
    bench = Bench()
    targets = {HERE: True, Target(label="two", threads=2): True, Target(label="far", processor="other"): False}
    front = verify_front(situation(tmp_path, bench, targets=targets), lambda stage, done, total: None)
    assert [entry for entry in bench.diary if entry.startswith("time")] == ["time", "time at two"]
    assert [(each["label"], each["measured"]) for each in front.targets] == [
        ("here", True),
        ("two", True),
        ("far", False),
    ]
    member = next(member for member in front.members if member.verified)
    assert member.latency is not None
    assert member.latency.rounds == 9
    two, far = member.by_target["two"].latency, member.by_target["far"].latency
    assert two is not None
    assert two.rounds == 9
    assert far == LatencyFigure(3.0)
    assert member.fidelity["predicted_ms@far"] == 3.0
    assert front.baselines["fair"].by_target["far"].latency == LatencyFigure(30.0)
    assert front.baselines["one_liner"].by_target["far"].latency is None


def test_a_limit_at_a_further_target_holds_there(tmp_path: Path) -> None:
    targets = {HERE: True, Target(label="far", processor="other"): False}
    for at_most, met in ((3.0, True), (2.9, False)):
        limit = Bound("latency@far", at_most, f"{at_most}ms")
        folder = tmp_path / str(at_most)
        folder.mkdir()
        record = situation(folder, Bench(), (limit,), targets)
        front = verify_front(record, lambda stage, done, total: None)
        assert {member.meets_limits for member in front.members if member.verified} == {met}
        assert (next(pick for pick in front.picks if pick.name == "limits").key is not None) == met


def test_where_the_first_target_is_another_machine_latency_is_predicted(tmp_path: Path) -> None:
    bench = Bench()
    far = Target(label="far", processor="other")
    front = verify_front(situation(tmp_path, bench, targets={far: False}), lambda stage, done, total: None)
    assert "time" not in bench.diary
    assert all(member.latency == LatencyFigure(3.0) for member in front.members if member.verified)
    assert front.baselines["fair"].latency == LatencyFigure(10.0)
    assert front.hypervolume is not None
    assert front_file.read(tmp_path) == front
