"""Processes that work through one queue of tasks. Knows processes and pipes; knows nothing of what they compute.

Every instance is a fresh process with a pipe of its own. It opens its model, says which classes the model has, and
then answers one task at a time until the pipe closes. A dead process closes its end at once, whatever ended it: that
wakes the parent, which starts another one and hands the unfinished task out again.
"""

import json
import logging
import os
import signal
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from multiprocessing.connection import Pipe, wait
from pathlib import Path
from typing import Any, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray

import evaluators
from evaluators.cores import physical_cores, shares
from evaluators.metrics.launch import THREAD_VARIABLES
from evaluators.tasks.base import Text
from spaces.errors import ParetoformerError

logger = logging.getLogger(__name__)

Logits: TypeAlias = NDArray[np.float32]

WORKER = "evaluators.instance_worker"
# A task that has ended so many processes is given up; so is a model that so many processes could not open.
_ATTEMPTS = 3
# Tasks per instance that may be handed out before the oldest one is answered: this bounds what waits in memory.
_AHEAD = 8


@dataclass(frozen=True)
class Setup:
    """What every instance is told once; JSON-able.

    Args:
        folder: of the model.
        threads: that one instance may use.
        kept: texts tokenised beforehand, for tasks that name them by number.
        max_length: tokens beyond it are cut where the model itself does not say.
    """

    folder: str
    threads: int = 1
    kept: tuple[Text, ...] = ()
    max_length: int | None = None


@dataclass(frozen=True)
class Task:
    """Rows that one instance answers in one go.

    Args:
        rows: their numbers, from 0.
        batch_size: rows per call of the model.
        texts: the rows' texts; None: those with these numbers among the setup's `kept`.
    """

    rows: tuple[int, ...]
    batch_size: int
    texts: tuple[Text, ...] | None = None


class Pool:
    """Instances of one model that share a queue. Close it, or use it as a context.

    Args:
        setup: what to open, and how.
        instances: processes; each is pinned to cores of its own as long as there are enough.
        worker: module that each of them runs.

    Raises:
        ModelError: the folder holds no model (raised by `start` and `run`).
        ParetoformerError: instances, or one task's instances, died several times in a row (the same).
    """

    def __init__(self, setup: Setup, instances: int, worker: str = WORKER) -> None:
        self.classes: tuple[str, ...] = ()
        self._worker, self._threads = worker, setup.threads
        self._folder = tempfile.TemporaryDirectory(prefix="paretoformer-")
        self._setup = Path(self._folder.name) / "setup.json"
        self._setup.write_text(json.dumps(asdict(setup)))
        self._pending: deque[_Job] = deque()
        self._instances: list[_Instance] = []
        try:
            for cores in shares(physical_cores(), instances, setup.threads):
                self._instances.append(self._started(cores, starts=1))
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def pids(self) -> tuple[int, ...]:
        """The instances' process numbers; a dead one is replaced when the pool is used next."""
        return tuple(instance.process.pid for instance in self._instances)

    def start(self) -> None:
        """Wait until every instance has opened its model; otherwise those that have begin alone."""
        try:
            while not all(instance.ready for instance in self._instances):
                self._listen(None)
        except BaseException:
            self.close()
            raise

    def run(self, tasks: Iterable[Task]) -> Generator[tuple[Task, Logits], None, None]:
        """Each task with its logits (rows, classes), in the tasks' order, which are read as they are needed.

        Leaving early closes the pool, because answers underway would belong to nobody.
        """
        if not self._instances:
            raise ValueError("The pool is closed. Make another one.")
        source, jobs, most = iter(tasks), deque[_Job](), _AHEAD * len(self._instances)
        try:
            self._hand_out(source, jobs, most)
            while jobs:
                self._listen(0 if jobs[0].answer is not None else None)
                self._hand_out(source, jobs, most)
                if (answer := jobs[0].answer) is not None:
                    yield jobs.popleft().task, answer
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """End all instances. They hold nothing, so they need not be asked."""
        for instance in self._instances:
            instance.process.kill()
        for instance in self._instances:
            instance.end()
        self._instances = []
        self._folder.cleanup()

    def _hand_out(self, source: Iterator[Task], jobs: "deque[_Job]", most: int) -> None:
        """Read tasks until `most` are underway, and give every idle instance one."""
        while len(jobs) < most and (task := next(source, None)) is not None:
            jobs.append(_Job(task))
            self._pending.append(jobs[-1])
        for instance in self._instances:
            if self._pending and instance.ready and instance.job is None:
                instance.give(self._pending.popleft())

    def _listen(self, timeout: float | None) -> None:
        """Wait until an instance has an answer or is dead, and deal with all that are."""
        speaking = wait([instance.connection for instance in self._instances], timeout)
        for instance in [instance for instance in self._instances if instance.connection in speaking]:
            try:
                message = instance.connection.recv()
            except (EOFError, OSError):
                self._replace(instance)
                continue
            if isinstance(message, ParetoformerError):
                raise message if instance.job is None else _at(instance.job.task.rows, message)
            if instance.ready:
                assert instance.job is not None, "an answer to no task"
                instance.job.answer, instance.job = message, None
            else:
                self.classes, instance.ready = tuple(message), True

    def _replace(self, dead: "_Instance") -> None:
        code, job = dead.end(patience=1.0), dead.job
        starts = 1 if dead.ready else dead.starts + 1
        if starts > _ATTEMPTS:
            raise ParetoformerError(
                f"{_ATTEMPTS} instances in a row ended with {_ending(code)} while they opened the model. "
                "Start fewer of them, so that all fit into memory."
            )
        if job is not None:
            job.deaths += 1
            if job.deaths == _ATTEMPTS:
                raise ParetoformerError(
                    f"Rows {named(job.task.rows)} (counted from 1) ended {_ATTEMPTS} instances in a row, the last with "
                    f"{_ending(code)}. Leave them out, or take a smaller batch or fewer instances if memory ran out."
                )
            self._pending.appendleft(job)
        logger.warning("Instance %d ended with %s; another one does its work.", dead.process.pid, _ending(code))
        self._instances[self._instances.index(dead)] = self._started(dead.cores, starts)

    def _started(self, cores: tuple[int, ...], starts: int) -> "_Instance":
        """A new process. It gets only its own end of the pipe, so the pipe closes when it ends."""
        ours, theirs = Pipe()
        told = [str(theirs.fileno()), str(self._setup), ",".join(map(str, cores))]
        try:
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", self._worker, *told],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                env=_environment(self._threads),
                start_new_session=True,  # Ctrl-C is for the parent, which then ends them
            )
        except OSError as error:
            ours.close()
            raise ParetoformerError(f"Cannot start an instance: {error.strerror}. Start fewer of them.") from error
        finally:
            theirs.close()
        return _Instance(process, ours, cores, starts)


