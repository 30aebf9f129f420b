import importlib.util
import math
import random as random_module
from dataclasses import replace
from pathlib import Path

import optuna
import pytest

from evaluators.base import Job, Score
from evaluators.synthetic import (
    BYTES,
    MILLISECONDS,
    NATS,
    SyntheticConfig,
    SyntheticEvaluator,
    SyntheticForesight,
    synthetic_space,
)
from search.loop import Meter, run
from search.record import Record
from search.runners.inline import InlineRunner
from search.samplers.auto import AutoSampler
from search.samplers.base import Sampler
from search.samplers.moves import child, crossed, neighbour
from search.samplers.optuna_bridge import MakeSampler, OptunaSampler, gp, nsga2, random, spread, tpe
from search.samplers.steered import distribution, on_grid
from spaces.design import Design
from spaces.errors import ConfigError
from spaces.knobs import Choice, FloatRange, IntRange, Knob
from spaces.objectives import ACCURACY, KL, LATENCY, SIZE, Bound, Complete, Evaluation
from spaces.space import Space
from tests.contracts.sampler import SamplerContract

OBJECTIVES = (KL, LATENCY, SIZE)


class TestRandom(SamplerContract):
    def make_sampler(self, record: Record, space: Space, seed: int) -> Sampler:
        return OptunaSampler(record, space, random, seeds=space.seeds(), seed=seed, trials=24)


class TestNsga2(SamplerContract):
    def make_sampler(self, record: Record, space: Space, seed: int) -> Sampler:
        return OptunaSampler(record, space, nsga2, seeds=space.seeds(), seed=seed, trials=24)


class TestTpe(SamplerContract):
    def make_sampler(self, record: Record, space: Space, seed: int) -> Sampler:
        return OptunaSampler(record, space, tpe, seeds=space.seeds(), seed=seed, trials=24)


class TestAuto(SamplerContract):
    def make_sampler(self, record: Record, space: Space, seed: int) -> Sampler:
        return AutoSampler(record, space, seeds=space.seeds(), seed=seed, trials=24)


class TestAutoWithForesight(SamplerContract):
    def make_sampler(self, record: Record, space: Space, seed: int) -> Sampler:
        return AutoSampler(record, space, seeds=space.seeds(), seed=seed, trials=24, foreseer=SyntheticForesight())


def new_record(folder: Path, bounds: tuple[Bound, ...] = ()) -> Record:
    return Record.create(folder, objectives=OBJECTIVES, bounds=bounds)


def late_distance(record: Record) -> float:
    """Mean distance from the origin of the last 15 designs, in the problem's own units; 1 on the true front."""
    points = [
        (trial.values["kl"] / NATS, trial.values["latency"] / MILLISECONDS, trial.values["size"] / BYTES)
        for trial in record.trials()[-15:]
    ]
    return sum(math.hypot(*point) for point in points) / len(points)


def searched(folder: Path, make: MakeSampler | None, trials: int, seed: int = 0) -> Record:
    record, space = new_record(folder), synthetic_space(16)
    sampler: Sampler = (
        AutoSampler(record, space, seeds=space.seeds(), seed=seed, trials=trials)
        if make is None
        else OptunaSampler(record, space, make, seeds=space.seeds(), seed=seed, trials=trials)
    )
    run(space, sampler, InlineRunner(SyntheticEvaluator), record, rows=None, meter=Meter(trials))
    return record


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> float:
    return late_distance(searched(tmp_path_factory.mktemp("random"), random, 45))


@pytest.mark.parametrize("make", [nsga2, tpe, None], ids=["nsga2", "tpe", "auto"])
def test_searching_comes_nearer_to_the_true_front_than_drawing(
    tmp_path: Path, make: MakeSampler | None, drawn: float
) -> None:
    assert 1 <= late_distance(searched(tmp_path, make, 45)) < drawn


def test_designs_beyond_a_limit_that_can_be_foreseen_are_hardly_evaluated(tmp_path: Path) -> None:
    record, space = new_record(tmp_path, (Bound("size", 8e6, "8MB"),)), synthetic_space(8)
    sampler = AutoSampler(record, space, seeds=space.seeds(), seed=0, trials=60, foreseer=SyntheticForesight())
    run(space, sampler, InlineRunner(SyntheticEvaluator), record, rows=None, meter=Meter(60))
    after_seeds = [trial.values["size"] for trial in record.trials()[len(space.seeds()) + 8 :]]
    assert sum(size <= 1.25 * 8e6 for size in after_seeds) >= 0.8 * len(after_seeds)


