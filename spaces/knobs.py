"""What a single coordinate of a design may be. Knows ranges; knows nothing of what a knob means."""

import random
from dataclasses import dataclass
from typing import Protocol, TypeAlias, runtime_checkable

Scalar: TypeAlias = bool | int | float | str


@runtime_checkable
class Knob(Protocol):
    """A set of scalars that can be drawn from."""

    def contains(self, value: Scalar) -> bool: ...

    def sample(self, rng: random.Random) -> Scalar: ...


@dataclass(frozen=True)
class Choice:
    """One of a few listed scalars, without an order that means anything."""

    values: tuple[Scalar, ...]

    def __post_init__(self) -> None:
        if not self.values:
            raise ValueError("Choice() needs at least one value, found none.")
        if len(set(self.values)) != len(self.values):
            raise ValueError(f"Choice{self.values} lists a value twice.")

    def contains(self, value: Scalar) -> bool:
        return any(type(value) is type(known) and value == known for known in self.values)

    def sample(self, rng: random.Random) -> Scalar:
        return rng.choice(self.values)


@dataclass(frozen=True)
class IntRange:
    """An integer from `low` to `high`, both included."""

    low: int
    high: int

    def __post_init__(self) -> None:
        if self.low > self.high:
            raise ValueError(f"IntRange({self.low}, {self.high}) is empty.")

    def contains(self, value: Scalar) -> bool:
        return type(value) is int and self.low <= value <= self.high

    def sample(self, rng: random.Random) -> Scalar:
        return rng.randint(self.low, self.high)


@dataclass(frozen=True)
class FloatRange:
    """A real number from `low` to `high`, both included, in steps of `step` if one is given."""

    low: float
    high: float
    step: float | None = None

    def __post_init__(self) -> None:
        if not self.low <= self.high:
            raise ValueError(f"FloatRange({self.low}, {self.high}) is empty.")
        if self.step is None:
            return
        steps = (self.high - self.low) / self.step if self.step > 0 else -1.0
        if steps < 0 or abs(steps - round(steps)) > 1e-6:
            raise ValueError(f"step={self.step} does not divide FloatRange({self.low}, {self.high}) into whole steps.")

    def contains(self, value: Scalar) -> bool:
        return type(value) in (int, float) and self.low - 1e-9 <= float(value) <= self.high + 1e-9

    def sample(self, rng: random.Random) -> Scalar:
        if self.step is None:
            return rng.uniform(self.low, self.high)
        steps = round((self.high - self.low) / self.step)
        return self.nearest(self.low + self.step * rng.randint(0, steps))

    def nearest(self, value: float) -> float:
        """The member of the range closest to `value` (on the grid if there is one)."""
        clipped = min(max(value, self.low), self.high)
        if self.step is None:
            return clipped
        return round(self.low + round((clipped - self.low) / self.step) * self.step, 9)
