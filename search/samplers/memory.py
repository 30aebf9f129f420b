"""What Optuna's samplers think with: a study in memory that mirrors a record's. Knows Optuna; evaluates nothing.

Asking writes nothing to the run's storage. A sampler of bounded memory takes as long for trial 2,000 as for trial 400.
"""

from collections.abc import Mapping

import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseGASampler, BaseSampler
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from search.front import front
from search.record import Record
from search.samplers.steered import Steered
from spaces.design import Design

# The newest so many trials, as many of the front, and the newer ones until they are as many again.
REMEMBERED = 100


class Memory:
    """Ended trials of a record's newest study, as one sampler sees them.

    A genetic algorithm keeps all of them, because its generations refer to each other.

    Args:
        record: is followed.
        sampler: proposes.
        distributions: of all knobs.
        remembered: how many trials count as new, and as good, when the others are forgotten.
    """

    def __init__(
        self,
        record: Record,
        sampler: BaseSampler,
        distributions: Mapping[str, BaseDistribution],
        remembered: int = REMEMBERED,
    ) -> None:
        self._record = record
        self._distributions = dict(distributions)
        self._steered = Steered(sampler, distributions)
        self._breeds = isinstance(sampler, BaseGASampler)
        self._remembered = remembered
        self._taken = 0  # of the record's ended trials
        self._trials: list[FrozenTrial] = []
        self._study = self._filled([])

    def propose(self) -> FrozenTrial:
        """What the sampler would try next, as a running trial of no study."""
        self._catch_up()
        number = self._study.ask(self._distributions).number
        asked = self._study.get_trials(deepcopy=False)[number]
        self._study.tell(number, state=TrialState.FAIL)  # what becomes of it comes back through the record
        return self._running(asked.params, asked.system_attrs)

    def enter(self, design: Design) -> FrozenTrial:
        """A design of somebody else as such a trial; of a genetic algorithm's current generation, if it is one."""
        if not self._breeds:
            return self._running(design, {})
        with self._steered.towards(design):
            return self.propose()

    def _running(self, params: Mapping[str, object], attributes: Mapping[str, object]) -> FrozenTrial:
        return optuna.trial.create_trial(
            state=TrialState.RUNNING,
            params=dict(params),
            distributions=self._distributions,
            system_attrs=dict(attributes),
        )

    def _catch_up(self) -> None:
        """Take over what has ended since the last look; forget what is neither new nor good."""
        for ended in self._record.ended[self._taken :]:
            if ended.state != TrialState.FAIL and ended.distributions == self._distributions:
                self._trials.append(_plain(ended))
                self._study.add_trial(self._trials[-1])
        self._taken = len(self._record.ended)
        if len(self._trials) > 3 * self._remembered and not self._breeds:
            older, newest = self._trials[: -self._remembered], self._trials[-self._remembered :]
            self._trials = [*self._best(older)[-self._remembered :], *newest]
            self._study = self._filled(self._trials)

    def _best(self, trials: list[FrozenTrial]) -> list[FrozenTrial]:
        signs = [1.0 if direction == StudyDirection.MINIMIZE else -1.0 for direction in self._study.directions]
        complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
        return front(complete, costs=lambda t: [s * value for s, value in zip(signs, t.values, strict=True)])

    def _filled(self, trials: list[FrozenTrial]) -> optuna.Study:
        study = optuna.create_study(directions=self._record.study.directions, sampler=self._steered)
        study.add_trials(trials)
        return study


def _plain(trial: FrozenTrial) -> FrozenTrial:
    """The same without what samplers do not read."""
    return optuna.trial.create_trial(
        state=trial.state,
        values=trial.values,
        params=trial.params,
        distributions=trial.distributions,
        system_attrs=trial.system_attrs,
    )
