"""Front members rebuilt, exported and measured again; picks and certificates. The only reader of the test split.

Knows the order of measuring: scores, then time with nothing else of the run busy, then picks, then test for the picks.
"""

from collections.abc import Collection, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from evaluators.base import Timing, Verify, VerifyCascade, Watch
from search import expected, front_file
from search.candidates import Point, choose
from search.figures import AccuracyFigure, LatencyFigure, MemberFigures
from search.front import front
from search.front_file import FrontFile, SplitRecord
from search.gain_pick import with_gain
from search.members import (
    Exported,
    accuracy_figure,
    baseline,
    latency_figure,
    measured_hypervolume,
    throughput_figure,
    unverified,
    verified,
)
from search.picks import certified_picks, recipe_picks
from search.record import Record, Trial
from search.select import meets
from search.situation import Situation
from search.standing import unsettled, with_standings
from search.verify_cascades import Verified, verify_cascades
from search.verify_gains import compete, finalists
from spaces.objectives import ACCURACY, AT, GUARDS, LATENCY, THROUGHPUT, Bound, Complete

# What members are scored on; cascades take their thresholds from the calibration rows.
_SPLITS = ("calibration", "search", "confirm")
# Whose test rows are read, at most: one read of each, after every choice is made.
TESTED = ("limits", "gain", "certified", "smallest_within", "cascade")


def verify_front(situation: Situation, watch: Watch) -> FrontFile:
    """Verify the run's front, pick, certify, read test for the picks, and write front.json."""
    on_front, settled = search_front(situation.record), situation.record.results()
    contest = compete(situation, watch) if situation.gains else None
    last = [] if contest is None else finalists(situation, contest)
    chosen = _chosen(situation, on_front).union(
        (trial.key for trial in last), *(each.keys for each in settled.values())
    )
    on_front += _missing(situation.record, on_front, chosen)
    known = situation.assessor.baselines(watch)
    exported, failures = _score(situation, [trial for trial in on_front if trial.key in chosen], watch)
    timings = _timed(situation, {each.trial.key: each.folder for each in exported}, watch)
    fair_bytes, _ = situation.assessor.sizes(known["fair"].folder)
    baselines = {
        name: baseline(situation.folder, each, situation.assessor, _latencies(situation, name, timings), fair_bytes)
        for name, each in known.items()
    }
    original = situation.space.decode(situation.space.identity()).decoded
    baselines["fair"] = replace(baselines["fair"], decoded=original)
    # Shares of the original are of what it takes beside the members, as `select` has them too.
    situation = replace(situation, bounds=replace(_described(situation, reads=0), baselines=baselines).bounds())
    members = [
        verified(situation.folder, each, situation.assessor, _of(each.trial.key, timings), fair_bytes)
        for each in exported
    ]
    members = _told_apart(situation, members, watch)
    members = [replace(member, meets_limits=_within(member, situation.bounds)) for member in members]
    members = _with_throughput(situation, members, watch)
    sound = {member.key for member in members if member.note is None}
    stages = Verified([each for each in exported if each.trial.key in sound], timings[situation.first.label], known)
    expected.learn(situation, members)
    cascades = [
        replace(cascade, meets_limits=_within(cascade, situation.bounds))
        for cascade in verify_cascades(situation, stages, fair_bytes, watch)
    ]
    confirm = {each.trial.key: situation.assessor.accuracy("confirm", each.predictions) for each in exported}
    certificate, answers = certified_picks(
        [*members, *cascades], situation.bounds, confirm, situation.confidence, situation.metric
    )
    gain, answers = with_gain(contest, answers, members, situation.bounds, confirm, situation.confidence)
    answers += recipe_picks(settled, members, situation.confirming)
    tested = {pick.key for pick in answers if pick.name in TESTED} - {None}
    tested -= {contest.original} if contest is not None else set()  # it loses nothing against itself
    singles = [Verify(each.member, each.folder.resolve(), ("test",)) for each in exported if each.trial.key in tested]
    figures = _on_test(situation, [*singles, *_tests_of(cascades, tested, situation.folder)], watch)
    measured = {member.key for member in members}
    rest = [
        expected.untimed(situation, unverified(trial, failures.get(trial.key)))
        for trial in on_front
        if trial.key not in measured
    ]
    result = replace(
        _described(situation, reads=_reads_before(situation.folder) + bool(tested)),
        baselines=baselines,
        hypervolume=measured_hypervolume(members, baselines["fair"], situation.objectives),
        hypervolume_with_cascades=(
            measured_hypervolume([*members, *cascades], baselines["fair"], situation.objectives) if cascades else None
        ),
        members=tuple(_with_test(each, figures) for each in (*with_standings([*members, *cascades]), *rest)),
        picks=answers,
        certificate=certificate,
        gain=gain,
    )
    front_file.write(situation.folder, result)
    return result


