"""An evaluator in closed form whose front is known. Knows formulas; knows no model, no data and no clock but sleep.

The problem is DTLZ2 (Deb et al. 2005, "Scalable Test Problems for Evolutionary Multi-Objective Optimization") with
three objectives, rescaled so that they read like ours: its front is the octant of the unit sphere.
"""

import math
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from evaluators.base import Foresight, Job, Score, Train, Verify
from spaces.design import Member
from spaces.knobs import FloatRange, Knob, Scalar
from spaces.objectives import Complete, Evaluation, Failed
from spaces.space import Space

# Units of the three objectives: what f = (1, 1, 1) means.
NATS, MILLISECONDS, BYTES = 0.5, 10.0, 20e6
ORIGINAL_ACCURACY = 0.9
# Volume between the front and the reference (1, 1, 1), in units of the objectives: a cube without an eighth of a ball.
TRUE_HYPERVOLUME = 1 - math.pi / 6


@dataclass(frozen=True)
class SyntheticConfig:
    """A point of the unit cube: two coordinates along the front, the others away from it."""

    point: tuple[float, ...]

    family: ClassVar[str] = "synthetic"

    def to_decoded(self) -> dict[str, Any]:
        return {"synthetic": list(self.point)}

    @classmethod
    def from_decoded(cls, decoded: Mapping[str, Any]) -> Self:
        return cls(tuple(decoded["synthetic"]))


class SyntheticAxis:
    """`n` real knobs from 0 to 1.

    Args:
        n: knobs, at least 3; the first two say where along the front, the others are best at 0.5.
        step: grid of every knob; a coarse one makes duplicates likely.
    """

    config = SyntheticConfig

    def __init__(self, n: int = 8, step: float | None = 0.05) -> None:
        self._names = tuple(f"x.{i}" for i in range(n))
        self._knob = FloatRange(0.0, 1.0, step)
        self.knobs: Mapping[str, Knob] = dict.fromkeys(self._names, self._knob)

    def decode(self, knobs: Mapping[str, Scalar]) -> SyntheticConfig:
        return SyntheticConfig(tuple(float(knobs[name]) for name in self._names))

    def ladder(self) -> list[dict[str, Scalar]]:
        """Five points along one edge of the cube, off the front as a first guess would be."""
        return [self._at(x, 1.0, 0.75) for x in (0.0, 0.25, 0.5, 0.75, 1.0)]

    def neutral(self) -> dict[str, Scalar]:
        """The point that loses no quality: f = (0, 0.7, 0.7)."""
        return self._at(0.5, 1.0, 0.5)

    def extremes(self) -> dict[str, dict[str, Scalar]]:
        return {"whole": self.neutral(), "smallest": self._at(0.0, 0.0, 0.5)}

    def _at(self, x: float, y: float, rest: float) -> dict[str, Scalar]:
        return {name: self._knob.nearest((x, y, rest)[min(i, 2)]) for i, name in enumerate(self._names)}


def synthetic_space(n: int = 8, step: float | None = 0.05) -> Space:
    """A space of one synthetic axis."""
    return Space([SyntheticAxis(n, step)])


def dtlz2(point: tuple[float, ...]) -> tuple[float, float, float]:
    """The three objectives of DTLZ2, all to be small: f = (1 + g) * (cos cos, cos sin, sin)."""
    g = sum((x - 0.5) ** 2 for x in point[2:])
    a, b = point[0] * math.pi / 2, point[1] * math.pi / 2
    return (1 + g) * math.cos(a) * math.cos(b), (1 + g) * math.cos(a) * math.sin(b), (1 + g) * math.sin(a)


def true_front(steps: int = 20) -> list[dict[str, float]]:
    """Values of kl, latency and size on a grid of the true front, (steps + 1) ** 2 points."""
    grid = [i / steps for i in range(steps + 1)]
    return [_values(dtlz2((x, y))) for x in grid for y in grid]


@dataclass(frozen=True)
class SyntheticEvaluator:
    """Evaluates members of a synthetic space.

    Args:
        seconds: how long every job sleeps.
        fails: says why a member fails, None where it does not; a module-level function, so that it pickles.
        kills: members whose evaluation ends the process at once.
    """

    seconds: float = 0.0
    fails: Callable[[Member], str | None] | None = None
    kills: Callable[[Member], bool] | None = None

    def evaluate(self, job: Job) -> Evaluation:
        assert isinstance(job, Score | Verify | Train), f"{job} is not about one member"
        if self.kills is not None and self.kills(job.member):
            os._exit(1)
        time.sleep(self.seconds)
        reason = self.fails(job.member) if self.fails is not None else None
        if reason is not None:
            return Evaluation(job.key, Failed("synthetic", reason), seconds=self.seconds)
        values = _values(dtlz2(job.member.config(SyntheticConfig).point))
        drop = 0.2 * values["kl"]
        extras = {"accuracy": ORIGINAL_ACCURACY - drop, "accuracy_drop": drop}
        return Evaluation(job.key, Complete(values, extras), seconds=self.seconds)


@dataclass(frozen=True)
class SyntheticForesight:
    """Foresees the bytes of a synthetic member, and of the rest only its coordinates."""

    def foresee(self, member: Member) -> Foresight:
        point = member.config(SyntheticConfig).point
        return Foresight({"size": _values(dtlz2(point))["size"]}, point)


def _values(f: tuple[float, float, float]) -> dict[str, float]:
    return {"kl": NATS * f[0], "latency": MILLISECONDS * f[1], "size": BYTES * f[2]}
