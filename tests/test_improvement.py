"""What the surrogate expects, where its designs stand, and which of them would gain most."""

import math
from pathlib import Path

import numpy as np
import pytest

from evaluators.synthetic import ORIGINAL_ACCURACY, SyntheticEvaluator, synthetic_space
from search.ledger import Trial
from search.loop import Meter, run
from search.record import Record
from search.runners.inline import InlineRunner
from search.samplers.auto import AutoSampler
from search.samplers.gauge import Gauge, drop_per_nat, most_diverging
from search.samplers.surrogate import Surrogate
from spaces.objectives import ACCURACY, KL, LATENCY, SIZE, THROUGHPUT, Bound

FAIR = {"latency": 8.0, "size": 32e6, "throughput": 100.0}


class TestSurrogate:
    def test_a_function_of_many_features_is_learned_from_few_observations(self) -> None:
        rng = np.random.default_rng(0)
        features = rng.uniform(size=(40, 12))
        weights = rng.normal(size=12)
        surrogate = Surrogate()
        surrogate.fit(features[:30], features[:30] @ weights)
        mean, _ = surrogate.predict(features[30:])
        error = np.sqrt(np.mean((mean - features[30:] @ weights) ** 2))
        assert error < 0.15 * np.std(features @ weights)

    def test_it_is_surer_near_what_it_saw(self) -> None:
        features = np.random.default_rng(0).uniform(size=(30, 4))
        surrogate = Surrogate()
        surrogate.fit(features, np.sin(5 * features[:, 0]))
        _, near = surrogate.predict(features[:1])
        _, far = surrogate.predict(features[:1] + 5)
        assert near[0] < far[0]

    def test_features_that_never_vary_do_no_harm(self) -> None:
        features = np.column_stack([np.linspace(0, 1, 20), np.ones(20)])
        surrogate = Surrogate()
        surrogate.fit(features, features[:, 0])
        assert np.isfinite(surrogate.predict(features)).all()


class TestGauge:
    def gauge(self, folder: Path, *bounds: Bound) -> Gauge:
        record = Record.create(folder, objectives=(KL, LATENCY, SIZE, THROUGHPUT), bounds=bounds)
        return Gauge.of(record, FAIR, [])

    def test_the_original_stands_in_the_worst_corner_but_for_its_quality(self, tmp_path: Path) -> None:
        assert self.gauge(tmp_path).place({"kl": 0.0, **FAIR}) == (0.0, 1.0, 1.0, 1.0)

    def test_five_doublings_are_the_length_of_an_axis(self, tmp_path: Path) -> None:
        place = self.gauge(tmp_path).place({"kl": 0.0, "latency": 8.0 / 32, "size": 32e6 / 2, "throughput": 400.0})
        assert place == pytest.approx((0.0, 0.0, 0.8, 0.6))

    def test_limits_move_the_corner(self, tmp_path: Path) -> None:
        bounds = Bound("latency", 4.0, "4ms"), Bound("accuracy_drop", 0.01, "1pt")
        assert self.gauge(tmp_path, *bounds).corner == pytest.approx((0.2, 0.8, 1.0, 1.0))

    def test_a_limit_on_changed_answers_is_one_on_the_root_of_divergence(self, tmp_path: Path) -> None:
        gauge = self.gauge(tmp_path, Bound("disagreement", 0.015, "1.5%"))
        assert gauge.corner[0] == pytest.approx(gauge.place({"kl": 0.05**2, **FAIR})[0])
        known = [
            Trial(0, "", "complete", "", None, {}, "", "", {"kl": kl}, {"disagreement": share}, 1, 0, 0, 0, "", None)
            for kl, share in ((0.0, 0.0), (1e-4, 1e-3), (1e-2, 1e-2), (0.04, 0.02))
        ]
        assert most_diverging("disagreement", 0.01, known) == pytest.approx(0.01)

    def test_accuracy_has_its_own_axis(self, tmp_path: Path) -> None:
        record = Record.create(tmp_path, objectives=(ACCURACY, SIZE), bounds=())
        gauge = Gauge.of(record, {**FAIR, "accuracy": 0.9}, [])
        assert gauge.place({"accuracy": 0.85, "size": 32e6}) == pytest.approx((1.0, 1.0))
        assert gauge.place({"accuracy": 0.91, "size": 32e6})[0] < 0

    def test_what_divergence_costs_is_learned(self, tmp_path: Path) -> None:
        record, space = Record.create(tmp_path, objectives=(KL, LATENCY, SIZE), bounds=()), synthetic_space(5)
        sampler = AutoSampler(record, space, seeds=space.seeds(), seed=0, trials=40)
        run(space, sampler, InlineRunner(SyntheticEvaluator), record, rows=None, meter=Meter(40))
        trials = record.trials()
        assert ORIGINAL_ACCURACY - trials[0].extras["accuracy"] == pytest.approx(0.2 * trials[0].values["kl"])
        assert drop_per_nat(trials) == pytest.approx(0.2)
        assert math.isfinite(drop_per_nat([]))