def _timed(situation: Situation, folders: Mapping[str, Path], watch: Watch) -> dict[str, Mapping[str, Timing]]:
    """By target, the first one primary, latencies of members and baselines; empty where this machine cannot say."""
    return {
        target.label: situation.assessor.time(folders, watch, target) if here else {}
        for target, here in situation.targets.items()
    }


def _of(name: str, timings: Mapping[str, Mapping[str, Timing]]) -> dict[str, Timing | None]:
    return {label: timed.get(name) for label, timed in timings.items()}


def _latencies(
    situation: Situation, name: str, timings: Mapping[str, Mapping[str, Timing]]
) -> dict[str, LatencyFigure | None]:
    """A baseline's latency by target; of those that are not timed, only the original's is predicted."""
    found: dict[str, LatencyFigure | None] = {}
    for label, timing in _of(name, timings).items():
        unknown = None if name != "fair" else LatencyFigure(situation.fair[situation.latency(label).name])
        found[label] = unknown if timing is None else latency_figure(timing)
    return found


def search_front(record: Record) -> list[Trial]:
    """The complete trials that no other dominates in what search measured.

    A model without part of its vocabulary does not dominate one that has all of it: it knows fewer words of texts that
    the task's rows do not show.
    """
    complete = [trial for trial in record.trials() if trial.state == "complete"]
    objectives = record.objectives
    return front(
        complete,
        costs=lambda trial: [_vocabulary_pruned(trial), *(each.cost(trial.values[each.name]) for each in objectives)],
    )


def _missing(record: Record, on_front: Sequence[Trial], chosen: Collection[str]) -> list[Trial]:
    """Complete trials that are to be verified and are not on the front."""
    known = {trial.key for trial in on_front}
    return [t for t in record.trials() if t.state == "complete" and t.key in chosen and t.key not in known]


def _vocabulary_pruned(trial: Trial) -> bool:
    return trial.decoded.get("embeddings", {}).get("vocabulary") is not None


