"""Figures of members, from what search recorded or the assessor measured. Knows both shapes; measures nothing."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from evaluators.base import Accuracy, Assessor, Baseline, Served, Timing
from search.figures import (
    AccuracyFigure,
    BandFigure,
    Estimate,
    GuardFigure,
    LatencyFigure,
    MemberFigures,
    SizeFigure,
    TargetFigures,
    ThroughputFigure,
)
from search.front import front_hypervolume
from search.ledger import Trial
from spaces.design import Member
from spaces.objectives import AT, GUARDS, LATENCY, Objective, latency_at

# Below this share of equal predictions an exported artefact is not what search scored.
AGREEMENT = 0.995


@dataclass(frozen=True)
class Exported:
    """One member through verification: what search said of it, its folder, and the logits of what was loaded there."""

    trial: Trial
    member: Member
    folder: Path
    predictions: bytes = b""


def unverified(trial: Trial, note: str | None = None) -> MemberFigures:
    """What is known before verification: figures on the search rows, predictions of latency and size."""
    known = trial.figures
    latency, size = known.get("latency"), known.get("size")
    further = [name for name in known if name.startswith(f"{LATENCY.name}{AT}")]
    bytes_ = None if size is None else SizeFigure(int(size), 0)
    return MemberFigures(
        key=trial.key,
        kind="single",
        decoded=trial.decoded,
        knobs=trial.knobs,
        recipe=trial.recipe,
        weights=trial.weights,
        parents=trial.parents,
        accuracy={"search": _counted(trial)} if "accuracy" in trial.extras else {},
        latency=None if latency is None else LatencyFigure(latency),
        size=bytes_,
        by_target={name.partition(AT)[2]: TargetFigures(LatencyFigure(known[name]), bytes_, None) for name in further},
        fidelity={"kl": known["kl"]} if "kl" in known else {},
        note=note,
    )


def verified(
    run: Path, each: Exported, assessor: Assessor, timings: Mapping[str, Timing | None], fair_bytes: int
) -> MemberFigures:
    """What was measured of an exported member; its `note` says why it must not be picked.

    Args:
        run: the run's folder, which holds what search scored.
        each: the member, with its predictions on search and confirm.
        assessor: turns predictions and folders into figures.
        timings: its latency by target, the first one primary; None where this machine cannot measure it.
        fair_bytes: size of the baseline `fair`.
    """
    scored = (run / "predictions" / f"{each.trial.key}.npz").read_bytes()
    agreement = assessor.agreement("search", scored, each.predictions)
    confirm = assessor.accuracy("confirm", each.predictions)
    predicted_ms, predicted_bytes = assessor.predicted(each.member)
    size, artifact = size_figure(assessor, each.folder, fair_bytes), str(each.folder.relative_to(run))
    latencies = {label: latency_or_prediction(timing, predicted_ms[label]) for label, timing in timings.items()}
    first, *further = latencies
    return replace(
        unverified(each.trial, note(confirm, agreement)),
        verified=True,
        accuracy={
            "search": accuracy_figure(assessor.accuracy("search", each.predictions)),
            "confirm": accuracy_figure(confirm),
        },
        latency=latencies[first],
        size=size,
        fidelity={
            **{name: each.trial.extras[name] for name in ("kl",) if name in each.trial.extras},
            "agreement": agreement,
            "predicted_ms": predicted_ms[first],
            **{latency_at(label).name.replace("latency", "predicted_ms"): predicted_ms[label] for label in further},
            "predicted_bytes": predicted_bytes,
            **assessor.vocabulary(each.member),
        },
        artifact=artifact,
        by_target={label: TargetFigures(latencies[label], size, artifact) for label in further},
    )


def note(confirm: Accuracy, agreement: float | None) -> str | None:
    """Why a model must not be picked; None if it may."""
    if confirm.collapsed:
        return "collapsed: it answers every row alike"
    if agreement is not None and agreement < AGREEMENT:
        return f"demoted: the exported model agrees with what search scored on {agreement:.2%} of rows only"
    return None


def latency_or_prediction(timing: Timing | None, predicted_ms: float) -> LatencyFigure:
    """What was measured, or where nothing was, what is predicted, which has no rounds."""
    return LatencyFigure(predicted_ms) if timing is None else latency_figure(timing)


def baseline(
    run: Path,
    known: Baseline,
    assessor: Assessor,
    latencies: Mapping[str, LatencyFigure | None],
    fair_bytes: int,
) -> MemberFigures:
    """What was measured of a baseline; its latency by target, the first one primary, None where nobody knows it."""
    first, *further = latencies
    size, artifact = size_figure(assessor, known.folder, fair_bytes), str(known.folder.relative_to(run))
    return MemberFigures(
        key=known.folder.name,
        kind="baseline",
        recipe="baseline",
        verified=True,
        accuracy={"confirm": accuracy_figure(assessor.accuracy("confirm", known.predictions))},
        latency=latencies[first],
        size=size,
        artifact=artifact,
        by_target={label: TargetFigures(latencies[label], size, artifact) for label in further},
    )


def accuracy_figure(accuracy: Accuracy) -> AccuracyFigure:
    """An assessor's accuracy as front.json holds it."""
    drop = Estimate(accuracy.drop, accuracy.drop_low, accuracy.drop_high)
    guards = {
        name: GuardFigure(Estimate(guard.value, guard.low, guard.high), guard.group, len(guard.losses[guard.group]))
        for name, guard in accuracy.guards.items()
    }
    return AccuracyFigure(accuracy.value, (accuracy.low, accuracy.high), accuracy.n, drop, guards)