class Coarse:
    """The same problem told as an accuracy in steps of a tenth of its range: most designs tie with others."""

    def evaluate(self, job: Job) -> Evaluation:
        known = SyntheticEvaluator().evaluate(job)
        assert isinstance(known.outcome, Complete)
        values = {**known.outcome.values, "accuracy": 1 - round(known.outcome.values["kl"] / NATS, 1) / 5}
        return replace(known, outcome=replace(known.outcome, values=values))


def test_ties_of_accuracy_do_not_stop_the_default_sampler(tmp_path: Path) -> None:
    distance = dict[bool, float]()
    space = synthetic_space(16)
    for led in (True, False):
        record = Record.create(tmp_path / str(led), objectives=(ACCURACY, LATENCY, SIZE), bounds=())
        sampler: Sampler = (
            AutoSampler(record, space, seeds=space.seeds(), seed=0, trials=45)
            if led
            else OptunaSampler(record, space, random, seeds=space.seeds(), seed=0, trials=45)
        )
        run(space, sampler, InlineRunner(Coarse), record, rows=None, meter=Meter(45))
        late = record.trials()[-15:]
        lost = [5 * (1 - trial.values["accuracy"]) for trial in late]
        costs = [(trial.values["latency"] / MILLISECONDS, trial.values["size"] / BYTES) for trial in late]
        distance[led] = sum(math.hypot(a, *others) for a, others in zip(lost, costs, strict=True)) / len(late)
    assert distance[True] < distance[False]


def test_the_identity_is_trial_zero_and_seeds_are_a_third_at_most(tmp_path: Path) -> None:
    record, space = new_record(tmp_path), synthetic_space(4)
    seeds = space.seeds()
    sampler = OptunaSampler(record, space, random, seeds=seeds, seed=0, trials=9)
    run(space, sampler, InlineRunner(SyntheticEvaluator), record, rows=None, meter=Meter(9))
    trials = record.trials()
    assert trials[0].number == 0
    assert trials[0].key == space.decode(space.identity()).key
    seed_keys = {space.decode(design).key for design in seeds}
    assert sum(trial.key in seed_keys for trial in trials) == 3


def test_spread_takes_the_first_the_last_and_evenly_between() -> None:
    designs = [Design({"x": i}) for i in range(11)]
    assert [design["x"] for design in spread(designs, 9)] == [0, 5, 10]
    assert [design["x"] for design in spread(designs, 1)] == [0]
    assert spread(designs, None) == designs
    assert spread([], 30) == []


def test_seeds_breed_under_nsga2(tmp_path: Path) -> None:
    record, space = new_record(tmp_path), synthetic_space(4)
    sampler = OptunaSampler(record, space, nsga2, seeds=space.seeds(), seed=0)
    run(space, sampler, InlineRunner(SyntheticEvaluator), record, rows=None, meter=Meter(5))
    inner = optuna.samplers.NSGAIISampler(population_size=20)
    assert len(inner.get_population(record.study, 0)) == 5


def test_duplicates_are_thrown_away_and_counted(tmp_path: Path) -> None:
    record, space = new_record(tmp_path), synthetic_space(3, step=0.5)
    sampler = OptunaSampler(record, space, random, seed=0)
    run(space, sampler, InlineRunner(SyntheticEvaluator), record, rows=None, meter=Meter(20))
    assert len({trial.key for trial in record.trials()}) == len(record.trials()) == 20
    assert record.duplicates > 0
    assert record.counts() == {"complete": 20, "stopped": 0, "failed": 0, "running": 0, "duplicates": record.duplicates}


def test_tpe_is_asked_with_constraints_and_running_trials(tmp_path: Path) -> None:
    space = synthetic_space(4)
    record = new_record(tmp_path, (Bound("latency", 1e-3, "1us"),))
    sampler = AutoSampler(record, space, seed=0, trials=24)
    run(space, sampler, InlineRunner(SyntheticEvaluator), record, rows=None, meter=Meter(24))
    violations = [record.violation(trial) for trial in record.trials()]
    # Nothing can meet the limit: the search goes towards it nevertheless.
    assert min(violations[12:]) <= min(violations[:12])
    assert len(violations) == 24


def test_gp_proposes(tmp_path: Path) -> None:
    assert len(searched(tmp_path, gp, 12).trials()) == 12


