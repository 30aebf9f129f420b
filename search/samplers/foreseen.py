"""The front as it is foreseen, before any design runs. Knows what can be foreseen; runs nothing.

Where all that is known is what parts cost alone, an expert solves a knapsack for every budget (ModelOpt, ZipLM). Here
an evolution looks for the whole front at once: in the space's own knobs, under its rules and the limits.
"""

import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from evaluators.base import Foreseer
from search.front import contributions, front, hypervolume
from search.record import Record
from search.samplers.gauge import Gauge, Place
from search.samplers.moves import child
from spaces.design import Design, Member
from spaces.space import Space

_ROUNDS, _CHILDREN = 20, 100
# Parents, those that dominate most alone; each has at least this share of the likeliest one's chance.
_PARENTS, _LEAST_CHANCE = 150, 0.02
_NEAREST = 3


@dataclass(frozen=True, eq=False)
class Foreseen:
    """A design, its member, and where it is foreseen to stand (gauge.py)."""

    design: Design
    member: Member
    place: Place


def foreseen_front(
    record: Record, space: Space, foreseer: Foreseer, seeds: Sequence[Design], rng: random.Random
) -> list[Foreseen]:
    """Designs that no other one found is foreseen to beat, within the limits; none where an objective is not foreseen.

    Args:
        record: says objectives and limits.
        space: what designs are of.
        foreseer: says what is known beforehand.
        seeds: where to begin.
        rng: draws parents and moves.
    """
    fair = foreseer.foresee(space.decode(space.identity()))
    if any(each.name not in {**fair.figures, **fair.expected} for each in record.objectives):
        return []
    gauge, seen = Gauge.of(record, fair.figures, []), set[str]()

    def placed(designs: Iterable[Design]) -> Iterator[Foreseen]:
        """Those of a member that was not there before."""
        for design in designs:
            member = space.decode(design)
            if member.key not in seen:
                seen.add(member.key)
                foresight = foreseer.foresee(member)
                yield Foreseen(design, member, gauge.place({**foresight.expected, **foresight.figures}))

    begun = list(placed([space.identity(), *seeds]))
    best = _best(begun, gauge.corner)
    for _ in range(_ROUNDS):
        parents, chances = _parents(best, gauge.corner) if best else _nearest(begun, gauge.corner)
        pairs = (rng.choices(parents, chances, k=2) for _ in range(_CHILDREN))
        children = (child(first.design, second.design, space.knobs, rng) for first, second in pairs)
        best = _best([*best, *placed(children)], gauge.corner)
    return best


def most_volume(foreseen: Sequence[Foreseen], count: int) -> list[Foreseen]:
    """`count` of them that dominate much together, one after the other the one that adds most."""
    left, chosen = list(foreseen), list[Foreseen]()
    while left and len(chosen) < count:
        places = [each.place for each in chosen]
        volumes = [hypervolume([*places, each.place], (1.0,) * len(each.place)) for each in left]
        chosen.append(left.pop(max(range(len(left)), key=volumes.__getitem__)))
    return chosen


def _best(foreseen: Sequence[Foreseen], corner: Place) -> list[Foreseen]:
    """The front of those that are better than the corner."""
    inside = [one for one in foreseen if all(cost < worst for cost, worst in zip(one.place, corner, strict=True))]
    return front(inside, costs=lambda one: one.place)


def _parents(best: Sequence[Foreseen], corner: Place) -> tuple[list[Foreseen], list[float]]:
    """Those that dominate most alone, with their chances."""
    alone = contributions([one.place for one in best], corner)
    ranked = sorted(zip(alone, best, strict=True), key=lambda pair: -pair[0])[:_PARENTS]
    least = _LEAST_CHANCE * ranked[0][0] or 1.0
    return [one for _, one in ranked], [max(volume, least) for volume, _ in ranked]


def _nearest(begun: Sequence[Foreseen], corner: Place) -> tuple[list[Foreseen], list[float]]:
    """Where none is better than the corner, those that lack least, with equal chances."""
    ranked = sorted(begun, key=lambda one: max(cost - worst for cost, worst in zip(one.place, corner, strict=True)))
    return ranked[:_NEAREST], [1.0] * len(ranked[:_NEAREST])
