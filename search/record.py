"""The run's only record: Optuna studies in one storage. Knows trials and their states; knows nothing of who asks.

One study per encoding and set of limits (`search`, `search-2`, ...): reading is over their union, writing goes to the
newest. Reading never changes anything, so a search can be watched while it runs.
"""

import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import asdict
from pathlib import Path
from typing import Any, Self, TypeAlias

import optuna
from optuna.trial import FrozenTrial, TrialState

from search.ledger import Outcome, State, Trial, excesses, to_csv, union
from search.storage import Place
from spaces.design import Design, Member
from spaces.errors import RunError
from spaces.objectives import Bound, Complete, Evaluation, Failed, Objective, Stopped
from spaces.whole import write_whole

__all__ = ["Record", "Trial"]

Figures: TypeAlias = Callable[[Trial], Mapping[str, float]]

_DUPLICATES = "duplicates"
_RESULTS = "results"
_STATES: dict[TrialState, State] = {
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "stopped",
    TrialState.FAIL: "failed",
    TrialState.RUNNING: "running",
}


class Record:
    """Trials of one run: written by one driver, read by anyone. Made by `create` and `open`.

    Args:
        place: where the studies are.
        studies: this run's studies, the one that is written to last.
    """

    def __init__(self, place: Place, studies: Sequence[optuna.Study]) -> None:
        self.study = studies[-1]
        self.objectives = tuple(Objective(**fields) for fields in self.study.user_attrs["objectives"])
        self.bounds = tuple(Bound(**fields) for fields in self.study.user_attrs["bounds"])
        # Of other targets, and so other objectives, there may be studies too.
        self._named = {each.study_name: [one["name"] for one in each.user_attrs["objectives"]] for each in studies}
        self._place = place
        self._studies = tuple(studies)
        self._expected: dict[str, FrozenTrial] = {}
        self._read: dict[tuple[str, int], Trial] = {}  # ended, by study and number: these do not change any more
        self._ids: dict[int, int] = {}  # Optuna's, of trials that this record started
        self._ended = [frozen for frozen in _started(self.study) if frozen.state.is_finished()]
        self._keys = {trial.key for trial in self.trials()}

    @classmethod
    def create(
        cls,
        folder: Path,
        *,
        objectives: Sequence[Objective],
        bounds: Sequence[Bound],
        storage: str | None = None,
        study: str = "search",
    ) -> Self:
        """Begin the record of a run.

        Args:
            folder: the run's folder; made if need be.
            objectives: in the order of the study's values.
            bounds: resolved limits, which become constraints.
            storage: an Optuna URL or a journal's path; `study.log` in the folder if None.
            study: name of the encoding.

        Raises:
            RunError: the storage cannot be opened, or holds this run already.
        """
        place = Place(folder, storage, study)
        if place.holds():
            raise RunError(
                f"{storage or folder} already holds a study {study} of {folder.name}. Resume it, or change --out."
            )
        return cls(place, [place.create(objectives, bounds)])

    @classmethod
    def exists(cls, folder: Path, storage: str | None = None, study: str = "search") -> bool:
        """Whether `open` would find a record.

        Raises:
            RunError: the storage cannot be read.
        """
        return Place(folder, storage, study).holds()

    @classmethod
    def open(cls, folder: Path, storage: str | None = None, study: str = "search") -> Self:
        """The record of a run as it stands.

        Raises:
            RunError: there is no such record, or it cannot be read.
        """
        place = Place(folder, storage, study)
        return cls(place, place.load())

    def reopen_with(
        self,
        bounds: Sequence[Bound],
        objectives: Sequence[Objective] | None = None,
        figures: Figures = lambda trial: {},
    ) -> "Record":
        """The same run under other limits, or for other targets: a new study with this one's trials.

        Args:
            bounds: limits that constraints are computed from.
            objectives: in the order of the new study's values; the old ones if None.
            figures: of a complete trial, those that are others now.

        Returns:
            The record that goes on, itself where nothing changes.

        Raises:
            RunError: a trial has no figure for an objective or a limit.
        """
        wanted = self.objectives if objectives is None else tuple(objectives)
        complete = [trial for trial in map(self.trial, self._ended) if trial.state == "complete"]
        changed = {trial.number: dict(figures(trial)) for trial in complete}
        if (tuple(bounds), wanted) == (self.bounds, self.objectives) and not any(changed.values()):
            return self
        new = self._place.create(wanted, bounds)
        for frozen in _started(self.study):
            new.add_trial(self._under(bounds, wanted, frozen, changed.get(frozen.number, {})))
        return Record(self._place, [*self._studies, new])

    def trials(self) -> list[Trial]:
        """Every design that was started, once per member key, in the order of starting."""
        return union(self._kept(frozen, study) for study in self._studies for frozen in _started(study))

    @property
    def ended(self) -> Sequence[FrozenTrial]:
        """The newest study's trials in a final state as Optuna keeps them; those that end from now on come behind."""
        return self._ended

    def trial(self, frozen: FrozenTrial) -> Trial:
        """One of them as a trial of this project."""
        return self._kept(frozen, self.study)

    def finished(self) -> list[Trial]:
        """This encoding's trials in a final state; those of others (recovery, recipes) do not count as designs."""
        own = set(self._place.own())
        return [trial for trial in self.trials() if trial.state != "running" and trial.study in own]

    def interrupted(self) -> list[Trial]:
        """Running trials of the newest study; with no driver at work, those that a dead one left behind."""
        return [
            self._trial(frozen, self.study) for frozen in _started(self.study) if frozen.state == TrialState.RUNNING
        ]

    @property
    def duplicates(self) -> int:
        """Proposals that were thrown away because their member was known; never evaluated."""
        return sum(study.user_attrs.get(_DUPLICATES, 0) for study in self._studies)

    def counts(self) -> dict[str, int]:
        """Trials by state, and the duplicates."""
        states = [trial.state for trial in self.trials()]
        return {**{state: states.count(state) for state in _STATES.values()}, "duplicates": self.duplicates}

    def violation(self, trial: Trial) -> float:
        """By how much a complete trial is over the limits, summed over them; 0 where all hold."""
        return sum(max(0.0, excess) for excess in excesses(self.bounds, trial.values, trial.extras).values())

    def knows(self, key: str) -> bool:
        """Whether the member `key` was started or is expected to be."""
        return key in self._keys

    def expect(self, design: Design, member: Member, trial: FrozenTrial) -> None:
        """A design was proposed; `trial` is what Optuna has to know of it, and is kept once it is started."""
        self._expected[design.key] = trial
        self._keys.add(member.key)

    def count_duplicate(self) -> None:
        """A proposal was thrown away because its member is known."""
        self.study.set_user_attr(_DUPLICATES, self.study.user_attrs.get(_DUPLICATES, 0) + 1)

    def start(
        self,
        design: Design | None,
        member: Member,
        recipe: str | None = None,
        number: int | None = None,
        parents: Sequence[str] = (),
    ) -> int:
        """Write down that a member is about to be evaluated.

        Args:
            design: its knobs; None where there are none.
            member: what will be evaluated.
            recipe: who proposed it; the study's name if None.
            number: its trial, if it was started before.
            parents: keys of the members it was made from.

        Returns:
            The trial's number.
        """
        self._keys.add(member.key)
        if number is not None:
            return number
        known = None if design is None else self._expected.pop(design.key, None)
        trial = known or optuna.trial.create_trial(state=TrialState.RUNNING)
        knobs = {} if design is None or trial.params else {"knobs": dict(design)}
        trial.user_attrs = {
            "key": member.key,
            "decoded": dict(member.decoded),
            "weights": member.weights,
            "recipe": recipe or self._place.study,
            "parents": list(parents),
            **knobs,
        }
        self.study.add_trial(trial)
        added = self.study.get_trials(deepcopy=False)[-1]
        self._ids[added.number] = added._trial_id
        return added.number

    def finish(self, number: int, evaluation: Evaluation) -> Trial:
        """Store what became of a trial; its predictions go to predictions/KEY.npz.

        Returns:
            The trial as it is kept.

        Raises:
            RunError: a complete evaluation lacks an objective, or the figure of a limit.
        """
        trial, outcome = self._live(number), evaluation.outcome
        values = self._values(evaluation.key, outcome) if isinstance(outcome, Complete) else None
        over = excesses(self.bounds, outcome.values, outcome.extras) if isinstance(outcome, Complete) else {}
        if evaluation.predictions is not None:
            write_whole(self._place.folder / "predictions" / f"{evaluation.key}.npz", evaluation.predictions)
        for name, value in _attributes(evaluation).items():
            trial.set_user_attr(name, value)
        # Constraints before the state: Optuna refuses them afterwards, and a second time.
        for name in over.keys() - trial.constraints.keys():
            trial.set_constraint(name, over[name])
        frozen = self.study.tell(number, values, state=_final_state(evaluation))
        self._place.sync()
        self._ended.append(frozen)
        return self.trial(frozen)

    def settle(self, outcome: Outcome) -> None:
        """This study's recipe has ended."""
        self.study.set_user_attr(_RESULTS, asdict(outcome))
        self._place.sync()

    def results(self) -> dict[str, Outcome]:
        """By recipe, what those of this run ended with."""
        settled = {each.study_name: each.user_attrs[_RESULTS] for each in self._studies if _RESULTS in each.user_attrs}
        # Under other limits a recipe's study goes on as NAME-2.
        return {
            re.sub(r"-\d+$", "", self._place.short(name)): Outcome(**{**fields, "keys": tuple(fields["keys"])})
            for name, fields in settled.items()
        }

    def abandon(self) -> None:
        """Give up designs that were expected but never started; their members may be proposed again."""
        self._expected.clear()
        self._keys = {trial.key for trial in self.trials()}

    def knob_importances(self, objective: str) -> dict[str, float]:
        """Share of an objective's variance that each knob explains, largest first (Watanabe et al. 2023, PED-ANOVA)."""
        index = [known.name for known in self.objectives].index(objective)
        cost = self.objectives[index].cost
        evaluator = optuna.importance.PedAnovaImportanceEvaluator()
        with warnings.catch_warnings():
            # It reminds everyone that a small target is meant to be good, which a cost is.
            warnings.filterwarnings("ignore", message="PedAnovaImportanceEvaluator computes", category=UserWarning)
            return optuna.importance.get_param_importances(
                self.study, evaluator=evaluator, target=lambda frozen: cost(frozen.values[index])
            )

    def write_csv(self, path: Path | None = None) -> None:
        """Write trials.csv, in the run's folder unless told otherwise, all of it or nothing."""
        write_whole(
            path or self._place.folder / "trials.csv",
            to_csv(self.trials(), [objective.name for objective in self.objectives]),
        )

    def _live(self, number: int) -> optuna.Trial:
        # Optuna hands out a Trial only when asked; resuming needs one of a trial that exists.
        if number not in self._ids:
            self._ids[number] = self.study.get_trials(deepcopy=False)[number]._trial_id
        return optuna.Trial(self.study, self._ids[number])

    def _values(self, key: str, outcome: Complete) -> list[float]:
        return _in_order(self.objectives, key, outcome.values)

    def _under(
        self,
        bounds: Sequence[Bound],
        objectives: Sequence[Objective],
        frozen: FrozenTrial,
        changed: Mapping[str, float],
    ) -> FrozenTrial:
        copy = deepcopy(frozen)
        copy.system_attrs = {
            name: value for name, value in frozen.system_attrs.items() if not name.startswith("constraints")
        }
        if frozen.state == TrialState.COMPLETE:
            trial = self._trial(frozen, self.study)
            extras, known = {**trial.extras, **changed}, {**trial.extras, **trial.values, **changed}
            copy.user_attrs = {**frozen.user_attrs, "extras": extras}
            copy.values = _in_order(objectives, trial.key, known)
            for name, excess in excesses(bounds, known, extras).items():
                copy.set_constraint(name, excess)
        return copy

    def _kept(self, frozen: FrozenTrial, study: optuna.Study) -> Trial:
        place = study.study_name, frozen.number
        if place in self._read:
            return self._read[place]
        trial = self._trial(frozen, study)
        if frozen.state.is_finished():
            self._read[place] = trial
        return trial

    def _trial(self, frozen: FrozenTrial, study: optuna.Study) -> Trial:
        attributes = frozen.user_attrs
        told = zip(self._named[study.study_name], frozen.values or (), strict=False)
        values = dict(told) if frozen.values else attributes.get("values", {})
        begun = frozen.datetime_start.timestamp() if frozen.datetime_start else None
        started = attributes.get("started", begun)
        seconds = attributes.get("seconds", 0.0)
        return Trial(
            number=frozen.number,
            study=self._place.short(study.study_name),
            state=_STATES[frozen.state],
            key=attributes["key"],
            knobs=frozen.params or attributes.get("knobs"),
            decoded=attributes["decoded"],
            weights=attributes["weights"],
            recipe=attributes["recipe"],
            values=values,
            extras=attributes.get("extras", {}),
            attempts=attributes.get("attempts", 1),
            started=started,
            ended=started + seconds if frozen.state.is_finished() else None,
            seconds=seconds,
            node=attributes.get("node", ""),
            error=attributes.get("error"),
            parents=tuple(attributes.get("parents", ())),
        )


