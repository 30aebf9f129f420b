import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from evaluators.base import Score
from evaluators.synthetic import SyntheticEvaluator, synthetic_space
from search.faults import kind_of
from search.runners.base import Make, Runner
from search.runners.inline import InlineRunner
from spaces.errors import ConfigError, ModelError
from spaces.objectives import Complete, Failed
from tests.contracts.runner import RunnerContract, run_all
from tests.worker_evaluators import Exhausted, Kills, Odd, Sleeps, Thread, no_model

SPACE = synthetic_space()


class UnsupportedOperatorError(RuntimeError):
    """As torch.onnx has one."""

    __module__ = "torch.onnx.errors"


class TestInlineRunner(RunnerContract):
    @pytest.fixture
    def make(self) -> Make:
        return Odd

    def make_runner(self, make: Make) -> Runner:
        return InlineRunner(make)


@pytest.mark.ray
@pytest.mark.usefixtures("ray_here")
class TestRayRunner(RunnerContract):
    @pytest.fixture
    def make(self) -> Make:
        return Odd

    def make_runner(self, make: Make) -> Runner:
        from search.runners.ray_pool import RayRunner

        return RayRunner(make, workers=2)


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.usefixtures("ray_here")
class TestTuneRunner(RunnerContract):
    @pytest.fixture
    def make(self) -> Make:
        return Odd

    def make_runner(self, make: Make) -> Runner:
        from search.runners.tune import TuneRunner

        return TuneRunner(make, workers=2)


def ray_runner(make: Make, workers: int = 2) -> Runner:
    from search.runners.ray_pool import RayRunner

    return RayRunner(make, workers=workers)


def identity() -> Score:
    return Score(SPACE.decode(SPACE.identity()))


@pytest.fixture(scope="module")
def ray_here() -> Iterator[None]:
    """One Ray for all tests that ask for it: runners leave a Ray alone that they did not start."""
    ray = pytest.importorskip("ray")
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    yield
    ray.shutdown()


@pytest.mark.ray
@pytest.mark.usefixtures("ray_here")
def test_a_job_whose_worker_dies_is_tried_once_more(tmp_path: Path) -> None:
    runner = ray_runner(partial(SyntheticEvaluator, kills=Kills(tmp_path, times=1)), workers=1)
    (evaluation,) = run_all(runner, [identity()])
    assert isinstance(evaluation.outcome, Complete)
    assert evaluation.attempts == 2
    runner.close()


@pytest.mark.ray
@pytest.mark.usefixtures("ray_here")
def test_a_job_that_kills_two_workers_has_failed_and_the_runner_goes_on(tmp_path: Path) -> None:
    runner = ray_runner(partial(SyntheticEvaluator, kills=Kills(tmp_path, times=2)), workers=1)
    first, second = run_all(runner, [identity(), identity()])
    assert isinstance(first.outcome, Failed)
    assert first.outcome.kind == "worker_lost"
    assert first.attempts == 2
    assert first.started > 1.6e9
    assert isinstance(second.outcome, Complete)
    runner.close()


@pytest.mark.ray
@pytest.mark.usefixtures("ray_here")
def test_a_job_that_takes_too_long_is_given_up_and_the_runner_goes_on(tmp_path: Path) -> None:
    from search.runners.ray_pool import RayRunner

    runner = RayRunner(partial(Sleeps, tmp_path, times=2), workers=1, timeout=1.0)
    first, second = run_all(runner, [identity(), identity()])
    assert first.outcome == Failed("timeout", "took longer than 1 s")
    assert first.attempts == 2
    assert isinstance(second.outcome, Complete)
    runner.close()


@pytest.mark.ray
@pytest.mark.usefixtures("ray_here")
def test_what_runs_out_of_memory_is_tried_once_more(tmp_path: Path) -> None:
    runner = ray_runner(partial(Exhausted, tmp_path, times=1))
    (evaluation,) = run_all(runner, [identity()])
    assert isinstance(evaluation.outcome, Complete)
    assert evaluation.attempts == 2
    runner.close()


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (MemoryError(), "out_of_memory"),
        (RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"), "out_of_memory"),
        (RuntimeError("[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : Failed to allocate memory"), "out_of_memory"),
        (ValueError("kl=nan is not finite; such an evaluation is Failed, not Complete."), "nan"),
        (TimeoutError("too long"), "timeout"),
        (UnsupportedOperatorError("aten::stft"), "export_unsupported"),
        (ValueError("odd"), "ValueError"),
    ],
)
def test_failures_are_counted_by_kind(error: Exception, kind: str) -> None:
    assert kind_of(error) == kind


@pytest.mark.ray
@pytest.mark.usefixtures("ray_here")
def test_what_make_raises_reaches_the_caller() -> None:
    with pytest.raises(ModelError, match="no model here"):
        ray_runner(no_model, workers=1)


@pytest.mark.ray
@pytest.mark.usefixtures("ray_here")
def test_too_many_workers_are_refused() -> None:
    with pytest.raises(ConfigError, match="64 workers need 64 CPU, Ray has 2"):
        ray_runner(Odd, workers=64)


@pytest.mark.ray
@pytest.mark.usefixtures("ray_here")
def test_workers_have_one_thread_and_a_ray_of_somebody_else_goes_on() -> None:
    runner = ray_runner(Thread)
    outcomes = [evaluation.outcome for evaluation in run_all(runner, [identity(), identity()])]
    runner.close()
    values = [outcome.values for outcome in outcomes if isinstance(outcome, Complete)]
    assert [value["threads"] for value in values] == [1, 1]
    assert os.getpid() not in {value["process"] for value in values}
    import ray

    assert ray.is_initialized()
