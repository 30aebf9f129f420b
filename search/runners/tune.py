"""Runs jobs as trials of Ray Tune. Knows Tune; knows nothing of models.

Tune asks for trials when it has room, this project submits jobs when it has some: a searcher that hands out what was
submitted brings the two together, and Tune runs in a thread of its own until it is told that no more will come.
"""

import os
import queue
import tempfile
import threading
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Self

import ray
from ray import tune
from ray.tune.search import Searcher

from evaluators.base import Evaluator, Job
from search.faults import WORKER_LOST
from search.runners.base import Make, evaluated
from search.runners.ray_pool import start
from spaces.objectives import Evaluation, Failed

_FAILURES = 1  # after which a trial is tried again
_PATIENCE_S = 30.0  # for Tune to end its trials


class TuneRunner:
    """One slot per concurrent trial.

    Args:
        make: makes the evaluator, once in every actor.
        workers: trials at once.
        address: of a running Ray; None starts one here, unless this process has one.
        cpus_per_worker: cores reserved per trial.
        gpus_per_worker: GPUs reserved per trial.

    Raises:
        Exception: whatever Tune raises when it starts.
    """

    def __init__(
        self,
        make: Make,
        *,
        workers: int,
        address: str | None = None,
        cpus_per_worker: float = 1,
        gpus_per_worker: float = 0.0,
    ) -> None:
        self.slots = workers
        self._at_work = 0
        self._done: queue.Queue[Evaluation] = queue.Queue()
        self._jobs = _Jobs(self._done)
        self._started_ray = not ray.is_initialized()
        if self._started_ray:
            start(address, workers * cpus_per_worker, workers * gpus_per_worker, quiet=True)
        self._folder = tempfile.TemporaryDirectory(prefix="paretoformer-tune-")
        trainable = tune.with_resources(
            tune.with_parameters(_Worker, make=make), {"cpu": cpus_per_worker, "gpu": gpus_per_worker}
        )
        quiet = {"TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1", "TUNE_DISABLE_SIGINT_HANDLER": "1"}
        os.environ.update({name: os.environ.get(name, value) for name, value in quiet.items()})
        tuner = tune.Tuner(
            trainable,
            tune_config=tune.TuneConfig(search_alg=self._jobs, num_samples=-1, reuse_actors=True),
            run_config=tune.RunConfig(
                storage_path=self._folder.name,
                stop=self._jobs,
                verbose=0,
                failure_config=tune.FailureConfig(max_failures=_FAILURES),
            ),
        )
        self._thread = threading.Thread(target=tuner.fit, daemon=True)
        self._thread.start()

    def submit(self, job: Job) -> None:
        if self._at_work >= self.slots:
            raise RuntimeError(f"All {self.slots} slots are taken. Call next_done() first.")
        self._at_work += 1
        self._jobs.waiting.put(job)

    def next_done(self, timeout: float | None = None) -> Evaluation | None:
        """The next job to end; RuntimeError if Tune itself has ended before it."""
        if not self._at_work:
            return None
        until = None if timeout is None else time.monotonic() + timeout
        while True:
            try:
                evaluation = self._done.get(timeout=1.0 if until is None else max(0.0, until - time.monotonic()))
            except queue.Empty:
                if until is not None:
                    return None
                if not self._thread.is_alive():
                    raise RuntimeError("Ray Tune ended while jobs were at work. See its messages above.") from None
                continue
            self._at_work -= 1
            return evaluation

    def close(self) -> None:
        """Tell Tune that no more comes; shut Ray down if this runner started it."""
        self._jobs.closed = True
        self._thread.join(timeout=_PATIENCE_S)
        if self._started_ray:
            ray.shutdown()
        self._folder.cleanup()


class Unsaved(Searcher):
    """A searcher whose knowledge lies elsewhere: Tune copies its settings and keeps them on disk, not this."""

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the record keeps what is finished."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing either."""

    def __getstate__(self) -> dict[str, Any]:
        return {}

    def __deepcopy__(self, memo: Any) -> Self:
        return self


class Evaluating(tune.Trainable):
    """A trial is one evaluation, in a step that is never resumed; one evaluator for as long as the actor lives."""

    def setup(self, config: Mapping[str, Any], make: Make) -> None:  # type: ignore[override]
        self.evaluator: Evaluator = make()

    def reset_config(self, new_config: Mapping[str, Any]) -> bool:
        self.config = dict(new_config)
        return True

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """There is no middle to go on from."""

    def load_checkpoint(self, checkpoint: Any) -> None:
        """Nor anything to load."""


class _Jobs(Unsaved, tune.Stopper):
    """Hands out what was submitted, as Tune asks for it, and says when no more will come."""

    def __init__(self, done: "queue.Queue[Evaluation]") -> None:
        super().__init__()
        self.waiting: queue.Queue[Job] = queue.Queue()
        self.closed = False
        self._done = done
        self._running: dict[str, Job] = {}

    def suggest(self, trial_id: str) -> Any:
        try:
            job = self.waiting.get(timeout=0 if self._running or self.closed else 0.05)
        except queue.Empty:
            return Searcher.FINISHED if self.closed else None
        self._running[trial_id] = job
        return {"job": job}

    def on_trial_complete(self, trial_id: str, result: Mapping[str, Any] | None = None, error: bool = False) -> None:
        job = self._running.pop(trial_id, None)
        if job is None:
            return
        known = None if error or result is None else result.get("evaluation")
        lost = Evaluation(job.key, Failed(WORKER_LOST, "the trial ended twice with an error that Ray Tune has logged"))
        self._done.put(known or replace(lost, attempts=1 + _FAILURES))

    def __call__(self, trial_id: str, result: Mapping[str, Any]) -> bool:
        """Whether a trial shall be stopped: each ends by itself."""
        return False

    def stop_all(self) -> bool:
        return self.closed


class _Worker(Evaluating):
    def step(self) -> dict[str, Any]:
        return {"evaluation": evaluated(self.evaluator, self.config["job"]), "done": True}