def _in_order(objectives: Sequence[Objective], key: str, values: Mapping[str, float]) -> list[float]:
    missing = [objective.name for objective in objectives if objective.name not in values]
    if missing:
        raise RunError(f"The evaluation of {key} lacks {', '.join(missing)}; found {', '.join(values)}.")
    return [values[objective.name] for objective in objectives]


def _started(study: optuna.Study) -> Iterator[FrozenTrial]:
    """Trials that were submitted; proposals thrown away or still waiting have no key."""
    return (frozen for frozen in study.get_trials(deepcopy=False) if "key" in frozen.user_attrs)


def _attributes(evaluation: Evaluation) -> dict[str, Any]:
    outcome = evaluation.outcome
    known = {
        "attempts": evaluation.attempts,
        "started": evaluation.started,
        "seconds": evaluation.seconds,
        "node": evaluation.node,
    }
    if isinstance(outcome, Complete):
        return {**known, "extras": dict(outcome.extras)}
    if isinstance(outcome, Stopped):
        return {
            **known,
            "values": dict(outcome.values),
            "extras": {"n": outcome.n},
            "error": f"stopped: {outcome.reason}",
        }
    return {**known, "error": f"{outcome.kind}: {outcome.message}"}


def _final_state(evaluation: Evaluation) -> TrialState:
    if isinstance(evaluation.outcome, Failed):
        return TrialState.FAIL
    return TrialState.PRUNED if isinstance(evaluation.outcome, Stopped) else TrialState.COMPLETE
