"""What is verified, with what and under which limits, as one value. Knows contracts; does nothing."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from evaluators.base import Assessor
from search.record import Record
from search.runners.base import Runner
from spaces.objectives import ACCURACY, LATENCY, Bound, Objective, latency_at
from spaces.space import Space
from spaces.target import Target


@dataclass(frozen=True)
class Situation:
    """What is verified, with what, and under which limits.

    Args:
        folder: the run's.
        space: decodes what the record holds.
        record: every trial of the run.
        assessor: builds, scores and times.
        pool: makes the runner that scores members side by side.
        inline: makes a runner that works alone, for the test rows.
        bounds: the limits in absolute units; `limits` as asked.
        fair: figures of the original that are known beforehand, by objective.
        objectives: what the front is over, once verified.
        members: how many to verify.
        remeasure: how often neighbours in speed are timed again, twice as long each time, while noise hides which is
            faster.
        cascades: how many to build of them.
        confidence: of the certificate.
        seed: of the run.
        targets: what the models are for, the first one primary, each with whether this machine can measure for it.
        splits: by name, rows and hash.
        confirming: recipes whose outcome counts only if it is no less accurate on the confirm rows.
        latency_model, search: figures that are handed on to front.json.
        gains: whether accuracy is to be gained, so that the most accurate designs are verified and judged.
        metric: what `accuracy` is the figure of.
    """

    folder: Path
    space: Space
    record: Record
    assessor: Assessor
    pool: Callable[[], Runner]
    inline: Callable[[], Runner]
    bounds: tuple[Bound, ...]
    fair: Mapping[str, float]
    limits: Mapping[str, str]
    objectives: tuple[Objective, ...]
    members: int
    cascades: int
    confidence: float
    seed: int
    targets: Mapping[Target, bool]
    splits: Mapping[str, tuple[int, str]]
    latency_model: Mapping[str, float]
    search: Mapping[str, float]
    confirming: Collection[str] = ()
    gains: bool = False
    metric: str = ACCURACY.name
    remeasure: int = 0

    @property
    def first(self) -> Target:
        """The primary target."""
        return next(iter(self.targets))

    def latency(self, label: str) -> Objective:
        """Latency at the target of that label, as objectives, limits and figures name it."""
        return LATENCY if label == self.first.label else latency_at(label)
