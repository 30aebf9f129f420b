"""What every runner keeps to."""

import random
from collections.abc import Iterator

import pytest

from evaluators.base import Score
from evaluators.synthetic import synthetic_space
from search.runners.base import Make, Runner
from spaces.objectives import Complete, Evaluation, Failed


class RunnerContract:
    """Subclass it with `make_runner`, which runs jobs on what its argument makes."""

    def make_runner(self, make: Make) -> Runner:
        raise NotImplementedError

    @pytest.fixture
    def make(self) -> Make:
        """Makes an evaluator that raises ValueError("odd") where the first coordinate is above 0.5."""
        raise NotImplementedError

    @pytest.fixture
    def runner(self, make: Make) -> Iterator[Runner]:
        runner = self.make_runner(make)
        yield runner
        runner.close()

    @pytest.fixture
    def jobs(self) -> list[Score]:
        space, rng = synthetic_space(), random.Random(0)
        return [Score(space.decode(space.sample(rng))) for _ in range(8)]

    def test_every_job_comes_back_once_and_exceptions_as_failures(self, runner: Runner, jobs: list[Score]) -> None:
        evaluations = run_all(runner, jobs)
        assert sorted(evaluation.key for evaluation in evaluations) == sorted(job.key for job in jobs)
        outcomes = {evaluation.key: evaluation.outcome for evaluation in evaluations}
        for job in jobs:
            if job.member.decoded["synthetic"][0] > 0.5:
                assert outcomes[job.key] == Failed("ValueError", "odd")
            else:
                assert isinstance(outcomes[job.key], Complete)
        assert len({type(outcome) for outcome in outcomes.values()}) == 2

    def test_evaluations_say_when_where_and_how_long(self, runner: Runner, jobs: list[Score]) -> None:
        (evaluation,) = run_all(runner, jobs[:1])
        assert evaluation.started > 1.6e9
        assert evaluation.seconds > 0
        assert evaluation.node
        assert evaluation.attempts == 1

    def test_nothing_is_done_where_nothing_runs(self, runner: Runner) -> None:
        assert runner.next_done() is None
        assert runner.next_done(timeout=0.01) is None

    def test_no_more_jobs_than_slots(self, runner: Runner, jobs: list[Score]) -> None:
        for job in jobs[: runner.slots]:
            runner.submit(job)
        with pytest.raises(RuntimeError, match="taken"):
            runner.submit(jobs[-1])


def run_all(runner: Runner, jobs: list[Score]) -> list[Evaluation]:
    """Every job through the runner, all slots in use."""
    waiting, running, done = list(jobs), 0, []
    while waiting or running:
        while waiting and running < runner.slots:
            runner.submit(waiting.pop(0))
            running += 1
        evaluation = runner.next_done()
        assert evaluation is not None
        done.append(evaluation)
        running -= 1
    return done