@dataclass(eq=False)
class _Job:
    """A task on its way: how many processes it has ended, and its answer once there is one."""

    task: Task
    deaths: int = 0
    answer: Logits | None = None


@dataclass(eq=False)
class _Instance:
    """A process as its parent sees it. `starts`: how many processes in its place have begun to open the model."""

    process: subprocess.Popen[bytes]
    connection: Any
    cores: tuple[int, ...]
    starts: int
    ready: bool = False
    job: _Job | None = None

    def give(self, job: _Job) -> None:
        """Send a task. A process that is dead is noticed by the next `wait`, and the job is still its own then."""
        self.job = job
        try:
            self.connection.send(job.task)
        except OSError:
            return

    def end(self, patience: float = 0.0) -> int:
        """The process's exit code; it has `patience` seconds to end by itself."""
        self.connection.close()
        try:
            return self.process.wait(patience)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()


def named(rows: Sequence[int]) -> str:
    """Row numbers as people read them, counted from 1: 0, 1, 2, 6 is `1-3, 7`."""
    spans = []
    for _, run in groupby(enumerate(sorted(rows)), lambda pair: pair[1] - pair[0]):
        numbers = [row + 1 for _, row in run]
        spans.append(str(numbers[0]) if len(numbers) == 1 else f"{numbers[0]}-{numbers[-1]}")
    return ", ".join(spans)


def _at(rows: Sequence[int], error: ParetoformerError) -> ParetoformerError:
    return ParetoformerError(f"{error} It was answering rows {named(rows)} (counted from 1).")


def _ending(code: int) -> str:
    if code == -signal.SIGKILL:
        return "signal 9 (killed, as when memory runs out)"
    return f"signal {-code}" if code < 0 else f"code {code}"


def _environment(threads: int) -> dict[str, str]:
    """Ours, with the packages of this process found first and the libraries' threads limited."""
    paths = [str(Path(evaluators.__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])]
    limited = dict.fromkeys((*THREAD_VARIABLES, "RAYON_NUM_THREADS"), str(threads))
    return {**os.environ, **limited, "PYTHONPATH": os.pathsep.join(paths)}
