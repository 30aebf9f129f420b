"""Runs jobs in Ray actors, on this machine or a cluster. Knows Ray; knows nothing of models.

Every actor makes its own evaluator once. An actor that dies or takes too long is replaced; what may go better elsewhere
is tried once more, by another actor where one is free. Actors that wait for a place in the cluster hold nobody up.
"""

import importlib.util
import logging
import math
import os
import platform
import time
from collections import deque
from collections.abc import Mapping
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

logger = logging.getLogger(__name__)
PACKAGES = ("spaces", "evaluators", "search")
_ATTEMPTS = 2
_OBJECT_STORE_BYTES = 512 * 2**20
# How long a cluster's first node is waited for, and how often a cluster is looked at.
_SOON_S, _LOOK_S, _POLL_S = 60.0, 5.0, 0.5
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
        return replace(evaluated(self._evaluator, job), node=node_here())


@dataclass(frozen=True)
class _Running:
    actor: Any
    job: Job
    attempt: int
    started: float
    deadline: float  # of the monotonic clock


class RayRunner:
    """One slot per Ray actor that is ready.

    Args:
        make: makes the evaluator, once in every actor; may carry 100 MB, which the object store holds once.
        workers: actors; None: as many as the cluster has room for, more when nodes join and fewer when they leave.
        address: of a running Ray (`auto`, `ray://HOST:10001`); None starts one here, unless this process has one.
        cpus_per_worker: cores reserved per actor.
        gpus_per_worker: GPUs reserved per actor; a fraction shares one.
        timeout: seconds after which a job is given up and its actor replaced; None: never.
        quiet: no log lines of workers on this terminal.

    Raises:
        ConfigError: there is no room for the actors; on a cluster at `address`, not for a single one within a minute.
        Exception: whatever `make` raised in the first actors.
    """

    def __init__(
        self,
        make: Make,
        *,
        workers: int | None,
        address: str | None = None,
        cpus_per_worker: float = 1,
        gpus_per_worker: float = 0.0,
        timeout: float | None = None,
        quiet: bool = True,
    ) -> None:
        self._needs = {"CPU": cpus_per_worker, "GPU": gpus_per_worker}
        self._timeout = math.inf if timeout is None else timeout
        self._elastic = workers is None
        self._idle: list[Any] = []
        self._running: dict[Any, _Running] = {}
        self._coming: dict[Any, Any] = {}  # actors by the call that prepares them
        self._waiting: deque[tuple[Job, int]] = deque()
        self._looked = 0.0
        self._started_ray = not ray.is_initialized()
        if self._started_ray:
            start(address, (workers or 1) * cpus_per_worker, (workers or 1) * gpus_per_worker, quiet)
        try:
            room = self._room() if address is None else self._room_soon()
            if room < (1 if address else workers or 1):
                raise ConfigError(_too_small(workers or 1, self._needs))
            if workers is not None and room < workers:
                logger.warning("Room for %d of %d workers now; the others begin when nodes join.", room, workers)
            self._actor_class: Any = ray.remote(
                num_cpus=cpus_per_worker,
                num_gpus=gpus_per_worker,
                max_restarts=0,
                runtime_env={"env_vars": worker_environment()},
            )(_Worker)
            self._make = ray.put(make)
            for _ in range(workers or room):
                self._hire()
            self._first_ready(1 if address else workers or room)
        except BaseException:
            self.close()
            raise

    @property
    def slots(self) -> int:
        """Actors that are ready, at least one: the last may be on its way."""
        return max(1, len(self._idle) + len(self._running))

    def submit(self, job: Job) -> None:
        if len(self._running) + len(self._waiting) >= self.slots:
            raise RuntimeError(f"All {self.slots} slots are taken. Call next_done() first.")
        self._waiting.append((job, 1))
        self._hand_out()

    def next_done(self, timeout: float | None = None) -> Evaluation | None:
        until = math.inf if timeout is None else time.monotonic() + timeout
        while self._running or self._waiting:
            self._follow_cluster()
            for reference in self._wait(until):
                if reference in self._coming:
                    self._arrived(reference)
                elif (evaluation := self._ended(reference)) is not None:
                    return evaluation
            self._hand_out()
            if time.monotonic() >= until:
                return None
        return None

    def close(self) -> None:
        """Kill the actors; shut Ray down if this runner started it."""
        running = (each.actor for each in self._running.values())
        for actor in [*self._idle, *self._coming.values(), *running]:
            ray.kill(actor)
        self._idle, self._running, self._coming = [], {}, {}
        if self._started_ray:
            ray.shutdown()

    def _hire(self) -> None:
        actor = self._actor_class.remote(self._make)
        self._coming[actor.prepare.remote()] = actor

    def _first_ready(self, least: int) -> None:
        """Wait for at least so many actors, and for those that come soon after them.

        Raises:
            Exception: what `make` raised, not Ray's wrapping of it.
        """
        calls = list(self._coming)
        ready, _ = ray.wait(calls, num_returns=least)
        ready, _ = ray.wait(calls, num_returns=len(calls), timeout=_LOOK_S if len(ready) < len(calls) else 0)
        for reference in ready:
            self._arrived(reference)

    def _arrived(self, reference: Any) -> None:
        actor = self._coming.pop(reference)
        try:
            ray.get(reference)
        except _DEATHS:
            self._hire()
        except exceptions.RayTaskError as error:
            ray.kill(actor)
            raise _cause(error) from error
        else:
            self._idle.append(actor)

    def _follow_cluster(self) -> None:
        """Hire where nodes have joined; of actors that wait for a place, let go those beyond what is left."""
        if not self._elastic or time.monotonic() - self._looked < _LOOK_S:
            return
        self._looked = time.monotonic()
        room = max(1, self._room())
        there = len(self._idle) + len(self._running) + len(self._coming)
        for _ in range(room - there):
            self._hire()
        for reference in list(self._coming)[: max(0, there - room)]:
            ray.kill(self._coming.pop(reference))

    def _room(self) -> int:
        """Actors that fit the cluster as it is, busy or not."""
        there: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
        return min(int(there.get(name, 0.0) / need + 1e-9) for name, need in self._needs.items() if need)

    def _room_soon(self) -> int:
        """The same of a cluster whose first nodes may be on their way."""
        until = time.monotonic() + _SOON_S
        while (room := self._room()) < 1 and time.monotonic() < until:
            time.sleep(_POLL_S)
        return room

    def _hand_out(self) -> None:
        while self._waiting and self._idle:
            job, attempt = self._waiting.popleft()
            actor = self._idle.pop(0)
            deadline = time.monotonic() + self._timeout
            self._running[actor.work.remote(job)] = _Running(actor, job, attempt, time.time(), deadline)

    def _wait(self, until: float) -> list[Any]:
        """A call that has ended, or whose time is over; none if neither happens in time."""
        ends = [until, *(run.deadline for run in self._running.values())]
        ends += [self._looked + _LOOK_S] if self._elastic else []
        left = min(ends) - time.monotonic()
        calls = [*self._running, *self._coming]
        done, _ = ray.wait(calls, num_returns=1, timeout=None if left == math.inf else max(0.0, left))
        late = [reference for reference, run in self._running.items() if run.deadline <= time.monotonic()]
        return done or late[:1]

    def _ended(self, reference: Any) -> Evaluation | None:
        """What became of a job; None if it is tried once more. Its actor waits behind the idle ones."""
        run = self._running.pop(reference)
        evaluation = self._result(reference, run)
        failed = isinstance(evaluation.outcome, Failed) and evaluation.outcome.kind in WORTH_ANOTHER_TRY
        if failed and run.attempt < _ATTEMPTS:
            self._waiting.appendleft((run.job, run.attempt + 1))
            return None
        return evaluation

    def _result(self, reference: Any, run: _Running) -> Evaluation:
        ready, _ = ray.wait([reference], timeout=0)
        if not ready:
            ray.kill(run.actor)
            self._hire()
            return _failed(run, TIMEOUT, TimeoutError(f"took longer than {self._timeout:g} s"))
        try:
            evaluation: Evaluation = ray.get(reference)
        except _DEATHS as error:
            ray.kill(run.actor)
            self._hire()
            return _failed(run, _kind_of_death(error), error)
        except exceptions.RayError as error:
            self._idle.append(run.actor)
            cause = _cause(error)
            return _failed(run, kind_of(cause), cause)
        self._idle.append(run.actor)
        return replace(evaluation, attempts=evaluation.attempts + run.attempt - 1)


