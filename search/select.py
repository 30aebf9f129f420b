"""Picking a member by budget. Knows limits and figures on confirm; knows nothing of test rows or of measuring.

Which objective decides among members within the limits, unless `prefer` says otherwise: the first one without a limit,
in the order accuracy, latency, size; latency if all have one; the knee if none has.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, TypeAlias

from search.figures import AccuracyFigure, MemberFigures
from search.front_file import FrontFile
from search.infeasible import explain
from spaces.errors import InfeasibleError
from spaces.objectives import ACCURACY, GUARDS, Bound

Preference: TypeAlias = Literal["accuracy", "latency", "size", "knee"]
Kind: TypeAlias = Literal["single", "cascade"]

_NOUNS: Mapping[Kind, str] = {"single": "member", "cascade": "cascade"}
# Drops beyond this count as equally bad when the knee is looked for; the depth of the hypervolume's accuracy axis.
KNEE_DEPTH = 0.05


def deciding(member: MemberFigures) -> AccuracyFigure:
    """The accuracy that decides: on confirm, or on search where the member is not verified yet."""
    return member.accuracy["confirm"] if "confirm" in member.accuracy else member.accuracy["search"]


def drop(member: MemberFigures, split: str | None = None) -> float:
    """Drop of accuracy on `split` (the deciding one if None), as a fraction; 0 where nothing was paired."""
    figure = deciding(member) if split is None else member.accuracy[split]
    return 0.0 if figure.drop is None else figure.drop.value


def latency_ms(member: MemberFigures) -> float:
    """Mean latency, the objective."""
    if member.latency is None:
        raise ValueError(f"{member.key} has no latency; only members of `eligible` have every figure.")
    return member.latency.mean_ms


def size_bytes(member: MemberFigures) -> int:
    """Bytes without the tokenizer's."""
    if member.size is None:
        raise ValueError(f"{member.key} has no size; only members of `eligible` have every figure.")
    return member.size.bytes


def cost(member: MemberFigures, bound: Bound) -> float:
    """The figure that `bound` is held against, in its unit; smaller is better."""
    if bound.target is not None:
        there = member.by_target.get(bound.target)
        return math.inf if there is None or there.latency is None else there.latency.mean_ms
    match bound.name:
        case "accuracy":
            return ACCURACY.cost(deciding(member).value)
        case "accuracy_drop":
            return drop(member)
        case name if name in GUARDS:
            return _guarded(deciding(member), name)
        case "latency" if member.latency is not None:
            return member.latency.held(bound.statistic)
        case _:
            return size_bytes(member)


def lost(member: MemberFigures, bound: Bound, split: str) -> float:
    """What a limit on answers is held against on one split, as a fraction."""
    return drop(member, split) if bound.name == "accuracy_drop" else _guarded(member.accuracy[split], bound.name)


def _guarded(figure: AccuracyFigure, name: str) -> float:
    """What nobody counted, as in runs of an older version, meets no limit."""
    return figure.guards[name].share.value if name in figure.guards else math.inf


def eligible(members: Sequence[MemberFigures], kind: Kind = "single") -> list[MemberFigures]:
    """Members of a kind that may be picked: measured, not collapsed, not demoted; verified ones if there are any."""
    sound = [
        m
        for m in members
        if m.kind == kind and m.note is None and m.latency and m.size and {"confirm", "search"} & m.accuracy.keys()
    ]
    return [m for m in sound if m.verified] or ([] if any(m.verified for m in members) else sound)


def meets(member: MemberFigures, bounds: Sequence[Bound]) -> dict[str, float]:
    """By name of each limit how far the member is over it, relative to the limit; all at most 0 where it meets them."""
    return {bound.name: bound.excess(cost(member, bound)) for bound in bounds}


def within(members: Sequence[MemberFigures], bounds: Sequence[Bound]) -> list[MemberFigures]:
    """Members that meet every limit on confirm; of these, where there are any, those that meet them on search too.

    Being best of many on confirm is partly luck; having met the limit twice on different rows damps it.
    """
    once = [member for member in members if all(cost(member, bound) <= bound.at_most for bound in bounds)]
    twice = [member for member in once if all(_meets_on_search(member, bound) for bound in bounds)]
    return twice or once


