"""Compression: the share of a row's tokens that a model reads. Knows counts; knows no tokens and no scores.

Insignificant words go first (ICPC, arXiv 2312.12385): which they are, evaluators/grades.py says. What stays keeps
its order, and positions count it anew, so neighbours always get neighbouring positions.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from spaces.design import Member
from spaces.errors import DesignError
from spaces.knobs import Choice, Knob, Scalar

KNOB = "compression.level"
WHOLE = 1.0


@dataclass(frozen=True)
class Compression:
    """How much of every row stays.

    Args:
        level: share of the tokens, in whole percent.

    Raises:
        DesignError: no such share.
    """

    level: float

    family: ClassVar[str] = "compression"

    def __post_init__(self) -> None:
        if not (0 < self.level <= WHOLE and abs(100 * self.level - self.percent) < 1e-6):
            raise DesignError(
                f"compression={self.level} is no share of the tokens in whole percent. Give one such as 0.7, at most 1."
            )

    @classmethod
    def none(cls) -> Self:
        """Every token stays."""
        return cls(WHOLE)

    @property
    def percent(self) -> int:
        return round(100 * self.level)

    def kept(self, tokens: int, special: int) -> int:
        """How many of a row's tokens stay: special ones always, else the share, rounded up.

        Args:
            tokens: of the row, without padding.
            special: how many of them the tokenizer itself put there.
        """
        return max(special, -(-tokens * self.percent // 100))

    def to_decoded(self) -> dict[str, Any]:
        """Nothing where all stay: such members are the same models as before there was this family."""
        return {} if self.level == WHOLE else {self.family: {"level": self.level}}

    @classmethod
    def from_decoded(cls, decoded: Mapping[str, Any]) -> Self:
        """All tokens where the record says nothing."""
        return cls(decoded.get(cls.family, {}).get("level", WHOLE))


class CompressionAxis:
    """One share for the whole model: the knob `compression.level`.

    Args:
        levels: shares besides all.
    """

    config = Compression

    def __init__(self, levels: Sequence[float]) -> None:
        self._levels = (WHOLE, *sorted({level for level in levels if level < WHOLE}, reverse=True))
        self.knobs: Mapping[str, Knob] = {KNOB: Choice(self._levels)}

    def decode(self, knobs: Mapping[str, Scalar]) -> Compression:
        """The share; all where the knob is absent."""
        return Compression(float(knobs.get(KNOB, WHOLE)))

    def ladder(self) -> list[dict[str, Scalar]]:
        """Every share, all first."""
        return [{KNOB: level} for level in self._levels]

    def neutral(self) -> dict[str, Scalar]:
        """The knob of all."""
        return {KNOB: WHOLE}

    def extremes(self) -> dict[str, dict[str, Scalar]]:
        """All tokens, and the fewest."""
        return {"whole": self.neutral(), "smallest": {KNOB: self._levels[-1]}}


def compression(member: Member) -> Compression:
    """The member's; none in a space without this family."""
    return next((config for config in member.configs if isinstance(config, Compression)), Compression.none())
