"""Front members rebuilt, exported and measured again; picks and certificates. The only reader of the test split.

Knows the order of measuring: scores, then time with nothing else of the run busy, then picks, then test for the picks.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

from evaluators.base import Accuracy, Assessor, Baseline, Timing, Verify, Watch
from search import front_file
from search.candidates import Point, choose
from search.certificate import (
    Certificate,
    Test,
    certify,
    non_inferiority_of_losses,
    sequence,
)
from search.figures import AccuracyFigure, Estimate, LatencyFigure, MemberFigures, SizeFigure
from search.front import front, front_hypervolume
from search.front_file import FrontFile, SplitRecord
from search.picks import picks, to_certify
from search.record import Record, Trial
from search.runners.base import Runner
from search.select import meets
from spaces.design import Member
from spaces.objectives import ACCURACY, Bound, Complete, Objective
from spaces.space import Space
from spaces.target import Target

# Below this share of equal predictions an exported artefact is not what search scored.
AGREEMENT = 0.995
# Whose test rows are read, at most: one read of each, after every choice is made.
TESTED = ("limits", "certified", "smallest_within")


@dataclass(frozen=True)
class Situation:
    """What is verified, with what, and under which limits.

    Args:
        folder: the run's.
        space: decodes what the record holds.
        record: every trial of the run.
        assessor: builds, scores and times.
        pool: makes the runner that scores members side by side.
        inline: makes a runner that works alone, for the test rows.
        bounds: the limits in absolute units; `limits` as asked.
        members: how many to verify.
        confidence: of the certificate.
        splits: by name, rows and hash.
        latency_model, search: figures that are handed on to front.json.
    """

    folder: Path
    space: Space
    record: Record
    assessor: Assessor
    pool: Callable[[], Runner]
    inline: Callable[[], Runner]
    bounds: tuple[Bound, ...]
    limits: Mapping[str, str]
    objectives: tuple[Objective, ...]
    members: int
    confidence: float
    seed: int
    target: Target
    splits: Mapping[str, tuple[int, str]]
    latency_model: Mapping[str, float]
    search: Mapping[str, float]


@dataclass(frozen=True)
class Verified:
    """One member through verification: what search said of it, its folder and its logits."""

    trial: Trial
    member: Member
    folder: Path
    predictions: bytes


def verify_front(situation: Situation, watch: Watch) -> FrontFile:
    """Verify the run's front, pick, certify, read test for the picks, and write front.json."""
    assessor = situation.assessor
    on_front = search_front(situation.record)
    chosen = {point.key for point in choose([_point(trial) for trial in on_front], situation.bounds, situation.members)}
    baselines = assessor.baselines(watch)
    verified, failures = _score(situation, [trial for trial in on_front if trial.key in chosen], watch)
    timings = assessor.time({each.trial.key: each.folder for each in verified}, watch)
    base = {name: _baseline(situation, name, baseline, timings[name]) for name, baseline in baselines.items()}
    base = {name: _with_ratios(figures, base) for name, figures in base.items()}
    confirm = {each.trial.key: assessor.accuracy("confirm", each.predictions) for each in verified}
    members = [
        _member(situation, each, confirm[each.trial.key], timings[each.trial.key], base["fair"]) for each in verified
    ]
    certificate = _certificate(situation, members, confirm)
    answers = picks(
        members,
        situation.bounds,
        certificate,
        discordance={key: accuracy.discordance for key, accuracy in confirm.items()},
        confidence=situation.confidence,
    )
    tested = {pick.key for pick in answers if pick.name in TESTED}
    members = _with_test(situation, members, [each for each in verified if each.trial.key in tested], watch)
    measured = {member.key for member in members}
    rest = [unverified(trial, failures.get(trial.key)) for trial in on_front if trial.key not in measured]
    result = FrontFile(
        run=situation.folder.name,
        seed=situation.seed,
        targets=(situation.target.to_json(),),
        limits=situation.limits,
        confidence=situation.confidence,
        objectives=situation.objectives,
        splits=_splits(situation, reads=_reads_before(situation.folder) + bool(tested - {None})),
        baselines=base,
        trials=situation.record.counts(),
        hypervolume=_hypervolume(members, base["fair"], situation.objectives),
        members=tuple(members + rest),
        picks=answers,
        certificate=certificate,
        latency_model=situation.latency_model,
        search=situation.search,
        statistic=next((bound.statistic for bound in situation.bounds if bound.name == "latency"), "mean"),
    )
    front_file.write(situation.folder, result)
    return result


