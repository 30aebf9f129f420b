"""Designs whose expected gain of hypervolume is largest. Knows the record and what can be foreseen; knows no model.

What can be foreseen (speed, bytes) is taken as it is, and designs beyond a limit on it are not proposed. What cannot is
predicted by Gaussian processes over the features of a design, which learn from stopped evaluations too.
"""

import math
import random
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from evaluators.base import Foreseer, Foresight
from search.front import front, hypervolume
from search.ledger import Trial
from search.record import Record
from search.samplers.gauge import Gauge, Place
from search.samplers.moves import neighbour
from search.samplers.surrogate import Surrogate
from spaces.design import Design, Member
from spaces.objectives import Objective
from spaces.space import Space

# Trials that something can be learned from; those that are learned from, the front first and then the newest.
_LEAST, _MOST = 8, 300
# Designs thought of for each batch: from the front, then round by round around the best of them.
_FIRST, _ROUNDS, _BEST, _AROUND = 48, 2, 6, 5
# Designs proposed from one look at the record, at least, and guesses at what each would come to.
_BATCH, _GUESSES = 4, 5
# Of the best ideas so many compete for each place in a batch.
_PER_PLACE = 4
_LITTLE = 1e-4  # nats, below which nothing shows


Places: TypeAlias = NDArray[np.float64]  # (places, objectives)


@dataclass(frozen=True)
class _Seen:
    trial: Trial
    foresight: Foresight


