"""Figures on the axes of the hypervolume that a run reports, as costs. Knows objectives and limits; knows no designs.

On every axis 0 is the best that counts and 1 the worst: five points of accuracy lost, and the original's speed and
bytes, which five doublings divide. Divergence stands on accuracy's axis by what it has cost so far. Answers change with
its root: logits that move a little by s diverge by s^2, and change the answers whose margin is below s. So a limit on
changed answers ends the axis where the root has cost as much.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import TypeAlias

from search.front import ACCURACY_RANGE, DOUBLINGS
from search.ledger import Trial
from search.record import Record
from spaces.objectives import ACCURACY, KL, SHARES, Objective, most_lost

Place: TypeAlias = tuple[float, ...]

# Where no trial has lost anything yet.
_DROP_PER_NAT = 0.2
# Likewise of answers, by the root of a nat: three fine-tuned MiniLMs changed 0.25 to 0.35.
_CHANGED_PER_ROOT = 0.3
_LITTLE = 1e-4


@dataclass(frozen=True)
class Gauge:
    """How figures are placed.

    Args:
        objectives: in the order of a place.
        fair: the original's figures.
        drop_per_nat: share of accuracy that goes with a nat of divergence.
        corner: the worst place that counts, under the limits.
    """

    objectives: tuple[Objective, ...]
    fair: Mapping[str, float]
    drop_per_nat: float
    corner: Place

    @classmethod
    def of(cls, record: Record, fair: Mapping[str, float], complete: Sequence[Trial]) -> "Gauge":
        """For a record's objectives and limits.

        Args:
            record: says them.
            fair: the original's figures, as far as they were foreseen.
            complete: trials to learn from what divergence costs; of other figures, the best accuracy among them and the
                worst of everything else stand for the original's.
        """
        told = {each.name: [trial.values[each.name] for trial in complete] for each in record.objectives}
        known = {name: max(values, default=1.0) for name, values in told.items()}
        gauge = cls(record.objectives, {**known, **fair}, drop_per_nat(complete), ())
        bounds = {bound.name: bound.at_most for bound in record.bounds}
        lost = most_lost(record.bounds)
        known = bounds if lost is None else {**bounds, "accuracy_drop": lost}
        diverging = min(
            (most_diverging(name, bounds[name], complete) for name in SHARES if name in bounds), default=math.inf
        )
        return replace(gauge, corner=tuple(gauge._worst(each, known, diverging) for each in record.objectives))

    def place(self, figures: Mapping[str, float]) -> Place:
        """One cost per objective."""
        return tuple(self._cost(objective, figures[objective.name]) for objective in self.objectives)

    def _cost(self, objective: Objective, value: float) -> float:
        if objective == KL:
            return self.drop_per_nat * value / ACCURACY_RANGE
        if objective == ACCURACY:
            return (self.fair[ACCURACY.name] - value) / ACCURACY_RANGE
        times = value / self.fair[objective.name]
        doublings = math.log2(max(times, _LITTLE))
        return 1 + (doublings if objective.goal == "min" else -doublings) / DOUBLINGS

    def _worst(self, objective: Objective, bounds: Mapping[str, float], diverging: float) -> float:
        if objective in (KL, ACCURACY):
            worst = min(1.0, bounds.get("accuracy_drop", math.inf) / ACCURACY_RANGE)
            return min(worst, self._cost(KL, diverging)) if objective == KL else worst
        return min(1.0, self._cost(objective, bounds[objective.name])) if objective.name in bounds else 1.0


def most_diverging(name: str, at_most: float, trials: Sequence[Trial]) -> float:
    """Nats of divergence at which so large a share of the answers has changed (a limit of SHARES)."""
    pairs = [(trial.extras.get(name, 0.0), trial.values.get(KL.name, 0.0)) for trial in trials]
    per_root = [share / math.sqrt(kl) for share, kl in pairs if 0 < share <= 2 * ACCURACY_RANGE and kl > 0]
    return (at_most / (median(per_root) if per_root else _CHANGED_PER_ROOT)) ** 2


def drop_per_nat(trials: Sequence[Trial]) -> float:
    """Share of accuracy lost for each nat of divergence, from trials that lose something, but not everything."""
    pairs = [(trial.drop or 0.0, trial.values.get(KL.name, 0.0)) for trial in trials]
    lost = [(drop, kl) for drop, kl in pairs if 0 < drop <= 2 * ACCURACY_RANGE]
    divergence = sum(kl for _, kl in lost)
    return sum(drop for drop, _ in lost) / divergence if divergence > 0 else _DROP_PER_NAT
