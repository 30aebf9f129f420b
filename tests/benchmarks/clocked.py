"""A sampler whose asks are timed. Knows a clock; proposes nothing itself."""

import time
from collections.abc import Callable

from search.samplers.base import Sampler
from spaces.design import Design
from spaces.objectives import Evaluation


class Clocked:
    """Asks another sampler, and notes how long each ask took.

    Args:
        inner: proposes.
        clock: in seconds.
    """

    def __init__(self, inner: Sampler, clock: Callable[[], float] = time.perf_counter) -> None:
        self._inner = inner
        self._clock = clock
        self.seconds: list[float] = []

    def ask(self) -> Design | None:
        begin = self._clock()
        design = self._inner.ask()
        self.seconds.append(self._clock() - begin)
        return design

    def tell(self, evaluation: Evaluation) -> None:
        self._inner.tell(evaluation)