def latency_figure(timing: Timing) -> LatencyFigure:
    """A measured latency as front.json holds it."""
    return LatencyFigure(
        timing.mean_ms,
        timing.p50_ms,
        timing.p95_ms,
        timing.rounds,
        timing.processes,
        speedup=_speedup(timing.speedup),
        bands=tuple(BandFigure(band.tokens, band.calls, band.mean_ms, _speedup(band.speedup)) for band in timing.bands),
    )


def _speedup(triples: Mapping[str, tuple[float, float, float]]) -> dict[str, Estimate]:
    return {name: Estimate(*triple) for name, triple in triples.items()}


def throughput_figure(served: Served) -> ThroughputFigure:
    """A measured throughput as front.json holds it."""
    ratio = {"fair": Estimate(*served.over_fair)}
    return ThroughputFigure(served.rows_per_second, served.instances, served.batch_size, ratio)


def size_figure(assessor: Assessor, folder: Path, fair_bytes: int) -> SizeFigure:
    """An exported folder's size as front.json holds it."""
    size, tokenizer = assessor.sizes(folder)
    return SizeFigure(size, tokenizer, {"fair": fair_bytes / size})


def measured_hypervolume(
    members: Sequence[MemberFigures], fair: MemberFigures, objectives: Sequence[Objective]
) -> float:
    """Of the verified, sound members on confirm rows, and on what the first target measured."""
    rows = [_gains(member) for member in members if member.note is None]
    return front_hypervolume(rows, _gains(fair), [objective.name for objective in objectives])


def _gains(member: MemberFigures) -> dict[str, float]:
    assert member.latency is not None
    assert member.size is not None
    return {
        "accuracy": member.accuracy["confirm"].value,
        "latency": member.latency.mean_ms,
        "size": float(member.size.bytes),
    }


def _counted(trial: Trial) -> AccuracyFigure:
    """Accuracy on the search rows, with the interval of the normal approximation; the drop's is not known."""
    value, n = trial.extras["accuracy"], int(trial.extras.get("rows", 0))
    half = 1.96 * math.sqrt(value * (1 - value) / n) if n else 0.0
    lost = trial.extras.get("accuracy_drop")
    interval = max(value - half, 0.0), min(value + half, 1.0)
    known = {name: trial.extras[name] for name in GUARDS if name in trial.extras}
    guards = {name: GuardFigure(Estimate(share, share, share)) for name, share in known.items()}
    return AccuracyFigure(value, interval, n, None if lost is None else Estimate(lost, lost, lost), guards)
