"""One greedy, cumulative pass over changes of a design. Knows knobs and figures; knows no recipe's order or rule."""

from collections.abc import Callable, Generator, Mapping
from typing import TypeAlias

from search.samplers.walk import Figures
from spaces.design import Design
from spaces.knobs import Scalar

Change: TypeAlias = Mapping[str, Scalar]
# Whether a candidate is accepted, from its figures, those of the last one accepted and those of the original.
Accepts: TypeAlias = Callable[[Figures, Figures, Figures], bool]


class Greedy:
    """Where a walk stands.

    Args:
        start: the original.
    """

    def __init__(self, start: Design) -> None:
        self.design = start
        self.base: Figures = {}
        self.best: Figures = {}

    def begin(self) -> Generator[Design, Figures | None, bool]:
        """Look at the original; False if it could not be evaluated, and so nothing can."""
        self.base = self.best = (yield self.design) or {}
        return bool(self.base)

    def offer(self, change: Change, accepts: Accepts) -> Generator[Design, Figures | None, tuple[bool, Figures]]:
        """Try a change on top of those accepted so far; whether it was accepted too, and its figures."""
        candidate = Design({**self.design, **change})
        figures = (yield candidate) or {}
        accepted = bool(figures) and accepts(figures, self.best, self.base)
        if accepted:
            self.design, self.best = candidate, figures
        return accepted, figures
