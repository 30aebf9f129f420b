"""Runs jobs in Ray actors, on this machine or a cluster. Knows Ray; knows nothing of models.

Every actor makes its own evaluator once. An actor that dies or takes too long is replaced. What may go better elsewhere
is tried once more, by another actor where one is free.
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
from search.faults import NODE_LOST, OUT_OF_MEMORY, TIMEOUT, WORKER_LOST, WORTH_ANOTHER_TRY, kind_of
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
    deadline: float  # of the monotonic clock


class RayRunner:
    """One slot per Ray actor.

    Args:
        make: makes the evaluator, once in every actor; may carry 100 MB, which the object store holds once.
        workers: actors.
        address: of a running Ray (`auto`, `ray://HOST:10001`); None starts one here, unless this process has one.
        cpus_per_worker: cores reserved per actor.
        gpus_per_worker: GPUs reserved per actor; a fraction shares one.
        timeout: seconds after which a job is given up and its actor replaced; None: never.
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
        timeout: float | None = None,
        quiet: bool = True,
    ) -> None:
        self.slots = workers
        self._timeout = math.inf if timeout is None else timeout
        self._warm_up = 0.0
        self._fresh: set[Any] = set()
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
            begin = time.monotonic()
            _prepare(self._idle)
            self._warm_up = time.monotonic() - begin
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
            ends = [run.deadline for run in self._running.values()] + ([] if until is None else [until])
            left = min(ends) - time.monotonic()
            done, _ = ray.wait(list(self._running), num_returns=1, timeout=None if left == math.inf else max(0.0, left))
            late = next((ref for ref, run in self._running.items() if run.deadline <= time.monotonic()), None)
            if not done and late is None:
                if until is not None and time.monotonic() >= until:
                    return None
                continue  # woken a little early
            reference = done[0] if done else late
            run = self._running.pop(reference)
            evaluation = self._ended(run, self._result(reference, run) if done else self._given_up(run))
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
        # A replacement makes its evaluator first, which must not count against its job.
        seconds = self._timeout + (self._warm_up if actor in self._fresh else 0.0)
        self._fresh.discard(actor)
        self._running[actor.work.remote(job)] = _Running(actor, job, attempt, time.time(), time.monotonic() + seconds)

    def _ended(self, run: _Running, evaluation: Evaluation) -> Evaluation | None:
        """What became of a job; None if it is tried once more now."""
        failed = isinstance(evaluation.outcome, Failed) and evaluation.outcome.kind in WORTH_ANOTHER_TRY
        if failed and run.attempt < _ATTEMPTS:
            self._send(self._idle.pop(0), run.job, run.attempt + 1)
            return None
        return evaluation

    def _result(self, reference: Any, run: _Running) -> Evaluation:
        """The evaluation of a finished call; its actor, or another one in its place, waits behind the idle ones."""
        try:
            evaluation: Evaluation = ray.get(reference)
        except _DEATHS as error:
            self._replace(run.actor)
            return _failed(run, _kind_of_death(error), error)
        except exceptions.RayError as error:
            self._idle.append(run.actor)
            cause = _cause(error)
            return _failed(run, kind_of(cause), cause)
        self._idle.append(run.actor)
        return replace(evaluation, attempts=evaluation.attempts + run.attempt - 1)

    def _given_up(self, run: _Running) -> Evaluation:
        self._replace(run.actor)
        return _failed(run, TIMEOUT, TimeoutError(f"took longer than {self._timeout:g} s"))

    def _replace(self, actor: Any) -> None:
        ray.kill(actor)
        replacement = self._actor()
        self._fresh.add(replacement)
        self._idle.append(replacement)


def _kind_of_death(error: Exception) -> str:
    if isinstance(error, exceptions.OutOfMemoryError):
        return OUT_OF_MEMORY
    if isinstance(error, exceptions.NodeDiedError) or "node has died" in str(error):
        return NODE_LOST
    return WORKER_LOST


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
