"""Words for limits that nothing meets. Knows limits and members' figures; knows nothing of what is picked."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from search.figures import MemberFigures
from spaces.objectives import ACCURACY, Bound

Cost = Callable[[MemberFigures, Bound], float]


def explain(members: Sequence[MemberFigures], bounds: Sequence[Bound], cost: Cost) -> str:
    """The nearest miss per limit, and what would have to give.

    Args:
        members: those that could be picked, at least one.
        bounds: limits that no member meets all together.
        cost: the figure of a member that a limit is held against.
    """
    kind = "verified" if all(member.verified for member in members) else "unverified"
    lines = [f"None of {len(members)} {kind} members meets {' and '.join(wording(bound) for bound in bounds)}."]
    for miss in _misses(members, bounds, cost):
        nearest = "nearest is" if miss.alone else "nearest of all is"
        lines.append(f"  {wording(miss.bound)}: {nearest} {miss.key} at {verdict(miss.bound, miss.value)}")
    return "\n".join([*lines, cure(members, bounds, cost)])


@dataclass(frozen=True)
class _Miss:
    """The member that comes nearest to a limit, of those within all others; `alone` False: of all, there being none."""

    bound: Bound
    value: float
    key: str
    alone: bool


def _misses(members: Sequence[MemberFigures], bounds: Sequence[Bound], cost: Cost) -> list[_Miss]:
    found = []
    for bound in bounds:
        others = [other for other in bounds if other is not bound]
        rest = [m for m in members if all(cost(m, other) <= other.at_most for other in others)]
        value, key = min((cost(member, bound), member.key) for member in rest or members)
        found.append(_Miss(bound, value, key, bool(rest)))
    return found


def verdict(bound: Bound, value: float) -> str:
    """A figure, and how far it is from the limit."""
    excess = bound.excess(value)
    if excess <= 0:
        return f"{_figure(bound, value)}, which is within, but not within the other limits"
    if bound.figure not in ("latency", "size"):
        return f"{_figure(bound, value)}, {(value - bound.at_most) * 100:.2f} pt short"
    return f"{_figure(bound, value)}, " + (f"{excess:.1%} over" if excess < 9 else f"{1 + excess:.0f} times the limit")


def cure(members: Sequence[MemberFigures], bounds: Sequence[Bound], cost: Cost) -> str:
    """The smallest relaxation of one limit that is enough, or of all of them where one is not; see `explain`."""
    reliefs = [
        (miss.bound.excess(miss.value), f"{_option(miss.bound, miss.value)} (would give {miss.key})")
        for miss in _misses(members, bounds, cost)
        if miss.alone
    ]
    if reliefs:
        options = "; or ".join(text for _, text in sorted(reliefs))
        return f"To get a pick, relax one limit, the least change first: {options}."

    def worst(member: MemberFigures) -> tuple[float, str]:
        return max(bound.excess(cost(member, bound)) for bound in bounds), member.key

    member = min(members, key=worst)
    over = [bound for bound in bounds if bound.excess(cost(member, bound)) > 0]
    options = " ".join(_option(bound, cost(member, bound)) for bound in over)
    return f"No limit stands alone in the way: relax {len(over)} of them, {options} (would give {member.key})."


def wording(bound: Bound) -> str:
    """A limit as people read it."""
    if bound.name == ACCURACY.name:
        return f"accuracy >= {bound.asked}"
    return f"{bound.name.replace('_', ' ')} <= {bound.asked}"


def _figure(bound: Bound, value: float) -> str:
    """A cost as people read it."""
    match bound.figure:
        case "latency":
            return f"{value:.3g} ms"
        case "size":
            return f"{value / 1e6:.3g} MB"
        case _ if bound.of_answers:
            return f"{value * 100:.2f} pt"
        case _:
            return f"{ACCURACY.cost(value):.4f}"


def _option(bound: Bound, value: float) -> str:
    """The flag that would just let `value` through."""
    match bound.figure:
        case "latency" if not math.isfinite(value):
            return f"a measurement at {bound.target}"
        case "latency":
            return f"--max-latency {'' if bound.target is None else bound.target + '='}{_round_up(value)}ms"
        case "size":
            return f"--max-size {_round_up(value / 1e6)}MB"
        case name if bound.of_answers and not math.isfinite(value):
            return f"a run that counts {name.replace('_', ' ')}"
        case name if bound.of_answers:
            return f"--max-{name.replace('_', '-')} {max(math.ceil(value * 1e4) / 100, 0):g}pt"
        case _:
            return f"--min-accuracy {math.floor(ACCURACY.cost(value) * 1e4) / 1e4:g}"


def _round_up(value: float) -> str:
    """Three significant digits, never below `value`."""
    step = 10.0 ** (math.floor(math.log10(value)) - 2)
    return f"{math.ceil(value / step - 1e-9) * step:.6g}"
