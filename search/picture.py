"""What the picture of a front shows, as points. Knows figures and trials; draws nothing."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from search.figures import Estimate, MemberFigures
from search.front_file import FrontFile
from search.trials import TrialRow
from search.wording import Words, said
from spaces.objectives import AGREEMENT, Bound, Limit

Axis = Literal["latency", "size"]
AXES: tuple[Axis, ...] = ("latency", "size")
_UNITS = {"latency": 1.0, "size": 1e6}  # ms, and bytes in a MB


@dataclass(frozen=True)
class Point:
    """A model: its cost in ms or MB, its drop against `fair` in points with the 95 % interval where known."""

    cost: float
    drop: float
    low: float
    high: float
    name: str = ""


@dataclass(frozen=True)
class Panel:
    """Accuracy drop against one cost.

    Args:
        axis: the cost.
        verified: whether `members` are figures on confirm; otherwise all are on search.
        members: verified members, or all of them while none is verified.
        others: unverified members and dominated trials, on search rows.
        baselines: named ones with both figures.
        picks: members with the names they were picked under.
        steps: corners of the line through the members that no other beats in this panel.
        cost_limit: in ms or MB.
        drop_limit: in points.
        words: for what is lost.
    """

    axis: Axis
    verified: bool
    members: tuple[Point, ...]
    others: tuple[Point, ...]
    baselines: tuple[Point, ...]
    picks: tuple[Point, ...]
    steps: tuple[tuple[float, float], ...]
    cost_limit: float | None
    drop_limit: float | None
    words: Words

    @property
    def points(self) -> tuple[Point, ...]:
        """Everything that is drawn."""
        return self.members + self.others + self.baselines


def panel(axis: Axis, front: FrontFile, trials: Sequence[TrialRow]) -> Panel:
    """The figures that a panel shows."""
    verified = [member for member in front.members if member.verified and member.kind == "single"]
    unverified = [member for member in front.members if not member.verified]
    members = _points(verified or unverified, axis)
    named = [point for name, member in front.baselines.items() for point in _point(member, axis, name)]
    limits = {
        bound.name: bound.at_most
        for bound in known_bounds(front)
        if bound.name != "latency" or bound.statistic == "mean"
    }
    return Panel(
        axis=axis,
        verified=bool(verified),
        members=members,
        others=(_points(unverified, axis) if verified else ()) + _dominated(axis, front, trials),
        baselines=tuple(named),
        picks=_picks(front, members),
        steps=staircase([(point.cost, point.drop) for point in members]),
        cost_limit=limits[axis] / _UNITS[axis] if axis in limits else None,
        drop_limit=100 * limits[on_drop] if (on_drop := limit_on_drop(front)) in limits else None,
        words=said(front.metric),
    )


def known_bounds(front: FrontFile) -> tuple[Bound, ...]:
    """The limits in absolute units, without shares of a figure of `fair` that an interrupted run does not have yet."""
    known = front.fair_figures()
    asked = {
        name: text
        for name, text in front.limits.items()
        if not Limit.parse(name, text).relative or name.removesuffix("_drop") in known
    }
    return front.bounds(asked)


def staircase(points: Iterable[tuple[float, float]]) -> tuple[tuple[float, float], ...]:
    """The points that no other beats in both coordinates (smaller is better), from left to right."""
    steps: list[tuple[float, float]] = []
    for x, y in sorted(points):
        if not steps or y < steps[-1][1]:
            steps.append((x, y))
    return tuple(steps)


def limit_on_drop(front: FrontFile) -> str:
    """The limit that is on the picture's vertical axis."""
    return "disagreement" if front.metric == AGREEMENT else "accuracy_drop"


def _points(members: Iterable[MemberFigures], axis: Axis) -> tuple[Point, ...]:
    return tuple(point for member in members for point in _point(member, axis, member.key))


def _point(member: MemberFigures, axis: Axis, name: str) -> list[Point]:
    """The member as a point, or nothing where one of its two figures is unknown."""
    scored = member.accuracy.get("confirm") or member.accuracy.get("search")
    cost = (member.latency and member.latency.mean_ms) if axis == "latency" else (member.size and member.size.bytes)
    if not cost or scored is None:
        return []
    drop = Estimate(0.0, 0.0, 0.0) if name == "fair" else scored.drop
    return [] if drop is None else [Point(cost / _UNITS[axis], 100 * drop.value, 100 * drop.low, 100 * drop.high, name)]


def _dominated(axis: Axis, front: FrontFile, trials: Sequence[TrialRow]) -> tuple[Point, ...]:
    """Trials that are no members, where the search recorded their drop."""
    known = {member.key for member in front.members}
    points = []
    for trial in trials:
        drop, cost = trial.extras.get("accuracy_drop"), trial.objectives.get(axis)
        if trial.key not in known and drop is not None and cost:
            points.append(Point(cost / _UNITS[axis], 100 * drop, 100 * drop, 100 * drop))
    return tuple(points)


def _picks(front: FrontFile, members: Sequence[Point]) -> tuple[Point, ...]:
    names: dict[str, list[str]] = {}
    for pick in front.picks:
        names.setdefault(pick.key or "", []).append(pick.name)
    return tuple(
        Point(point.cost, point.drop, point.low, point.high, ", ".join(names[point.name]).replace("_", " "))
        for point in members
        if point.name in names
    )
