import math
import pickle
import random
from dataclasses import dataclass, field

import pytest

from evaluators.base import Evaluator, Job, Memoised, Retried, Score
from evaluators.synthetic import (
    BYTES,
    MILLISECONDS,
    NATS,
    TRUE_HYPERVOLUME,
    SyntheticAxis,
    SyntheticConfig,
    SyntheticEvaluator,
    dtlz2,
    synthetic_space,
    true_front,
)
from search.front import hypervolume
from spaces.design import Member
from spaces.objectives import Complete, Evaluation, Failed
from spaces.space import Space
from tests.contracts.axis import AxisContract
from tests.contracts.evaluator import EvaluatorContract


class TestSyntheticEvaluator(EvaluatorContract):
    @pytest.fixture
    def evaluator(self) -> Evaluator:
        return SyntheticEvaluator()

    @pytest.fixture
    def space(self) -> Space:
        return synthetic_space()


class TestMemoised(EvaluatorContract):
    @pytest.fixture
    def evaluator(self) -> Evaluator:
        return Memoised(SyntheticEvaluator())

    @pytest.fixture
    def space(self) -> Space:
        return synthetic_space()


class TestRetried(EvaluatorContract):
    @pytest.fixture
    def evaluator(self) -> Evaluator:
        return Retried(SyntheticEvaluator())

    @pytest.fixture
    def space(self) -> Space:
        return synthetic_space()


def scaled(values: dict[str, float]) -> tuple[float, float, float]:
    return values["kl"] / NATS, values["latency"] / MILLISECONDS, values["size"] / BYTES


def refuse(member: Member) -> str | None:
    return "too far left" if member.config(SyntheticConfig).point[0] < 0.5 else None


def test_the_front_is_the_octant_of_the_unit_sphere() -> None:
    for point in map(scaled, true_front(6)):
        assert math.hypot(*point) == pytest.approx(1.0)


def test_nothing_dominates_the_front() -> None:
    space, rng = synthetic_space(), random.Random(0)
    shrunk = [tuple(0.999 * x for x in scaled(values)) for values in true_front(6)]
    for _ in range(200):
        f = dtlz2(space.decode(space.sample(rng)).config(SyntheticConfig).point)
        assert math.hypot(*f) >= 1 - 1e-12
        assert not any(all(x <= y for x, y in zip(f, point, strict=True)) for point in shrunk)


def test_the_true_hypervolume_is_the_limit_of_fine_fronts() -> None:
    coarse, fine = (hypervolume([scaled(v) for v in true_front(steps)], (1, 1, 1)) for steps in (5, 20))
    assert coarse < fine < TRUE_HYPERVOLUME
    assert fine == pytest.approx(TRUE_HYPERVOLUME, abs=0.04)


def test_the_identity_loses_nothing() -> None:
    space = synthetic_space()
    outcome = SyntheticEvaluator().evaluate(Score(space.decode(space.identity()))).outcome
    assert isinstance(outcome, Complete)
    assert outcome.values["kl"] == pytest.approx(0.0)
    assert outcome.extras["accuracy_drop"] == pytest.approx(0.0)


@dataclass
class Flaky:
    """Fails every first time."""

    asked: list[str] = field(default_factory=list)

    def evaluate(self, job: Job) -> Evaluation:
        self.asked.append(job.key)
        if self.asked.count(job.key) == 1:
            return Evaluation(job.key, Failed("flaky", "first time"))
        return SyntheticEvaluator().evaluate(job)


def test_retried_tries_again_and_says_so() -> None:
    space = synthetic_space()
    job = Score(space.decode(space.identity()))
    evaluation = Retried(Flaky(), attempts=2).evaluate(job)
    assert isinstance(evaluation.outcome, Complete)
    assert evaluation.attempts == 2
    assert isinstance(Retried(Flaky(), attempts=1).evaluate(job).outcome, Failed)


def test_memoised_does_nothing_twice_but_failures() -> None:
    space = synthetic_space()
    job = Score(space.decode(space.identity()))
    flaky = Flaky()
    memoised = Memoised(flaky)
    outcomes = [memoised.evaluate(job).outcome for _ in range(4)]
    assert [type(outcome) for outcome in outcomes] == [Failed, Complete, Complete, Complete]
    assert len(flaky.asked) == 2


def test_failures_are_injected_with_their_reason_and_survive_pickling() -> None:
    space = synthetic_space()
    evaluator = pickle.loads(pickle.dumps(SyntheticEvaluator(fails=refuse)))
    assert evaluator.evaluate(Score(space.decode(space.extremes()["smallest"]))).outcome == Failed(
        "synthetic", "too far left"
    )
    assert isinstance(evaluator.evaluate(Score(space.decode(space.identity()))).outcome, Complete)


class TestSyntheticAxis(AxisContract):
    @pytest.fixture
    def axis(self) -> SyntheticAxis:
        return SyntheticAxis(4)
