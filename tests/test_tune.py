"""Trials of people's own Tune scripts in our record: complete ones, and all that can go wrong with one."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from evaluators.base import Score
from evaluators.synthetic import SyntheticEvaluator, synthetic_space
from search.front import front
from search.record import Record
from search.samplers.optuna_bridge import OptunaSampler
from search.samplers.optuna_bridge import random as random_sampler
from spaces.objectives import KL, LATENCY, SIZE, Complete
from tests.worker_evaluators import Unreliable

pytestmark = [pytest.mark.ray, pytest.mark.slow]
SPACE = synthetic_space()
TRIALS = 50


@pytest.fixture
def ray_here(tmp_path: Path) -> Iterator[Any]:
    ray = pytest.importorskip("ray")
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    yield ray
    ray.shutdown()


@pytest.mark.usefixtures("ray_here")
def test_trials_that_fail_or_report_nonsense_end_as_failed_and_the_front_is_right(tmp_path: Path) -> None:
    from ray import tune

    from search.tune import DesignSearcher, DesignTrainable

    record = Record.create(tmp_path, objectives=(KL, LATENCY, SIZE), bounds=())
    sampler = OptunaSampler(record, SPACE, random_sampler, seed=0)
    tune.Tuner(
        tune.with_resources(tune.with_parameters(DesignTrainable, make=Unreliable, space=SPACE, rows=64), {"cpu": 1}),
        tune_config=tune.TuneConfig(
            search_alg=DesignSearcher(record, SPACE, sampler), num_samples=TRIALS, reuse_actors=True
        ),
        run_config=tune.RunConfig(storage_path=str(tmp_path / "tune"), verbose=0),
    ).fit()
    record.abandon()
    trials = Record.open(tmp_path).trials()
    assert [trial.state for trial in trials].count("running") == 0
    assert len(trials) == TRIALS
    kinds = {(trial.error or "").partition(":")[0] for trial in trials if trial.state == "failed"}
    assert kinds == {"RuntimeError", "metric_missing", "nan"}
    complete = [trial for trial in trials if trial.state == "complete"]
    true = {}
    for trial in complete:
        outcome = SyntheticEvaluator().evaluate(Score(SPACE.member(trial.decoded, trial.weights))).outcome
        assert isinstance(outcome, Complete)
        true[trial.key] = {each.name: outcome.values[each.name] for each in record.objectives}
        assert trial.values == pytest.approx(true[trial.key])

    def keys(figures: Mapping[str, Mapping[str, float]]) -> set[str]:
        """Of the trials that nothing dominates."""
        best = front(complete, lambda trial: [each.cost(figures[trial.key][each.name]) for each in record.objectives])
        return {trial.key for trial in best}

    assert keys({trial.key: trial.values for trial in complete}) == keys(true)
