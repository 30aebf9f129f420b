"""Figures of members, from what search recorded or the assessor measured. Knows both shapes; measures nothing."""

import math
from dataclasses import dataclass, replace
from pathlib import Path

from evaluators.base import Accuracy, Assessor, Baseline, Served, Timing
from search.figures import AccuracyFigure, Estimate, LatencyFigure, MemberFigures, SizeFigure, ThroughputFigure
from search.ledger import Trial
from spaces.design import Member

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
    known = {**trial.extras, **trial.values}
    latency, size = known.get("latency"), known.get("size")
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
        size=None if size is None else SizeFigure(int(size), 0),
        fidelity={"kl": trial.values["kl"]} if "kl" in trial.values else {},
        note=note,
    )


def verified(run: Path, each: Exported, assessor: Assessor, timing: Timing, fair_bytes: int) -> MemberFigures:
    """What was measured of an exported member; its `note` says why it must not be picked.

    Args:
        run: the run's folder, which holds what search scored.
        each: the member, with its predictions on search and confirm.
        assessor: turns predictions and folders into figures.
        timing: its latency.
        fair_bytes: size of the baseline `fair`.
    """
    scored = (run / "predictions" / f"{each.trial.key}.npz").read_bytes()
    agreement = assessor.agreement("search", scored, each.predictions)
    confirm = assessor.accuracy("confirm", each.predictions)
    predicted_ms, predicted_bytes = assessor.predicted(each.member)
    note = None
    if confirm.collapsed:
        note = "collapsed: it predicts one class only"
    elif agreement < AGREEMENT:
        note = f"demoted: the exported model agrees with what search scored on {agreement:.2%} of rows only"
    return replace(
        unverified(each.trial, note),
        verified=True,
        accuracy={
            "search": accuracy_figure(assessor.accuracy("search", each.predictions)),
            "confirm": accuracy_figure(confirm),
        },
        latency=latency_figure(timing),
        size=size_figure(assessor, each.folder, fair_bytes),
        fidelity={
            **{name: each.trial.extras[name] for name in ("kl",) if name in each.trial.extras},
            "agreement": agreement,
            "predicted_ms": predicted_ms,
            "predicted_bytes": predicted_bytes,
            **assessor.vocabulary(each.member),
        },
        artifact=str(each.folder.relative_to(run)),
    )


def baseline(
    run: Path, name: str, known: Baseline, assessor: Assessor, timing: Timing, fair_bytes: int
) -> MemberFigures:
    """What was measured of a baseline."""
    return MemberFigures(
        key=name,
        kind="baseline",
        recipe="baseline",
        verified=True,
        accuracy={"confirm": accuracy_figure(assessor.accuracy("confirm", known.predictions))},
        latency=latency_figure(timing),
        size=size_figure(assessor, known.folder, fair_bytes),
        artifact=str(known.folder.relative_to(run)),
    )


def accuracy_figure(accuracy: Accuracy) -> AccuracyFigure:
    """An assessor's accuracy as front.json holds it."""
    drop = Estimate(accuracy.drop, accuracy.drop_low, accuracy.drop_high)
    return AccuracyFigure(accuracy.value, (accuracy.low, accuracy.high), accuracy.n, drop)


def latency_figure(timing: Timing) -> LatencyFigure:
    """A measured latency as front.json holds it."""
    speedup = {name: Estimate(*triple) for name, triple in timing.speedup.items()}
    return LatencyFigure(timing.mean_ms, timing.p50_ms, timing.p95_ms, timing.rounds, timing.processes, speedup=speedup)


def throughput_figure(served: Served) -> ThroughputFigure:
    """A measured throughput as front.json holds it."""
    ratio = {"fair": Estimate(*served.over_fair)}
    return ThroughputFigure(served.rows_per_second, served.instances, served.batch_size, ratio)


def size_figure(assessor: Assessor, folder: Path, fair_bytes: int) -> SizeFigure:
    """An exported folder's size as front.json holds it."""
    size, tokenizer = assessor.sizes(folder)
    return SizeFigure(size, tokenizer, {"fair": fair_bytes / size})


def _counted(trial: Trial) -> AccuracyFigure:
    """Accuracy on the search rows, with the interval of the normal approximation; the drop's is not known."""
    value, n = trial.extras["accuracy"], int(trial.extras.get("rows", 0))
    half = 1.96 * math.sqrt(value * (1 - value) / n) if n else 0.0
    lost = trial.extras.get("accuracy_drop")
    interval = max(value - half, 0.0), min(value + half, 1.0)
    return AccuracyFigure(value, interval, n, None if lost is None else Estimate(lost, lost, lost))
