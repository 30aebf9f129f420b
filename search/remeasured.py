"""A front after its exported models were measured on another machine. Knows figures and picks; measures nothing."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from evaluators.base import Remeasured
from search.figures import LatencyFigure, MemberFigures, TargetFigures
from search.front_file import FrontFile
from search.gain_pick import with_gain
from search.members import accuracy_figure, latency_figure, measured_hypervolume, note
from search.picks import certified_picks
from search.select import meets
from search.standing import with_standings
from spaces.target import Target


@dataclass(frozen=True)
class Off:
    """How far predictions were from what was measured, as shares of the latter, over single models."""

    mean: float
    largest: float


def remeasured(front: FrontFile, target: Target, found: Mapping[str, Remeasured]) -> FrontFile:
    """The front with what was measured at `target`, one of the run's by its label or a further one.

    At the first target picks and certificate are made anew; elsewhere they stay.

    Args:
        front: with exported members.
        target: where.
        found: by key of a member or name of a baseline.
    """
    first = target.label == front.labels[0]
    described: dict[str, Any] = {**target.to_json(), "measured": True}
    targets = {**{str(each["label"]): each for each in front.targets}, target.label: described}

    def after(member: MemberFigures) -> MemberFigures:
        if member.key not in found:
            return member
        return (_at_first if first else _at_further)(member, target.label, found[member.key])

    result = replace(
        front,
        targets=tuple(targets.values()),
        baselines={name: after(member) for name, member in front.baselines.items()},
        members=tuple(after(member) for member in front.members),
    )
    return _answered(result, found) if first else result


def off(front: FrontFile, found: Mapping[str, Remeasured], label: str) -> Off | None:
    """How far the predicted latencies at a target were from those measured; None where nothing was predicted."""
    name = "predicted_ms" if label == front.labels[0] else f"predicted_ms@{label}"
    errors = [
        abs(member.fidelity[name] / found[member.key].timing.mean_ms - 1)
        for member in front.members
        if member.key in found and name in member.fidelity
    ]
    return Off(sum(errors) / len(errors), max(errors)) if errors else None


def _at_first(member: MemberFigures, label: str, there: Remeasured) -> MemberFigures:
    agreement = {} if there.agreement is None else {"agreement": there.agreement}
    return replace(
        member,
        latency=latency_figure(there.timing),
        accuracy={**member.accuracy, "confirm": accuracy_figure(there.accuracy)},
        fidelity={**member.fidelity, **agreement},
        note=None if member.kind == "baseline" else note(there.accuracy, there.agreement),
    )


def _at_further(member: MemberFigures, label: str, there: Remeasured) -> MemberFigures:
    latency: LatencyFigure = latency_figure(there.timing)
    known = TargetFigures(latency, member.size, member.artifact, accuracy_figure(there.accuracy), there.agreement)
    return replace(member, by_target={**member.by_target, label: known})


def _answered(front: FrontFile, found: Mapping[str, Remeasured]) -> FrontFile:
    """The same with picks, certificate and hypervolume of the figures it holds now."""
    bounds = front.bounds()
    members = tuple(
        replace(member, meets_limits=all(excess <= 0 for excess in meets(member, bounds).values()))
        if member.key in found
        else member
        for member in front.members
    )
    fair, singles = front.baselines["fair"], [member for member in members if member.kind == "single"]
    verified = [member for member in members if member.verified]
    confirm = {member.key: found[member.key].accuracy for member in singles if member.key in found}
    certificate, answers = certified_picks(verified, bounds, confirm, front.confidence)
    contest = None if front.gain is None else front.gain.contest  # of search rows, which stay as they were
    gain, answers = with_gain(contest, answers, verified, bounds, confirm, front.confidence)
    cascades = any(member.kind == "cascade" for member in verified)
    return replace(
        front,
        members=tuple(with_standings(members)),
        picks=answers,
        certificate=certificate,
        gain=gain,
        hypervolume=measured_hypervolume([each for each in verified if each.kind == "single"], fair, front.objectives),
        hypervolume_with_cascades=measured_hypervolume(verified, fair, front.objectives) if cascades else None,
    )
