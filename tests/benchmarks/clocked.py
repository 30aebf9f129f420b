"""A sampler whose asks are timed. Knows a clock; proposes nothing itself."""

import time

from search.samplers.base import Sampler
from spaces.design import Design
from spaces.objectives import Evaluation


class Clocked:
    """Asks another sampler, and notes how long each ask took.

    Args:
        inner: proposes.
    """

    def __init__(self, inner: Sampler) -> None:
        self._inner = inner
        self.seconds: list[float] = []

    def ask(self) -> Design | None:
        begin = time.perf_counter()
        design = self._inner.ask()
        self.seconds.append(time.perf_counter() - begin)
        return design

    def tell(self, evaluation: Evaluation) -> None:
        self._inner.tell(evaluation)
