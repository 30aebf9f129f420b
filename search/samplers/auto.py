"""The default sampler: TPE and small moves around the front, in turn. Knows the record; knows nothing of models.

TPE finds the region, moves polish what is there; seeds do more than either (architecture.md, section 6).
"""

import random
from collections.abc import Sequence

from search.front import front
from search.ledger import Trial
from search.record import Record
from search.samplers.moves import neighbour
from search.samplers.optuna_bridge import BATCH, OptunaSampler, tpe
from spaces.design import Design
from spaces.objectives import Evaluation
from spaces.space import Space

# Parents while nothing meets the limits: the trials that come nearest.
_NEAREST = 5


class FrontMoves:
    """Neighbours of designs on the current front.

    Args:
        record: the trials so far.
        space: what the designs are of.
        rng: draws parents and moves.
    """

    def __init__(self, record: Record, space: Space, rng: random.Random) -> None:
        self._record = record
        self._space = space
        self._rng = rng

    def __call__(self) -> Design | None:
        """A neighbour of a random parent; None before any trial is complete."""
        parents = self._parents()
        if not parents:
            return None
        knobs = self._rng.choice(parents).knobs
        assert knobs is not None
        return neighbour(Design(knobs), self._space.knobs, self._rng)

    def _parents(self) -> list[Trial]:
        """The front of the trials within the limits, or the trials nearest to them."""
        complete = [trial for trial in self._record.trials() if trial.state == "complete" and trial.knobs is not None]
        within = [trial for trial in complete if self._record.violation(trial) == 0]
        if within:
            return front(within, costs=self._costs)
        return sorted(complete, key=self._record.violation)[:_NEAREST]

    def _costs(self, trial: Trial) -> list[float]:
        return [objective.cost(trial.values[objective.name]) for objective in self._record.objectives]


class AutoSampler:
    """Seeds, then TPE's proposals and moves around the front in turn; arguments as of OptunaSampler."""

    def __init__(
        self,
        record: Record,
        space: Space,
        *,
        seeds: Sequence[Design] = (),
        seed: int,
        batch: int = BATCH,
        trials: int | None = None,
    ) -> None:
        moves = FrontMoves(record, space, random.Random(seed + len(record.trials())))
        self._bridge = OptunaSampler(
            record, space, tpe, seeds=seeds, seed=seed, batch=batch, trials=trials, alternative=moves
        )

    def ask(self) -> Design | None:
        return self._bridge.ask()

    def tell(self, evaluation: Evaluation) -> None:
        self._bridge.tell(evaluation)
