"""Runs jobs in Ray actors, on this machine or a cluster. Knows Ray; knows nothing of models.

Every actor makes its own evaluator once. An actor that dies is replaced and its job tried once more.
"""

import importlib.util
import logging
import math
import os
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import ray
from ray import exceptions

from evaluators.base import Evaluator, Job
from search.runners.base import Make, evaluated
from spaces.errors import ConfigError
from spaces.objectives import Evaluation, Failed

_ATTEMPTS = 2
_OBJECT_STORE_BYTES = 512 * 2**20
_DEATHS = (
    exceptions.RayActorError,
    exceptions.WorkerCrashedError,
    exceptions.NodeDiedError,
    exceptions.OutOfMemoryError,
)


class _Worker:
    """The actor: one evaluator for as long as the process lives."""

    def __init__(self, make: Make) -> None:
        self._make = make
        self._evaluator: Evaluator | None = None

    def prepare(self) -> None:
        """Make the evaluator; not in the constructor, where an exception would cost the process and its message."""
        self._evaluator = self._make()

    def work(self, job: Job) -> Evaluation:
        if self._evaluator is None:
            self.prepare()
        assert self._evaluator is not None
        return evaluated(self._evaluator, job)


@dataclass(frozen=True)
class _Running:
    actor: Any
    job: Job
    attempt: int
    started: float


class RayRunner:
    """One slot per Ray actor.

    Args:
        make: makes the evaluator, once in every actor; may carry 100 MB, which the object store holds once.
        workers: actors.
        address: of a running Ray (`auto`, `ray://HOST:10001`); None starts one here, unless this process has one.
        cpus_per_worker: cores reserved per actor.
        gpus_per_worker: GPUs reserved per actor; a fraction shares one.
        quiet: no log lines of workers on this terminal.

    Raises:
        ConfigError: the cluster is too small for the actors.
        Exception: whatever `make` raised in the first actors.
    """

    def __init__(
        self,
        make: Make,
        *,
        workers: int,
        address: str | None = None,
        cpus_per_worker: float = 1,
        gpus_per_worker: float = 0.0,
        quiet: bool = True,
    ) -> None:
        self.slots = workers
        self._started_ray = not ray.is_initialized()
        if self._started_ray:
            _start(address, workers * cpus_per_worker, workers * gpus_per_worker, quiet)
        self._running: dict[Any, _Running] = {}
        self._idle: list[Any] = []
        try:
            _check_size(workers, cpus_per_worker, gpus_per_worker)
            self._actor_class: Any = ray.remote(
                num_cpus=cpus_per_worker,
                num_gpus=gpus_per_worker,
                max_restarts=0,
                runtime_env={"env_vars": _worker_environment()},
            )(_Worker)
            self._make = ray.put(make)
            self._idle = [self._actor() for _ in range(workers)]
            _prepare(self._idle)
        except BaseException:
            self.close()
            raise

    def submit(self, job: Job) -> None:
        if not self._idle:
            raise RuntimeError(f"All {self.slots} slots are taken. Call next_done() first.")
        self._send(self._idle.pop(0), job, 1)

    def next_done(self, timeout: float | None = None) -> Evaluation | None:
        until = None if timeout is None else time.monotonic() + timeout
        while self._running:
            left = None if until is None else max(0.0, until - time.monotonic())
            done, _ = ray.wait(list(self._running), num_returns=1, timeout=left)
            if not done:
                return None
            evaluation = self._result(done[0], self._running.pop(done[0]))
            if evaluation is not None:
                return evaluation
        return None

    def close(self) -> None:
        """Kill the actors; shut Ray down if this runner started it."""
        for actor in [*self._idle, *(running.actor for running in self._running.values())]:
            ray.kill(actor)
        self._idle, self._running = [], {}
        if self._started_ray:
            ray.shutdown()

    def _actor(self) -> Any:
        return self._actor_class.remote(self._make)

    def _send(self, actor: Any, job: Job, attempt: int) -> None:
        self._running[actor.work.remote(job)] = _Running(actor, job, attempt, time.time())

    def _result(self, reference: Any, run: _Running) -> Evaluation | None:
        """The evaluation of a finished call; None if its worker died and another one has the job now."""
        try:
            evaluation: Evaluation = ray.get(reference)
        except _DEATHS as error:
            ray.kill(run.actor)
            replacement = self._actor()
            if run.attempt < _ATTEMPTS:
                self._send(replacement, run.job, run.attempt + 1)
                return None
            self._idle.append(replacement)
            return _failed(run, "worker_died", error)
        except exceptions.RayError as error:
            self._idle.append(run.actor)
            cause = _cause(error)
            return _failed(run, type(cause).__name__, cause)
        self._idle.append(run.actor)
        return replace(evaluation, attempts=evaluation.attempts + run.attempt - 1)


def _failed(run: _Running, kind: str, error: Exception) -> Evaluation:
    message = (str(error).strip() or repr(error)).splitlines()[0]
    return Evaluation(
        run.job.key, Failed(kind, message), seconds=time.time() - run.started, started=run.started, attempts=run.attempt
    )


def _start(address: str | None, cpus: float, gpus: float, quiet: bool) -> None:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    here: dict[str, Any] = {
        "num_cpus": max(1, math.ceil(cpus)),
        "num_gpus": math.ceil(gpus),
        "include_dashboard": False,
        "object_store_memory": _OBJECT_STORE_BYTES,
    }
    ray.init(
        address=address or "local",
        logging_level=logging.ERROR if quiet else logging.INFO,
        log_to_driver=not quiet,
        **({} if address else here),
    )


def _worker_environment() -> dict[str, str]:
    """One thread per worker, and this project importable from a source checkout as well as when installed."""
    spec = importlib.util.find_spec("spaces")
    assert spec is not None
    assert spec.origin is not None
    folders = [str(Path(spec.origin).resolve().parent.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(folders)}


def _check_size(workers: int, cpus: float, gpus: float) -> None:
    there: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    for name, needed in (("CPU", workers * cpus), ("GPU", workers * gpus)):
        found = there.get(name, 0.0)
        if needed > found + 1e-9:
            raise ConfigError(
                f"{workers} workers need {needed:g} {name}, Ray has {found:g}. Ask for fewer with --workers."
            )


def _prepare(actors: list[Any]) -> None:
    """Raises what `make` raised, not Ray's wrapping of it."""
    try:
        ray.get([actor.prepare.remote() for actor in actors])
    except exceptions.RayTaskError as error:
        raise _cause(error) from error


def _cause(error: Exception) -> Exception:
    return error.cause if isinstance(error, exceptions.RayTaskError) and isinstance(error.cause, Exception) else error
