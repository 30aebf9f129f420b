"""The contract of a runner: where jobs run. Knows jobs and evaluations; knows nothing of processes."""

import platform
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Protocol, TypeAlias

from evaluators.base import Evaluator, Job
from search.faults import kind_of
from spaces.objectives import Evaluation, Failed

# Makes a worker's evaluator: loads models and data there, so it must pickle and not hold them open here.
Make: TypeAlias = Callable[[], Evaluator]


class Runner(Protocol):
    """Runs jobs somewhere; every submitted job comes back as exactly one Evaluation, failures included.

    Attributes:
        slots: how many jobs may run at once; may change between jobs, and is at least 1.
    """

    @property
    def slots(self) -> int: ...

    def submit(self, job: Job) -> None:
        """Start a job; RuntimeError if all slots are taken."""
        ...

    def next_done(self, timeout: float | None = None) -> Evaluation | None:
        """The next job to end, in any order; None after `timeout` seconds or if nothing runs."""
        ...

    def close(self) -> None:
        """Give the workers back; jobs that still run are lost."""
        ...


def evaluated(evaluator: Evaluator, job: Job, clock: Callable[[], float] = time.time) -> Evaluation:
    """What `evaluator` makes of `job`, an exception as Failed; started, seconds and node are filled in here."""
    started = clock()
    try:
        evaluation = evaluator.evaluate(job)
    except Exception as error:
        evaluation = Evaluation(job.key, Failed(kind_of(error), str(error)))
    return replace(evaluation, started=started, seconds=clock() - started, node=platform.node())