def _chosen(situation: Situation, on_front: Sequence[Trial]) -> set[str]:
    """Keys of the members worth verifying: as many with a pruned vocabulary as with a whole one."""
    groups = [[trial for trial in on_front if _vocabulary_pruned(trial) == pruned] for pruned in (False, True)]
    places = situation.members if not all(groups) else -(-situation.members // 2)
    return {
        point.key
        for group in groups
        for point in choose([_point(situation, trial) for trial in group], situation.bounds, places)
    }


def _point(situation: Situation, trial: Trial) -> Point:
    lost = 1.0 + ACCURACY.cost(trial.figures.get("accuracy", 0.0))
    # Where accuracy was what search was told, the front is over it, and closeness to the original is no merit.
    quality = lost if ACCURACY.name in trial.values else trial.extras.get("kl", lost)
    return Point(
        trial.key,
        quality,
        trial.extras.get("accuracy_drop_estimate"),
        trial.extras["latency"],
        trial.extras["size"],
        {
            name: value
            for name, value in trial.extras.items()
            if name.startswith(f"{LATENCY.name}{AT}") or name in GUARDS
        },
        expected.between(situation, trial),
    )


def _score(situation: Situation, trials: Sequence[Trial], watch: Watch) -> tuple[list[Exported], dict[str, str]]:
    """Every member built, loaded again and scored; and by key why one could not be."""
    waiting: dict[str, Exported] = {}
    done: dict[str, Exported] = {}
    failures: dict[str, str] = {}
    queue = list[Exported]()
    for count, trial in enumerate(trials):
        watch("export", count, len(trials))
        queue.append(_built(situation, trial))
    with closing(situation.pool()) as runner:
        while queue or waiting:
            while queue and len(waiting) < runner.slots:
                each = queue.pop(0)
                job = Verify(each.member, each.folder.resolve(), _SPLITS if situation.cascades else _SPLITS[1:])
                waiting[job.key] = each
                runner.submit(job)
            evaluation = runner.next_done()
            assert evaluation is not None, "something is waited for"
            each = waiting.pop(evaluation.key)
            if isinstance(evaluation.outcome, Complete) and evaluation.predictions is not None:
                done[each.trial.key] = replace(each, predictions=evaluation.predictions)
            else:
                failures[each.trial.key] = f"could not be verified: {evaluation.outcome}"
            watch("verify", len(done) + len(failures), len(trials))
    return [done[trial.key] for trial in trials if trial.key in done], failures


def _built(situation: Situation, trial: Trial) -> Exported:
    member = situation.space.member(trial.decoded, trial.weights)
    folder = situation.folder / "models" / trial.key
    situation.assessor.build(member, folder)
    return Exported(trial, member, folder)


def _told_apart(situation: Situation, members: list[MemberFigures], watch: Watch) -> list[MemberFigures]:
    """Neighbours in speed timed again, each time twice as long, until noise no longer hides which of them is faster."""
    for turn in range(situation.remeasure if situation.targets[situation.first] else 0):
        keys = unsettled(with_standings(members))
        if not keys:
            break
        folders = {key: situation.folder / "models" / key for key in keys}
        found = situation.assessor.time(folders, watch, situation.first, times=2 ** (turn + 1))
        members = [_timed_again(member, found) if member.key in keys else member for member in members]
    return members


def _timed_again(member: MemberFigures, found: Mapping[str, Timing]) -> MemberFigures:
    """With the ratios of the new rounds, and the milliseconds that they mean where the others were timed."""
    then, now = member.latency, found[member.key]
    assert then is not None
    fair_ms = then.mean_ms * then.speedup["fair"].value
    return replace(member, latency=latency_figure(now.scaled(fair_ms / found["fair"].mean_ms)))


def _within(member: MemberFigures, bounds: Sequence[Bound]) -> bool:
    return all(excess <= 0 for excess in meets(member, bounds).values())


def _tests_of(cascades: Sequence[MemberFigures], tested: Collection[str | None], run: Path) -> list[VerifyCascade]:
    return [
        VerifyCascade(each.key, (run / str(each.artifact)).resolve(), ("test",))
        for each in cascades
        if each.key in tested
    ]


def _on_test(situation: Situation, jobs: Sequence[Verify | VerifyCascade], watch: Watch) -> dict[str, AccuracyFigure]:
    """By key of a member or cascade its figures on the test rows."""
    figures: dict[str, AccuracyFigure] = {}
    with closing(situation.inline()) as runner:
        for count, job in enumerate(jobs):
            watch("test", count, len(jobs))
            runner.submit(job)
            evaluation = runner.next_done()
            assert evaluation is not None, "one job was submitted"
            if evaluation.predictions is not None:
                key = job.member.key if isinstance(job, Verify) else job.name
                figures[key] = accuracy_figure(situation.assessor.accuracy("test", evaluation.predictions))
    return figures


def _with_test(member: MemberFigures, figures: Mapping[str, AccuracyFigure]) -> MemberFigures:
    if member.key not in figures:
        return member
    return replace(member, accuracy={**member.accuracy, "test": figures[member.key]})


def _with_throughput(situation: Situation, members: Sequence[MemberFigures], watch: Watch) -> list[MemberFigures]:
    """The members with their rows per second, where that is an objective and this machine is the first target."""
    if THROUGHPUT not in situation.objectives or not situation.targets[situation.first]:
        return list(members)
    served = situation.assessor.throughput(
        {member.key: situation.folder / str(member.artifact) for member in members}, watch
    )
    return [replace(member, throughput=throughput_figure(served[member.key])) for member in members]


def _described(situation: Situation, reads: int) -> FrontFile:
    """What front.json says of the run itself."""
    return FrontFile(
        run=situation.folder.name,
        seed=situation.seed,
        targets=tuple({**target.to_json(), "measured": here} for target, here in situation.targets.items()),
        limits=situation.limits,
        confidence=situation.confidence,
        metric=situation.metric,
        objectives=situation.objectives,
        splits={
            name: SplitRecord(n, sha256, reads if name == "test" else None)
            for name, (n, sha256) in situation.splits.items()
        },
        trials=situation.record.counts(),
        latency_model=situation.latency_model,
        search=situation.search,
        statistic=next((bound.statistic for bound in situation.bounds if bound.name == "latency"), "mean"),
    )


def _reads_before(folder: Path) -> int:
    """How often this run read the test rows already."""
    if not (folder / front_file.FILE_NAME).exists():
        return 0
    return front_file.read(folder).splits["test"].reads or 0
