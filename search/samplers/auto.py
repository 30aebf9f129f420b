"""The default sampler: what a surrogate expects most of, and TPE for every fifth design. Knows the record, no model.

It begins with a few uniform designs and with those that are foreseen to make the best front. TPE finds regions that
nobody thought of. Without foresight, slightly changed children of front members fill the front.
"""

import math
import random
from collections.abc import Sequence

from evaluators.base import Foreseer
from search.front import contributions, front
from search.ledger import Trial
from search.record import Record
from search.samplers.foreseen import foreseen_front, most_volume
from search.samplers.improvement import Improvement
from search.samplers.moves import child
from search.samplers.optuna_bridge import BATCH, OptunaSampler, Propose, seed_places, spread, tpe
from spaces.design import Design
from spaces.objectives import Evaluation
from spaces.space import Space

# Every parent has at least this share of the likeliest one's chance.
_LEAST_CHANCE = 0.02
# Beyond the worst figure of the front (1), so that its ends count too.
_REFERENCE = 1.1
# Where a figure is 0.
_ALMOST_NOTHING = 1e-9
# Trials by which TPE, one voice among others here, goes in long searches: it takes half of the time else.
_REMEMBERED = 40
# Parents while nothing meets the limits: the trials that come nearest.
_NEAREST = 5


class FrontMoves:
    """Children of designs on the current front, slightly changed.

    Args:
        record: the trials so far.
        space: what the designs are of.
        rng: draws parents and moves.
    """

    def __init__(self, record: Record, space: Space, rng: random.Random) -> None:
        self._record = record
        self._space = space
        self._rng = rng
        self._looked = 0  # at so many of the record's ended trials
        self._within: list[Trial] = []  # the front of those within the limits
        self._nearest: list[Trial] = []  # of the others, those that come nearest
        self._chances: list[float] = []

    def __call__(self) -> Design | None:
        """A child of two parents; None before any trial is complete."""
        self._look()
        parents = self._within or self._nearest
        if not parents:
            return None
        first, second = (Design(t.knobs or {}) for t in self._rng.choices(parents, self._chances, k=2))
        return child(first, second, self._space.knobs, self._rng)

    def _look(self) -> None:
        """Take the front of the trials within the limits as parents, or the trials nearest to them.

        Chances go by the volume that a member alone dominates: where the front is crowded, as it is among designs that
        hardly differ from the original, another one is worth little.
        """
        new = [self._record.trial(frozen) for frozen in self._record.ended[self._looked :]]
        self._looked = len(self._record.ended)
        new = [trial for trial in new if trial.state == "complete" and trial.knobs is not None]
        if not new:
            return
        judged = [(self._record.violation(trial), trial) for trial in new]
        within = [trial for violation, trial in judged if violation == 0]
        beyond = [*self._nearest, *(trial for violation, trial in judged if violation > 0)]
        self._within = front([*self._within, *within], costs=self._costs)
        self._nearest = sorted(beyond, key=self._record.violation)[:_NEAREST]
        self._chances = self._weights(self._within) if self._within else [1.0] * len(self._nearest)

    def _weights(self, trials: Sequence[Trial]) -> list[float]:
        columns = [_scaled([o.cost(t.values[o.name]) for t in trials], o.unit) for o in self._record.objectives]
        alone = contributions(list(zip(*columns, strict=True)), (_REFERENCE,) * len(columns))
        least = max(alone, default=1.0) * _LEAST_CHANCE or 1.0
        return [max(volume, least) for volume in alone]

    def _costs(self, trial: Trial) -> list[float]:
        return [objective.cost(trial.values[objective.name]) for objective in self._record.objectives]


class AutoSampler:
    """Seeds, then four designs that should improve the front for each proposal of TPE.

    Args:
        record, space, seed, batch, trials: as for OptunaSampler.
        seeds: likewise; where a front is foreseen, two thirds of their places are its.
        foreseer: says what is known of designs beforehand; None: the four are children of the front, as they come.
    """

    def __init__(
        self,
        record: Record,
        space: Space,
        *,
        seeds: Sequence[Design] = (),
        seed: int,
        batch: int = BATCH,
        trials: int | None = None,
        foreseer: Foreseer | None = None,
    ) -> None:
        rng = random.Random(seed + len(record.trials()))
        alternative: Propose = FrontMoves(record, space, rng)
        first = spread(seeds, trials)
        if foreseer is not None:
            foreseen = foreseen_front(record, space, foreseer, seeds, random.Random(seed))
            alternative = Improvement(record, space, foreseer, alternative, rng)
            if foreseen:
                places = len(seeds) if trials is None else seed_places(trials)
                first = spread(seeds, places)
                first += [each.design for each in most_volume(foreseen, places - len(first))]
        self._bridge = OptunaSampler(
            record,
            space,
            tpe,
            seeds=first,
            seed=seed,
            batch=batch,
            alternative=alternative,
            remembered=_REMEMBERED,
        )

    def ask(self) -> Design | None:
        return self._bridge.ask()

    def tell(self, evaluation: Evaluation) -> None:
        self._bridge.tell(evaluation)


def _scaled(costs: Sequence[float], unit: str) -> list[float]:
    """Costs from 0 (best) to 1, even for equal factors of time and bytes; accuracy is about linear in divergence."""
    if unit in ("ms", "bytes"):
        costs = [math.log(max(cost, _ALMOST_NOTHING)) for cost in costs]
    low, high = min(costs), max(costs)
    return [(cost - low) / ((high - low) or 1.0) for cost in costs]
