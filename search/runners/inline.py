"""Runs jobs in this process, one at a time. Knows the Runner contract; knows nothing of other processes."""

from evaluators.base import Job
from search.runners.base import Make, evaluated
from spaces.objectives import Evaluation


class InlineRunner:
    """One slot in the driver itself: the same sequence every time, and tracebacks where they happen.

    Args:
        make: makes the evaluator, at once.
    """

    slots = 1

    def __init__(self, make: Make) -> None:
        self._evaluator = make()
        self._job: Job | None = None

    def submit(self, job: Job) -> None:
        if self._job is not None:
            raise RuntimeError("InlineRunner has one slot, and it is taken. Call next_done() first.")
        self._job = job

    def next_done(self, timeout: float | None = None) -> Evaluation | None:
        """Evaluate the job that was submitted; a running evaluation cannot be left, so `timeout` has no effect."""
        job, self._job = self._job, None
        return None if job is None else evaluated(self._evaluator, job)

    def close(self) -> None:
        self._job = None
