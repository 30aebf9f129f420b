"""The contract of a sampler: which design to try next. Knows designs and evaluations; knows nothing of workers."""

from typing import Protocol

from spaces.design import Design
from spaces.objectives import Evaluation


class Sampler(Protocol):
    """Proposes designs. Holds no loop."""

    def ask(self) -> Design | None:
        """The next design; None: nothing to propose until told more, or ever if nothing is running."""
        ...

    def tell(self, evaluation: Evaluation) -> None:
        """What became of a design that was asked; the record knows it already."""
        ...