def search_front(record: Record) -> list[Trial]:
    """The complete trials that no other dominates in what search measured."""
    complete = [trial for trial in record.trials() if trial.state == "complete"]
    objectives = record.objectives
    return front(
        complete, costs=lambda trial: [objective.cost(trial.values[objective.name]) for objective in objectives]
    )


def unverified(trial: Trial, note: str | None = None) -> MemberFigures:
    """What is known of a member before it is verified: figures of the search, predictions of latency and size."""
    extras, rows = trial.extras, int(trial.extras.get("rows", 0))
    lost = extras.get("accuracy_drop")
    scored = (
        {}
        if "accuracy" not in extras
        else {
            "search": AccuracyFigure(
                extras["accuracy"],
                _about(extras["accuracy"], rows),
                rows,
                None if lost is None else Estimate(lost, lost, lost),
            )
        }
    )
    latency, size = trial.values.get("latency"), trial.values.get("size")
    return MemberFigures(
        key=trial.key,
        kind="single",
        decoded=trial.decoded,
        knobs=trial.knobs,
        recipe=trial.recipe,
        weights=trial.weights,
        accuracy=scored,
        latency=None if latency is None else LatencyFigure(latency),
        size=None if size is None else SizeFigure(int(size), 0),
        fidelity={name: trial.values[name] for name in ("kl",) if name in trial.values},
        note=note,
    )


def _about(share: float, n: int) -> tuple[float, float]:
    """A 95 % interval of a share of `n` rows, by the normal approximation."""
    half = 1.96 * math.sqrt(share * (1 - share) / n) if n else 0.0
    return max(share - half, 0.0), min(share + half, 1.0)


def _point(trial: Trial) -> Point:
    quality = trial.values.get("kl", ACCURACY.cost(trial.values.get("accuracy", 0.0)) + 1.0)
    return Point(
        trial.key,
        quality,
        trial.extras.get("accuracy_drop_estimate"),
        trial.extras["latency"],
        trial.extras["size"],
    )


def _score(situation: Situation, trials: Sequence[Trial], watch: Watch) -> tuple[list[Verified], dict[str, str]]:
    """Every member built, loaded again and scored; and by key why one could not be."""
    waiting: dict[str, Verified] = {}
    done: dict[str, Verified] = {}
    failures: dict[str, str] = {}
    with closing(situation.pool()) as runner:
        queue = list(trials)
        while queue or waiting:
            while queue and len(waiting) < runner.slots:
                trial = queue.pop(0)
                each = _built(situation, trial)
                job = Verify(each.member, each.folder.resolve())
                waiting[job.key] = each
                runner.submit(job)
            evaluation = runner.next_done()
            if evaluation is None:
                continue
            each = waiting.pop(evaluation.key)
            if isinstance(evaluation.outcome, Complete) and evaluation.predictions is not None:
                done[each.trial.key] = replace(each, predictions=evaluation.predictions)
            else:
                failures[each.trial.key] = f"could not be verified: {evaluation.outcome}"
            watch("verify", len(done) + len(failures), len(trials))
    return [done[trial.key] for trial in trials if trial.key in done], failures


def _built(situation: Situation, trial: Trial) -> Verified:
    member = situation.space.member(trial.decoded, trial.weights)
    folder = situation.folder / "models" / trial.key
    situation.assessor.build(member, folder)
    return Verified(trial, member, folder, b"")


def _member(
    situation: Situation, each: Verified, confirm: Accuracy, timing: Timing, fair: MemberFigures
) -> MemberFigures:
    assessor, trial = situation.assessor, each.trial
    searched = (situation.folder / "predictions" / f"{trial.key}.npz").read_bytes()
    agreement = assessor.agreement("search", searched, each.predictions)
    size, tokenizer = assessor.sizes(each.folder)
    predicted_ms, predicted_bytes = assessor.predicted(each.member)
    note = None
    if confirm.collapsed:
        note = "collapsed: it predicts one class only"
    elif agreement < AGREEMENT:
        note = f"demoted: the exported model agrees with what search scored on {agreement:.2%} of rows only"
    figures = MemberFigures(
        key=trial.key,
        kind="single",
        decoded=trial.decoded,
        knobs=trial.knobs,
        recipe=trial.recipe,
        weights=trial.weights,
        verified=True,
        accuracy={
            "search": _accuracy(assessor.accuracy("search", each.predictions)),
            "confirm": _accuracy(confirm),
        },
        latency=_latency(timing),
        size=SizeFigure(size, tokenizer, {"fair": fair.size.bytes / size} if fair.size else {}),
        fidelity={
            "kl": trial.values.get("kl", 0.0),
            "agreement": agreement,
            "predicted_bytes": predicted_bytes,
            "predicted_ms": predicted_ms,
        },
        artifact=str(each.folder.relative_to(situation.folder)),
        note=note,
    )
    return replace(figures, meets_limits=all(excess <= 0 for excess in meets(figures, situation.bounds).values()))


