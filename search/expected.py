"""Latency of members that nobody timed, and how sure it is. Knows figures and the assessor; measures nothing."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from search.figures import Estimate, LatencyFigure, MemberFigures
from search.ledger import Trial
from search.situation import Situation
from spaces.design import Member
from spaces.objectives import LATENCY, latency_at


def between(situation: Situation, trial: Trial) -> dict[str, tuple[float, float]]:
    """By the name of a limit on latency, the ends in ms of where the trial's may lie."""
    found = situation.assessor.expected(situation.space.member(trial.decoded, trial.weights))
    return {_limit(situation, label): (low, high) for label, (_, low, high) in found.items()}


def learn(situation: Situation, members: Mapping[str, Member], figures: Sequence[MemberFigures]) -> None:
    """Let what is expected follow what was timed.

    Args:
        situation: whose assessor learns.
        members: by key, what was timed.
        figures: what came of it.
    """
    for target in (target for target, here in situation.targets.items() if here):
        timed = [(each.key, _at(situation, each, target.label)) for each in figures]
        situation.assessor.learn(
            target,
            [
                (members[key], 1 / latency.speedup["fair"].value)
                for key, latency in timed
                if latency is not None and latency.rounds
            ],
        )


def untimed(situation: Situation, member: MemberFigures) -> MemberFigures:
    """With the latencies that are expected now; how sure they are is said by the interval of the speed-up."""
    assert member.decoded is not None, "a search proposed it"
    found = situation.assessor.expected(situation.space.member(member.decoded, member.weights))
    latencies = dict[str, LatencyFigure]()
    for label, (ms, low, high) in found.items():
        fair = situation.fair[_limit(situation, label)]
        latencies[label] = LatencyFigure(ms, speedup={"fair": Estimate(fair / ms, fair / high, fair / low)})
    further = {  # those of targets that the run no longer has stay as they were
        label: replace(there, latency=latencies.get(label, there.latency)) for label, there in member.by_target.items()
    }
    return replace(member, latency=latencies[situation.first.label], by_target=further)


def _at(situation: Situation, member: MemberFigures, label: str) -> LatencyFigure | None:
    return member.latency if label == situation.first.label else member.by_target[label].latency


def _limit(situation: Situation, label: str) -> str:
    """What limits on latency at a target, and its figure of the original, are called."""
    return LATENCY.name if label == situation.first.label else latency_at(label).name
