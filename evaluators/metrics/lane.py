"""Where latencies are measured: on one machine, one process at a time. Knows machines, not what is timed."""

import logging
import os
import platform
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, Protocol

from evaluators.metrics.host import chips
from evaluators.metrics.launch import run_worker

logger = logging.getLogger(__name__)


class Lane(Protocol):
    """A machine on which timing processes have the cores to themselves as far as runs of this project go."""

    @property
    def node(self) -> str:
        """The machine as timings.csv names it."""
        ...

    def chips(self, device: str) -> str:
        """Its processors, as part of targets."""
        ...

    def run(self, plan: Mapping[str, Any], threads: int, report: Callable[[int, int], None]) -> Any:
        """What a timing process makes of `plan` (launch.py), whose paths are of this machine."""
        ...


class LocalLane:
    """This machine. Two runs never time on it at once; the second one waits."""

    @property
    def node(self) -> str:
        """Its host name."""
        return platform.node()

    def chips(self, device: str) -> str:
        """Its processor, or its accelerators."""
        return chips(device)

    def run(self, plan: Mapping[str, Any], threads: int, report: Callable[[int, int], None]) -> Any:
        """What a fresh process made of the plan."""
        with _alone():
            return run_worker(plan, threads, report)


@cache
def _say_that_it_waits() -> None:
    """Once: two runs on one machine take turns all the time."""
    logger.warning("Another run is timing on this machine; they take turns.")


@contextmanager
def _alone() -> Iterator[None]:
    """Holds this user's lock of the machine, which ends with the process whatever happens to it."""
    if sys.platform == "win32":
        yield
        return
    import fcntl

    path = Path(tempfile.gettempdir()) / f"paretoformer-timing-{os.getuid()}.lock"
    with path.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _say_that_it_waits()
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