def test_gp_names_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="pip install greenlet"):
        gp(0)


def test_telling_changes_nothing(tmp_path: Path) -> None:
    record, space = new_record(tmp_path), synthetic_space(3)
    sampler = AutoSampler(record, space, seed=0)
    sampler.tell(Evaluation("k", Complete({"kl": 1.0})))
    assert record.trials() == []


@pytest.mark.parametrize(
    ("knob", "expected"),
    [
        (Choice((4, 8, 32)), optuna.distributions.CategoricalDistribution((4, 8, 32))),
        (IntRange(1, 6), optuna.distributions.IntDistribution(1, 6)),
        (FloatRange(0.0, 0.9, 0.01), optuna.distributions.FloatDistribution(0.0, 0.9, step=0.01)),
    ],
)
def test_knobs_are_distributions(
    knob: Choice | IntRange | FloatRange, expected: optuna.distributions.BaseDistribution
) -> None:
    assert distribution(knob) == expected
    assert on_grid(FloatRange(0.0, 0.9, 0.01), 0.30000000000000004) == 0.3


def test_a_cross_has_every_knob_from_a_parent() -> None:
    rng = random_module.Random(0)
    left, right = Design(dict.fromkeys("abcdefgh", 0)), Design(dict.fromkeys("abcdefgh", 1))
    children = [crossed(left, right, rng) for _ in range(20)]
    assert {child[name] for child in children for name in "abcdefgh"} == {0, 1}
    assert crossed(left, left, rng) == left


def test_neighbours_are_near_and_in_the_space() -> None:
    knobs: dict[str, Knob] = {
        "bits": Choice((4, 8, 32)),
        "depth": IntRange(1, 6),
        "cut": FloatRange(0.0, 1.0, 0.01),
        "fixed": IntRange(3, 3),
    }
    rng = random_module.Random(0)
    start = Design({"bits": 8, "depth": 6, "cut": 0.5, "fixed": 3})
    for _ in range(200):
        moved = neighbour(start, knobs, rng)
        changed = [name for name in knobs if moved[name] != start[name]]
        assert len(changed) <= 3
        assert "fixed" not in changed
        assert all(knobs[name].contains(moved[name]) for name in knobs)
        assert abs(float(moved["cut"]) - 0.5) <= 0.2 + 1e-9
        assert abs(int(moved["depth"]) - 6) <= 1


def test_children_leave_plateaus_that_neighbours_do_not() -> None:
    knobs = {"shift": FloatRange(-1.0, 1.0, 0.125)}
    start, rng = Design({"shift": 0.0}), random_module.Random(0)
    steps = [abs(float(neighbour(start, knobs, rng)["shift"])) for _ in range(200)]
    children = [abs(float(child(start, start, knobs, rng)["shift"])) for _ in range(200)]
    assert max(steps) < 0.75 < max(children)
    assert sum(step <= 0.5 for step in children) > 100


class Fragile:
    """Fails where one of the coordinates is in its upper half; counts in which way."""

    def evaluate(self, job: Job) -> Evaluation:
        assert isinstance(job, Score)
        if job.member.config(SyntheticConfig).point[3] > 0.5:
            raise ValueError("odd")
        return SyntheticEvaluator().evaluate(job)


@pytest.mark.parametrize("make", [None, random, tpe, nsga2])
def test_where_designs_keep_failing_samplers_go_elsewhere(tmp_path: Path, make: MakeSampler | None) -> None:
    record, space = new_record(tmp_path), synthetic_space(6)
    sampler: Sampler = (
        AutoSampler(record, space, seed=0, trials=120)
        if make is None
        else OptunaSampler(record, space, make, seed=0, trials=120)
    )
    run(space, sampler, InlineRunner(Fragile), record, rows=None, meter=Meter(120))
    failed = [trial.state == "failed" for trial in record.trials()]
    assert sum(failed[:20]) >= 4  # it had to be found out
    assert sum(failed[-40:]) <= 8  # where chance would fail 20 times


def test_failures_everywhere_keep_nobody_out(tmp_path: Path) -> None:
    record, space = new_record(tmp_path), synthetic_space(4)

    class Broken:
        def evaluate(self, job: Job) -> Evaluation:
            raise ValueError("a full disk")

    sampler = OptunaSampler(record, space, random, seed=0, trials=30)
    run(space, sampler, InlineRunner(Broken), record, rows=None, meter=Meter(30))
    assert len(record.trials()) == 30
