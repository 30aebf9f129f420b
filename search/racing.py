"""What the next design has to beat. Knows the record's front and limits; knows nothing of how a race is run."""

from evaluators.base import Race
from search.front import front
from search.ledger import Trial
from search.record import Record
from search.samplers.gauge import drop_per_nat
from spaces.objectives import KL

# Of the divergence that the limit on accuracy allows on the average of what was seen: surely too much.
_TOO_MUCH = 2.0


class Racing:
    """Races against the front of a record, which it follows.

    Args:
        record: says objectives, limits and trials.
    """

    def __init__(self, record: Record) -> None:
        self._record = record
        self._others = tuple(each for each in record.objectives if each != KL)
        self._looked = 0  # at so many of the record's ended trials
        self._complete: list[Trial] = []
        self._front: list[Trial] = []

    def __call__(self) -> Race | None:
        """The race as it stands; None where divergence is no objective."""
        if KL not in self._record.objectives:
            return None
        new = [self._record.trial(frozen) for frozen in self._record.ended[self._looked :]]
        self._looked = len(self._record.ended)
        new = [trial for trial in new if trial.state == "complete"]
        self._complete += new
        self._front = front([*self._front, *(t for t in new if not self._record.violation(t))], costs=self._costs)
        rivals = tuple((trial.values[KL.name], tuple(self._costs(trial)[1:])) for trial in self._front)
        return Race(self._others, rivals, self._most())

    def _costs(self, trial: Trial) -> list[float]:
        return [each.cost(trial.values[each.name]) for each in (KL, *self._others)]

    def _most(self) -> float:
        """The divergence beyond which the limit on accuracy is surely broken."""
        limit = next((bound.at_most for bound in self._record.bounds if bound.name == "accuracy_drop"), None)
        return float("inf") if limit is None else _TOO_MUCH * limit / drop_per_nat(self._complete)