def _meets_on_search(member: MemberFigures, bound: Bound) -> bool:
    return not bound.of_answers or "search" not in member.accuracy or lost(member, bound, "search") <= bound.at_most


def default_preference(bounds: Sequence[Bound]) -> Preference:
    """What decides when nobody says: see the module's docstring."""
    limited = {"accuracy" if bound.of_answers else bound.figure for bound in bounds}
    if not limited:
        return "knee"
    order: tuple[Preference, ...] = ("accuracy", "latency", "size")
    return next((objective for objective in order if objective not in limited), "latency")


def best(members: Sequence[MemberFigures], prefer: Preference) -> MemberFigures:
    """The member that `prefer` asks for, out of at least one."""
    chosen: Mapping[Preference, Callable[[Sequence[MemberFigures]], MemberFigures]] = {
        "accuracy": most_accurate,
        "latency": fastest,
        "size": smallest,
        "knee": knee,
    }
    return chosen[prefer](members)


def select(
    front: FrontFile,
    bounds: Sequence[Bound],
    prefer: Preference | None = None,
    min_accuracy: float | None = None,
    kind: Kind = "single",
) -> MemberFigures:
    """The member to take under `bounds`.

    Args:
        front: a run's answer, finished or not.
        bounds: limits, all of which hold.
        prefer: what decides among those within; see the module's docstring if None.
        min_accuracy: least accuracy on confirm, as a fraction; a limit like the others.
        kind: single models, or cascades of them.

    Returns:
        A verified member, or an unverified one (its `verified` says so) where the run has verified none yet.

    Raises:
        InfeasibleError: nothing qualifies; the message names the nearest miss per limit and what would have to give.
    """
    floor = () if min_accuracy is None else (Bound("accuracy", ACCURACY.cost(min_accuracy), f"{min_accuracy:g}"),)
    asked = (*bounds, *floor)
    members = eligible(front.members, kind)
    if not members:
        listed = [each for each in front.members if each.kind == kind]
        found = "; ".join([f"{len(listed)} listed", *sorted({each.note for each in listed if each.note})])
        raise InfeasibleError(f"{front.run} has no sound {_NOUNS[kind]} to pick from ({found}). Search on: `resume`.")
    qualified = within(members, asked)
    if not qualified:
        raise InfeasibleError(explain(members, asked, cost))
    return best(qualified, prefer or default_preference(asked))


def most_accurate(members: Sequence[MemberFigures]) -> MemberFigures:
    """Highest accuracy; the faster, then the smaller of equals."""
    return min(members, key=lambda m: (-deciding(m).value, latency_ms(m), size_bytes(m), m.key))


def fastest(members: Sequence[MemberFigures]) -> MemberFigures:
    """Lowest latency; the more accurate, then the smaller of equals."""
    return min(members, key=lambda m: (latency_ms(m), drop(m), size_bytes(m), m.key))


def smallest(members: Sequence[MemberFigures]) -> MemberFigures:
    """Fewest bytes; the more accurate, then the faster of equals."""
    return min(members, key=lambda m: (size_bytes(m), drop(m), latency_ms(m), m.key))


def safest(members: Sequence[MemberFigures]) -> MemberFigures:
    """Lowest upper end of the drop's interval; the faster, then the smaller of equals."""

    def worst_drop(member: MemberFigures) -> float:
        figure = deciding(member).drop
        return 0.0 if figure is None else figure.high

    return min(members, key=lambda m: (worst_drop(m), latency_ms(m), size_bytes(m), m.key))


def knee(members: Sequence[MemberFigures]) -> MemberFigures:
    """Nearest to the best of everything: accuracy (5 points deep), log latency, log size, each scaled to [0, 1]."""
    top = max(deciding(member).value for member in members)
    lost = [min((top - deciding(member).value) / KNEE_DEPTH, 1.0) for member in members]
    slow = _scaled([math.log(latency_ms(member)) for member in members])
    large = _scaled([math.log(size_bytes(member)) for member in members])
    distances = [math.hypot(*costs) for costs in zip(lost, slow, large, strict=True)]
    return min(zip(distances, members, strict=True), key=lambda pair: (pair[0], pair[1].key))[1]


def _scaled(values: Sequence[float]) -> list[float]:
    low, high = min(values), max(values)
    return [(value - low) / ((high - low) or 1.0) for value in values]
