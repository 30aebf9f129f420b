"""What the next design has to beat. Knows the record's front within the limits; knows nothing of how a race is run."""

from evaluators.base import Race
from search.front import front
from search.ledger import Trial
from search.record import Record
from spaces.objectives import KL


class Racing:
    """Races against the front of a record, which it follows.

    Args:
        record: says objectives, limits and trials.
    """

    def __init__(self, record: Record) -> None:
        self._record = record
        self._others = tuple(each for each in record.objectives if each != KL)
        self._looked = 0  # at so many of the record's ended trials
        self._front: list[Trial] = []

    def __call__(self) -> Race | None:
        """The race as it stands; None where divergence is no objective."""
        if KL not in self._record.objectives:
            return None
        new = [self._record.trial(frozen) for frozen in self._record.ended[self._looked :]]
        self._looked = len(self._record.ended)
        new = [trial for trial in new if trial.state == "complete"]
        self._front = front([*self._front, *(t for t in new if not self._record.violation(t))], costs=self._costs)
        rivals = tuple((trial.values[KL.name], tuple(self._costs(trial)[1:])) for trial in self._front)
        return Race(self._others, rivals)

    def _costs(self, trial: Trial) -> list[float]:
        return [each.cost(trial.values[each.name]) for each in (KL, *self._others)]
