"""Evaluators and factories for tests of runners: in a module of their own, because workers must import them."""

import os
import random
import time
from dataclasses import dataclass
from pathlib import Path

from evaluators.base import Evaluator, Job
from evaluators.synthetic import SyntheticConfig, SyntheticEvaluator
from spaces.design import Member
from spaces.errors import ModelError
from spaces.objectives import Complete, Evaluation


class Odd:
    """Raises where the first coordinate is above 0.5."""

    def evaluate(self, job: Job) -> Evaluation:
        if job.member.config(SyntheticConfig).point[0] > 0.5:
            raise ValueError("odd")
        return SyntheticEvaluator(seconds=0.001).evaluate(job)


class Thread:
    """Says how many threads it may use, and in which process it is."""

    def evaluate(self, job: Job) -> Evaluation:
        return Evaluation(job.key, Complete({"threads": float(os.environ["OMP_NUM_THREADS"]), "process": os.getpid()}))


@dataclass(frozen=True)
class Kills:
    """Ends the process, the first `times` times; remembers in a folder, because the process is gone."""

    folder: Path
    times: int

    def __call__(self, member: Member) -> bool:
        before = len(list(self.folder.iterdir()))
        if before < self.times:
            (self.folder / str(before)).touch()
        return before < self.times


@dataclass(frozen=True)
class Sleeps:
    """Does not come back, the first `times` times."""

    folder: Path
    times: int

    def evaluate(self, job: Job) -> Evaluation:
        if Kills(self.folder, self.times)(job.member):
            time.sleep(60)
        return SyntheticEvaluator().evaluate(job)


@dataclass(frozen=True)
class Exhausted:
    """Runs out of memory, the first `times` times."""

    folder: Path
    times: int

    def evaluate(self, job: Job) -> Evaluation:
        if Kills(self.folder, self.times)(job.member):
            raise MemoryError
        return SyntheticEvaluator().evaluate(job)


class Unreliable:
    """Every fifth evaluation fails, lacks an objective, or has one that is no number."""

    def evaluate(self, job: Job) -> Evaluation:
        evaluation = SyntheticEvaluator().evaluate(job)
        assert isinstance(evaluation.outcome, Complete)
        match random.Random(job.key).randrange(15):
            case 0:
                raise RuntimeError("broken")
            case 1:
                return Evaluation(job.key, Complete({"latency": 1.0, "size": 1.0}))
            case 2:
                values = dict(evaluation.outcome.values)
                object.__setattr__(evaluation.outcome, "values", {**values, "kl": float("nan")})
        return evaluation


def no_model() -> Evaluator:
    raise ModelError("no model here")


class Devices:
    """Says which of the GPUs its process may use: how many are visible, and the number of the first."""

    def evaluate(self, job: Job) -> Evaluation:
        time.sleep(1)  # so that all workers have one each
        given = [number for number in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if number]
        extras = {"visible": float(len(given)), **({"device": float(given[0])} if given else {})}
        return Evaluation(job.key, Complete({}, extras))