def _baseline(situation: Situation, name: str, baseline: Baseline, timing: Timing) -> MemberFigures:
    size, tokenizer = situation.assessor.sizes(baseline.folder)
    return MemberFigures(
        key=name,
        kind="baseline",
        decoded=situation.space.decode(situation.space.identity()).decoded if name == "fair" else None,
        recipe="baseline",
        verified=True,
        accuracy={"confirm": _accuracy(situation.assessor.accuracy("confirm", baseline.predictions))},
        latency=_latency(timing),
        size=SizeFigure(size, tokenizer),
        artifact=str(baseline.folder.relative_to(situation.folder)),
    )


def _with_ratios(figures: MemberFigures, base: Mapping[str, MemberFigures]) -> MemberFigures:
    fair = base["fair"].size
    if figures.size is None or fair is None:
        return figures
    return replace(figures, size=replace(figures.size, ratio={"fair": fair.bytes / figures.size.bytes}))


def _accuracy(accuracy: Accuracy) -> AccuracyFigure:
    drop = Estimate(accuracy.drop, accuracy.drop_low, accuracy.drop_high)
    return AccuracyFigure(accuracy.value, (accuracy.low, accuracy.high), accuracy.n, drop)


def _latency(timing: Timing) -> LatencyFigure:
    return LatencyFigure(
        timing.mean_ms,
        timing.p50_ms,
        timing.p95_ms,
        timing.rounds,
        timing.processes,
        {name: Estimate(*triple) for name, triple in timing.speedup.items()},
    )


def _certificate(
    situation: Situation, members: Sequence[MemberFigures], confirm: Mapping[str, Accuracy]
) -> Certificate | None:
    """Tests on confirm of few members frozen from search figures; None without a limit on accuracy."""
    margin = next((bound.at_most for bound in situation.bounds if bound.name == "accuracy_drop"), None)
    if margin is None:
        return None

    def test(key: str) -> Test:
        return non_inferiority_of_losses(confirm[key].losses, margin, situation.confidence)

    return certify(sequence(to_certify(members, situation.bounds), margin), test)


def _with_test(
    situation: Situation, members: Sequence[MemberFigures], tested: Sequence[Verified], watch: Watch
) -> list[MemberFigures]:
    """The members, those in `tested` with their figures on the test rows."""
    figures: dict[str, AccuracyFigure] = {}
    with closing(situation.inline()) as runner:
        for count, each in enumerate(tested):
            watch("test", count, len(tested))
            runner.submit(Verify(each.member, each.folder.resolve(), splits=("test",)))
            evaluation = runner.next_done()
            if evaluation is not None and evaluation.predictions is not None:
                figures[each.trial.key] = _accuracy(situation.assessor.accuracy("test", evaluation.predictions))
    return [
        replace(member, accuracy={**member.accuracy, "test": figures[member.key]}) if member.key in figures else member
        for member in members
    ]


def _reads_before(folder: Path) -> int:
    """How often this run read the test rows already."""
    if not (folder / front_file.FILE_NAME).exists():
        return 0
    return front_file.read(folder).splits["test"].reads or 0


def _splits(situation: Situation, reads: int) -> dict[str, SplitRecord]:
    return {
        name: SplitRecord(n, sha256, reads if name == "test" else None)
        for name, (n, sha256) in situation.splits.items()
    }


def _hypervolume(members: Sequence[MemberFigures], fair: MemberFigures, objectives: Sequence[Objective]) -> float:
    """Of the verified, sound members on confirm and measured figures."""
    rows = [_row(member) for member in members if member.note is None]
    return front_hypervolume(rows, _row(fair), [objective.name for objective in objectives])


def _row(member: MemberFigures) -> dict[str, float]:
    assert member.latency is not None
    assert member.size is not None
    return {
        "accuracy": member.accuracy["confirm"].value,
        "latency": member.latency.mean_ms,
        "size": float(member.size.bytes),
    }
