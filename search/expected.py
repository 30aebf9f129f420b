"""Latency of members that nobody timed, and how sure it is. Knows figures and the assessor; measures nothing."""

from collections.abc import Sequence
from dataclasses import replace

from search.figures import Estimate, LatencyFigure, MemberFigures
from search.ledger import Trial
from search.situation import Situation
from spaces.design import Member


def between(situation: Situation, trial: Trial) -> dict[str, tuple[float, float]]:
    """By the name of a limit on latency, the ends in ms of where the trial's may lie."""
    found = situation.assessor.expected(situation.space.member(trial.decoded, trial.weights))
    return {situation.latency(label).name: (low, high) for label, (_, low, high) in found.items()}


def learn(situation: Situation, members: Sequence[MemberFigures]) -> None:
    """Let what is expected follow what was timed."""
    for target, here in situation.targets.items():
        if not here:
            continue
        timed = list[tuple[Member, float]]()
        for each in members:
            latency = _at(situation, each, target.label)
            if latency is not None and latency.rounds:
                timed.append((_member(situation, each), 1 / latency.speedup["fair"].value))
        situation.assessor.learn(target, timed)


def untimed(situation: Situation, member: MemberFigures) -> MemberFigures:
    """With the latencies that are expected now; how sure they are is said by the interval of the speed-up."""
    latencies = dict[str, LatencyFigure]()
    for label, (ms, low, high) in situation.assessor.expected(_member(situation, member)).items():
        fair = situation.fair[situation.latency(label).name]
        latencies[label] = LatencyFigure(ms, speedup={"fair": Estimate(fair / ms, fair / high, fair / low)})
    further = {  # those of targets that the run no longer has stay as they were
        label: replace(there, latency=latencies.get(label, there.latency)) for label, there in member.by_target.items()
    }
    return replace(member, latency=latencies[situation.first.label], by_target=further)


def _at(situation: Situation, member: MemberFigures, label: str) -> LatencyFigure | None:
    return member.latency if label == situation.first.label else member.by_target[label].latency


def _member(situation: Situation, figures: MemberFigures) -> Member:
    assert figures.decoded is not None, "a search proposed it"
    return situation.space.member(figures.decoded, figures.weights)
