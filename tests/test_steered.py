"""Whatever is built as an Optuna sampler keeps to Optuna's own contract."""

from collections.abc import Callable

import optuna
import pytest
from optuna.samplers import BaseSampler
from optuna.testing.pytest_samplers import (
    BasicSamplerTestCase,
    MultiObjectiveSamplerTestCase,
    RelativeSamplerTestCase,
)

from search.samplers.optuna_bridge import nsga2, tpe
from search.samplers.steered import Steered
from spaces.design import Design


class TestSteeredTpe(BasicSamplerTestCase, RelativeSamplerTestCase, MultiObjectiveSamplerTestCase):
    @pytest.fixture
    def sampler(self) -> Callable[[], BaseSampler]:
        # Without a start-up all parameters are drawn together from the first trial on, which the suite looks at.
        return lambda: Steered(optuna.samplers.TPESampler(n_startup_trials=0, multivariate=True, seed=0), {})


class TestSteeredNsga2(BasicSamplerTestCase, MultiObjectiveSamplerTestCase):
    @pytest.fixture
    def sampler(self) -> Callable[[], BaseSampler]:
        return lambda: Steered(nsga2(0), {})


def test_a_steered_sampler_proposes_the_goal_once() -> None:
    distributions = {"x": optuna.distributions.IntDistribution(0, 9)}
    steered = Steered(tpe(0), distributions)
    study = optuna.create_study(sampler=steered)
    with steered.towards(Design({"x": 7})):
        assert study.ask(distributions).params == {"x": 7}
    assert {study.ask(distributions).params["x"] for _ in range(20)} != {7}