@dataclass(frozen=True, eq=False)
class _Idea:
    """A design that might be proposed, and the places that it is guessed to come to, from good to bad."""

    design: Design
    member: Member
    guesses: tuple[Place, ...]

    @property
    def middle(self) -> Place:
        return self.guesses[len(self.guesses) // 2]


class Improvement:
    """Proposes designs by what they would add to the front.

    Args:
        record: the trials so far.
        space: what the designs are of.
        foreseer: says what is known beforehand.
        first: proposes designs to begin with, such as children of the front's.
        rng: draws moves.
    """

    def __init__(
        self,
        record: Record,
        space: Space,
        foreseer: Foreseer,
        first: Callable[[], Design | None],
        rng: random.Random,
    ) -> None:
        self._record = record
        self._space = space
        self._foreseer = foreseer
        self._first = first
        self._rng = rng
        self._looked = 0  # at so many of the record's ended trials
        self._seen: list[_Seen] = []
        self._fair = foreseer.foresee(space.decode(space.identity())).figures
        self._unforeseen = [each for each in record.objectives if each.name not in self._fair]
        self._surrogates = {each: Surrogate() for each in self._unforeseen}
        self._pending: dict[str, _Idea] = {}
        self._queue: deque[Design] = deque()

    def __call__(self) -> Design | None:
        """The next design: one of those to begin with before there is much to learn from, or if nothing would gain."""
        if not self._queue:
            self._look()
            self._queue.extend(self._batch())
        return self._queue.popleft() if self._queue else self._first()

    def _look(self) -> None:
        """Take over what has ended since the last look, and forget ideas that were turned down."""
        self._pending = {key: idea for key, idea in self._pending.items() if self._record.knows(key)}
        for trial in map(self._record.trial, self._record.ended[self._looked :]):
            self._pending.pop(trial.key, None)
            if trial.knobs is not None and all(each.name in trial.values for each in self._unforeseen):
                member = self._space.member(trial.decoded, trial.weights)
                self._seen.append(_Seen(trial, self._foreseer.foresee(member)))
        self._looked = len(self._record.ended)

    def _batch(self) -> list[Design]:
        complete = [seen.trial for seen in self._seen if seen.trial.state == "complete"]
        if len(complete) < _LEAST:
            return []
        gauge = Gauge.of(self._record, self._fair, complete)
        self._learn(gauge)
        within = [gauge.place(trial.values) for trial in complete if self._record.violation(trial) == 0]
        points = front([*within, *(idea.middle for idea in self._pending.values())], costs=tuple)
        places = max(_BATCH, len(self._pending) // 2)  # many workers want many designs at once
        ideas, chosen = self._ideas(_below(points, gauge.corner), gauge, places * _PER_PLACE), list[_Idea]()
        while ideas and len(chosen) < places:
            taken = _below(points, gauge.corner)
            gains = [_expected_gain(idea, taken, gauge.corner) for idea in ideas]
            best = max(range(len(ideas)), key=gains.__getitem__)
            if gains[best] <= 0:
                break
            chosen.append(ideas.pop(best))
            points.append(chosen[-1].middle)
        self._pending |= {idea.member.key: idea for idea in chosen}
        return [idea.design for idea in chosen]

    def _learn(self, gauge: Gauge) -> None:
        """Fit the surrogates to the front, and to what came last."""
        places = [gauge.place({**seen.foresight.figures, **seen.trial.values}) for seen in self._seen]
        best = front(range(len(places)), costs=lambda index: places[index])
        used = list(dict.fromkeys([*best[-_MOST // 2 :], *reversed(range(len(places)))]))[:_MOST]
        features = np.array([self._seen[index].foresight.features for index in used])
        for objective, surrogate in self._surrogates.items():
            values = [_left_over(objective, self._seen[index]) for index in used]
            surrogate.fit(features, np.array(values))

    def _ideas(self, points: Places, gauge: Gauge, most: int) -> list[_Idea]:
        """New designs within the limits on what is foreseen, those that should gain most first."""
        gains: dict[_Idea, float] = {}
        known: dict[str, Design] = {}
        thought: Iterable[Design | None] = (self._first() for _ in range(_FIRST))
        for _ in range(_ROUNDS + 1):
            fresh = {design.key: design for design in thought if design is not None}
            fresh = {key: design for key, design in fresh.items() if key not in known}
            known |= fresh
            for idea in self._guessed(list(fresh.values()), gauge):
                gains[idea] = _expected_gain(idea, points, gauge.corner)
            ranked = sorted(gains, key=gains.__getitem__, reverse=True)
            thought = [
                neighbour(idea.design, self._space.knobs, self._rng) for idea in ranked[:_BEST] for _ in range(_AROUND)
            ]
        new: dict[str, _Idea] = {}
        for idea in ranked:
            if len(new) == most:
                break
            if not self._record.knows(idea.member.key):
                new.setdefault(idea.member.key, idea)
        return list(new.values())

    def _guessed(self, designs: Sequence[Design], gauge: Gauge) -> list[_Idea]:
        """Those that are foreseen to be within the limits."""
        members = [self._space.decode(design) for design in designs]
        foresights = [self._foreseer.foresee(member) for member in members]
        known = [each for each in zip(designs, members, foresights, strict=True) if self._allowed(each[2])]
        if not known:
            return []
        guesses = {each: self._guesses(each, [foresight for _, _, foresight in known]) for each in self._unforeseen}
        return [
            _Idea(
                design,
                member,
                tuple(
                    gauge.place({**foresight.figures, **{each.name: guesses[each][index][turn] for each in guesses}})
                    for turn in range(_GUESSES)
                ),
            )
            for index, (design, member, foresight) in enumerate(known)
        ]

    def _guesses(self, objective: Objective, foresights: Sequence[Foresight]) -> list[list[float]]:
        """For each of them evenly likely figures, the best first."""
        mean, deviation = self._surrogates[objective].predict(np.array([each.features for each in foresights]))
        quantiles = norm.ppf((np.arange(_GUESSES) + 0.5) / _GUESSES)
        spread = mean[:, None] + np.outer(deviation, quantiles if objective.goal == "min" else -quantiles)
        firsts = [_first_guess(objective, each) for each in foresights]
        return [
            [_figure(objective, first + left_over) for left_over in row]
            for first, row in zip(firsts, spread.tolist(), strict=True)
        ]

    def _allowed(self, foresight: Foresight) -> bool:
        known = (bound for bound in self._record.bounds if bound.name in foresight.figures)
        return all(bound.excess(foresight.figures[bound.name]) <= 0 for bound in known)


def _expected_gain(idea: _Idea, points: Places, corner: Place) -> float:
    """Mean over the guesses of the volume that the design would add to what `points` dominate below `corner`."""
    return sum(_added(guess, points, corner) for guess in idea.guesses) / len(idea.guesses)


def _added(place: Place, points: Places, corner: Place) -> float:
    """The volume that `place` alone would dominate: all of its own, less what `points` dominate of that."""
    if any(cost >= worst for cost, worst in zip(place, corner, strict=True)):
        return 0.0
    own = math.prod(worst - cost for cost, worst in zip(place, corner, strict=True))
    return own - hypervolume(np.maximum(points, place), corner) if len(points) else own


def _below(points: Sequence[Place], corner: Place) -> Places:
    """Those that dominate something below the corner."""
    kept = [point for point in points if all(cost < worst for cost, worst in zip(point, corner, strict=True))]
    return np.array(kept, dtype=np.float64).reshape(len(kept), len(corner))


def _left_over(objective: Objective, seen: _Seen) -> float:
    """What the first guess leaves to be learned."""
    return _scale(objective, seen.trial.values[objective.name]) - _first_guess(objective, seen.foresight)


def _first_guess(objective: Objective, foresight: Foresight) -> float:
    """On the scale that is learned on; 0 where there is none."""
    known = foresight.expected.get(objective.name)
    return 0.0 if known is None else _scale(objective, known)


def _scale(objective: Objective, value: float) -> float:
    """Shares as they are, everything else by its logarithm."""
    return value if objective.unit == "fraction" else math.log(max(value, 0.0) + _LITTLE)


def _figure(objective: Objective, scaled: float) -> float:
    return scaled if objective.unit == "fraction" else max(0.0, math.exp(scaled) - _LITTLE)
