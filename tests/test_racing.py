"""Ending an evaluation early: what is given up had surely lost, and what is not is scored on all rows."""

import math
import random
from pathlib import Path

import numpy as np
import pytest

from evaluators.base import Race, Score
from evaluators.racing import SURE, ends, least_mean
from evaluators.synthetic import SyntheticEvaluator, synthetic_space
from evaluators.transformer import TransformerEvaluator
from search.front import front
from search.loop import Meter, run
from search.racing import Racing
from search.record import Record
from search.runners.inline import InlineRunner
from search.samplers.auto import AutoSampler
from spaces.axes.pruning import UnitPruningAxis
from spaces.axes.quantization import QuantizationAxis, forget_absent_parts
from spaces.objectives import ACCURACY, KL, LATENCY, SIZE, Bound, Complete, Stopped
from spaces.shape import ModelShape
from spaces.space import Space
from tests.tiny_models import tiny
from tests.tiny_workload import tiny_rows, tiny_workload


@pytest.mark.parametrize(("rows", "batch_size"), [(1500, 1), (512, 1), (512, 48), (40, 1), (33, 32), (1, 4)])
def test_rows_are_looked_at_in_whole_batches_up_to_the_last(rows: int, batch_size: int) -> None:
    looks = ends(rows, batch_size)
    assert looks[-1] == rows
    assert looks == sorted(set(looks))
    assert all(end % batch_size == 0 for end in looks[:-1])


def test_the_first_look_is_at_few_rows() -> None:
    assert ends(1500, 1)[0] <= 1500 / 12


def test_the_mean_of_all_rows_is_rarely_below_what_it_was_said_to_be_at_least() -> None:
    """Divergences are skewed: a few rows change much, most hardly."""
    rng, rows, wrong = np.random.default_rng(0), 512, 0
    for _ in range(2000):
        values = rng.exponential(size=rows) ** 2
        wrong += any(least_mean(values[:end], rows) > values.mean() for end in ends(rows, 1)[:-1])
    assert wrong / 2000 < 0.01


def test_all_rows_leave_nothing_open() -> None:
    values = np.array([0.1, 0.3, 0.2])
    assert least_mean(values, 3) == pytest.approx(0.2)
    assert least_mean(values[:1], 3) == -math.inf
    assert least_mean(values[:2], 3) < 0.2 < SURE


def test_only_rivals_that_are_as_good_in_everything_else_count() -> None:
    race = Race((LATENCY, SIZE), ((0.01, (2.0, 30.0)), (0.05, (1.0, 10.0)), (0.001, (9.0, 90.0))))
    assert race.least({"latency": 2.0, "size": 40.0}) == 0.01
    assert race.least({"latency": 1.5, "size": 10.0}) == 0.05
    assert race.least({"latency": 0.5, "size": 10.0}) == math.inf


def test_a_lost_race_ends_early_and_a_won_one_is_scored_as_without_it() -> None:
    work, rows = tiny_workload(tiny("bert")[0], {"search": tiny_rows(0, 256)}), 256
    space = unit_space(work.template.shape)
    evaluator, rng, stopped = TransformerEvaluator(work), random.Random(0), 0
    for _ in range(6):
        member = space.decode(space.sample(rng))
        alone = evaluator.evaluate(Score(member))
        assert isinstance(alone.outcome, Complete)
        kl = alone.outcome.values["kl"]
        won = evaluator.evaluate(Score(member, race=beating(2 * kl + 1))).outcome
        assert isinstance(won, Complete)
        assert won.extras == pytest.approx(alone.outcome.extras, rel=1e-5, abs=1e-7)
        lost = evaluator.evaluate(Score(member, race=beating(kl / 50))).outcome
        if isinstance(lost, Stopped):
            stopped += 1
            assert lost.n < rows
            assert lost.values["kl"] > kl / 50
            assert all(lost.values[name] == alone.outcome.values[name] for name in ("latency", "size"))
    assert stopped > 0


def beating(kl: float) -> Race:
    """Against one rival that is better in everything else."""
    return Race((LATENCY, SIZE), ((kl, (0.0, 0.0)),))


def unit_space(shape: ModelShape) -> Space:
    groups = [[range(start, start + 16) for start in range(0, shape.ffn, 16)]] * shape.layers
    return Space([UnitPruningAxis(shape, groups), QuantizationAxis(shape, (32, 8))], [forget_absent_parts])


class TestRacing:
    def record(self, folder: Path, trials: int = 30, bounds: tuple[Bound, ...] = ()) -> Record:
        record, space = Record.create(folder, objectives=(KL, LATENCY, SIZE), bounds=bounds), synthetic_space(5)
        sampler = AutoSampler(record, space, seeds=space.seeds(), seed=0, trials=trials)
        run(space, sampler, InlineRunner(SyntheticEvaluator), record, rows=None, meter=Meter(trials))
        return record

    def test_rivals_are_the_front(self, tmp_path: Path) -> None:
        record = self.record(tmp_path)
        race = Racing(record)()
        assert race is not None
        best = front(record.trials(), costs=lambda t: [t.values["kl"], t.values["latency"], t.values["size"]])
        assert {kl for kl, _ in race.rivals} == {trial.values["kl"] for trial in best}
        for trial in record.trials():
            assert (race.least(trial.values) < trial.values["kl"]) == (trial not in best)

    def test_it_follows_the_record(self, tmp_path: Path) -> None:
        record, space = Record.create(tmp_path, objectives=(KL, LATENCY, SIZE), bounds=()), synthetic_space(5)
        racing = Racing(record)
        first = racing()
        assert first is not None
        assert first.rivals == ()
        sampler = AutoSampler(record, space, seeds=space.seeds(), seed=0, trials=12)
        run(space, sampler, InlineRunner(SyntheticEvaluator), record, rows=None, meter=Meter(12), race=racing)
        race = racing()
        assert race is not None
        assert race.rivals

    def test_who_breaks_a_limit_is_nobodys_rival(self, tmp_path: Path) -> None:
        bound = Bound("size", 12e6, "12MB")
        race = Racing(self.record(tmp_path, bounds=(bound,)))()
        assert race is not None
        assert all(costs[1] <= 12e6 for _, costs in race.rivals)

    def test_there_is_no_race_where_accuracy_ranks(self, tmp_path: Path) -> None:
        assert Racing(Record.create(tmp_path, objectives=(ACCURACY, LATENCY), bounds=()))() is None
