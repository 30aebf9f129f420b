"""Rare words: how many tokens keep a row of their own; the others share the parts of theirs. Knows counts only."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from spaces.axes.tokens import TokensAxis
from spaces.errors import DesignError
from spaces.knobs import Scalar
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


class RareAxis(TokensAxis):
    """How many tokens keep exact rows: the knob `rare.exact`; arguments as of TokensAxis."""

    config = RareTokens

    def __init__(self, shape: ModelShape, sizes: Sequence[int]) -> None:
        super().__init__(KNOB, shape, sizes)

    def decode(self, knobs: Mapping[str, Scalar]) -> RareTokens:
        """The number; all where the knob is absent."""
        return RareTokens(self.count(knobs))
