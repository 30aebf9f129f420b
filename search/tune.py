"""This project's search inside people's own Ray Tune scripts. Knows Tune, the record and the space; knows no models.

    tuner = tune.Tuner(
        tune.with_parameters(DesignTrainable, make=make, space=space, rows=512),
        tune_config=tune.TuneConfig(search_alg=DesignSearcher(record, space, sampler), num_samples=100),
    )

Every trial becomes one of the record, so `paretoformer front`, `report` and `verify` know them like any others. Results
may come from another trainable too: what they report under the objectives' names counts, and one that lacks an
objective or has it not finite is a failed trial of the record, not an error of Tune's.
"""

import math
from collections.abc import Mapping
from typing import Any

from ray.tune.result import AUTO_RESULT_KEYS
from ray.tune.search import Searcher

from evaluators.base import Score
from search.faults import NOT_FINITE, WORKER_LOST
from search.record import Record
from search.runners.base import Make, evaluated
from search.runners.tune import Evaluating, Unsaved
from search.samplers.base import Sampler
from spaces.design import Design
from spaces.objectives import Complete, Evaluation, Failed
from spaces.space import Space

KNOBS = "knobs"
_FAILED_KIND, _FAILED_MESSAGE = "failed_kind", "failed_message"
_MISSING = "metric_missing"


class DesignSearcher(Unsaved):
    """Proposes designs of a sampler as Tune's configurations, `{"knobs": {...}}`.

    Args:
        record: takes every trial.
        space: decodes designs.
        sampler: over the same record.
    """

    def __init__(self, record: Record, space: Space, sampler: Sampler) -> None:
        super().__init__()  # with a metric named, Tune would end where one trial does not report it
        self._record, self._space, self._sampler = record, space, sampler
        self._running: dict[str, tuple[int, str]] = {}

    def suggest(self, trial_id: str) -> Any:
        design = self._sampler.ask()
        if design is None:
            return None if self._running else Searcher.FINISHED
        member = self._space.decode(design)
        self._running[trial_id] = self._record.start(design, member), member.key
        return {KNOBS: dict(design)}

    def on_trial_complete(self, trial_id: str, result: Mapping[str, Any] | None = None, error: bool = False) -> None:
        if trial_id not in self._running:
            return
        number, key = self._running.pop(trial_id)
        evaluation = Evaluation(key, self._outcome({} if error or result is None else result, error))
        self._record.finish(number, evaluation)
        self._sampler.tell(evaluation)

    def _outcome(self, result: Mapping[str, Any], error: bool) -> Complete | Failed:
        if error:
            return Failed(WORKER_LOST, "the trial ended with an error; Tune's log has it")
        if _FAILED_KIND in result:
            return Failed(str(result[_FAILED_KIND]), str(result.get(_FAILED_MESSAGE, "")))
        numbers = {name: value for name, value in result.items() if type(value) in (int, float)}
        figures = {name: float(value) for name, value in numbers.items() if name not in AUTO_RESULT_KEYS}
        for objective in self._record.objectives:
            if objective.name not in figures:
                return Failed(_MISSING, f"the trial reported no {objective.name}")
            if not math.isfinite(figures[objective.name]):
                return Failed(NOT_FINITE, f"{objective.name}={figures[objective.name]} is not finite")
        finite = {name: value for name, value in figures.items() if math.isfinite(value)}
        return Complete({each.name: finite[each.name] for each in self._record.objectives}, finite)


class DesignTrainable(Evaluating):
    """Evaluates the design of its configuration."""

    def setup(  # type: ignore[override]
        self, config: Mapping[str, Any], make: Make, space: Space, rows: int | None = None
    ) -> None:
        super().setup(config, make)
        self._space, self._rows = space, rows

    def step(self) -> dict[str, Any]:
        member = self._space.decode(Design(self.config[KNOBS]))
        outcome = evaluated(self.evaluator, Score(member, self._rows)).outcome
        if isinstance(outcome, Failed):
            return {_FAILED_KIND: outcome.kind, _FAILED_MESSAGE: outcome.message, "done": True}
        figures = {**(outcome.extras if isinstance(outcome, Complete) else {}), **outcome.values}
        return {**figures, "done": True}