def node_here() -> str:
    """The node that this runs on: its host name and, because a host may be several nodes, the beginning of its id."""
    return f"{platform.node()}/{ray.get_runtime_context().get_node_id()[:8]}"


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


def start(address: str | None, cpus: float, gpus: float, quiet: bool) -> None:
    """Connect to a Ray, or start one on this machine for so many cores and GPUs.

    Raises:
        ConfigError: there is none at the address.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    here: dict[str, Any] = {
        "num_cpus": max(1, math.ceil(cpus)),
        "num_gpus": math.ceil(gpus),
        "include_dashboard": False,
        "object_store_memory": _OBJECT_STORE_BYTES,
    }
    # Nodes get this project's code from here, whatever version they have installed, or none.
    there = {"runtime_env": {"py_modules": [str(_package(name)) for name in PACKAGES]}}
    try:
        ray.init(
            address=address or "local",
            logging_level=logging.ERROR if quiet else logging.INFO,
            log_to_driver=not quiet,
            **(there if address else here),
        )
    except ConnectionError as error:
        raise ConfigError(
            f"No Ray cluster at --address {address}: {str(error).splitlines()[0]} Start one with `ray start --head`, "
            "or leave --address out to use this machine."
        ) from error


def connect(address: str) -> None:
    """Connect to a Ray that runs already, unless this process has; what is made later uses the same connection."""
    if not ray.is_initialized():
        start(address, 1, 0, quiet=True)


def worker_environment() -> dict[str, str]:
    """One thread per worker, this project importable from a source checkout as well, and the driver's cache."""
    folders = [str(_package("spaces").parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    cache = {name: os.environ[name] for name in ("PARETOFORMER_CACHE",) if name in os.environ}
    return {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(folders), **cache}


def _package(name: str) -> Path:
    """The folder of one of this project's packages."""
    spec = importlib.util.find_spec(name)
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).resolve().parent


def _too_small(workers: int, needs: Mapping[str, float]) -> str:
    there: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    short = next(name for name, need in needs.items() if workers * need > there.get(name, 0.0) + 1e-9)
    return (
        f"{workers} workers need {workers * needs[short]:g} {short}, Ray has {there.get(short, 0.0):g}. Ask for fewer "
        "with --workers."
    )


def _cause(error: Exception) -> Exception:
    return error.cause if isinstance(error, exceptions.RayTaskError) and isinstance(error.cause, Exception) else error
