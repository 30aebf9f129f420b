"""Rare words: how many tokens keep a row of their own; the others share the parts of theirs. Knows counts only."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from spaces.errors import DesignError
from spaces.knobs import Choice, Knob, Scalar
from spaces.shape import ModelShape

KNOB = "rare.exact"


@dataclass(frozen=True)
class RareTokens:
    """The tokens whose row of the word table is exact: the first of one ranking, which is the same in the whole run.

    The rows of the others are put together from parts that they share (evaluators/codebook.py). Every word stays known.

    Args:
        exact: how many rows are exact; None: all of the model's.
    """

    exact: int | None

    family: ClassVar[str] = "rare"

    @classmethod
    def none(cls) -> Self:
        """Every row is exact."""
        return cls(None)

    def to_decoded(self) -> dict[str, Any]:
        return {"embeddings": {"exact_rows": self.exact}}

    @classmethod
    def from_decoded(cls, decoded: Mapping[str, Any]) -> Self:
        """All rows exact where the record is older than this family."""
        return cls(decoded.get("embeddings", {}).get("exact_rows"))

    def split(self, ranking: Sequence[int], rows: int) -> tuple[tuple[int, ...], tuple[int, ...]] | None:
        """Ids of the tokens with exact rows, and of the others, both ascending; None: all are exact.

        Args:
            ranking: ids of the model's tokens, most needed first.
            rows: of the word table; those that no token has count as rare.

        Raises:
            DesignError: the ranking has fewer tokens.
        """
        if self.exact is None:
            return None
        if not 0 < self.exact <= len(ranking):
            raise DesignError(
                f"The design keeps {self.exact} exact rows, the template's ranking has {len(ranking)} tokens. "
                "Give the template a ranking of its tokenizer (with_vocabulary), or keep all rows exact."
            )
        exact = set(ranking[: self.exact])
        return tuple(sorted(exact)), tuple(token for token in range(rows) if token not in exact)


class RareAxis:
    """How many tokens keep exact rows.

    Knob: `rare.exact`; the size of the model's vocabulary stands for all.

    Args:
        shape: the model's sizes.
        sizes: numbers of exact rows, besides all; larger ones are left out.
    """

    config = RareTokens

    def __init__(self, shape: ModelShape, sizes: Sequence[int]) -> None:
        fewer = sorted({size for size in sizes if size < shape.vocab}, reverse=True)
        self._sizes = (shape.vocab, *fewer)
        self.knobs: Mapping[str, Knob] = {KNOB: Choice(self._sizes)}

    def decode(self, knobs: Mapping[str, Scalar]) -> RareTokens:
        """The number; all where the knob is absent."""
        exact = int(knobs.get(KNOB, self._sizes[0]))
        return RareTokens.none() if exact == self._sizes[0] else RareTokens(exact)

    def ladder(self) -> list[dict[str, Scalar]]:
        """Every number, all rows first."""
        return [{KNOB: size} for size in self._sizes]

    def neutral(self) -> dict[str, Scalar]:
        """The knob of all rows."""
        return {KNOB: self._sizes[0]}

    def extremes(self) -> dict[str, dict[str, Scalar]]:
        """The designs at the ends of the axis, by name."""
        return {"whole": self.neutral(), "smallest": {KNOB: self._sizes[-1]}}
