"""Vocabulary: how many tokens keep their row of the word table. Knows counts and rankings; knows no tokenizer."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from spaces.axes.tokens import TokensAxis
from spaces.errors import DesignError
from spaces.knobs import Scalar
from spaces.shape import ModelShape

KNOB = "vocabulary.size"


@dataclass(frozen=True)
class Vocabulary:
    """The tokens that stay: the first of one ranking, which is the same in the whole run.

    Args:
        size: how many stay; None: all of the model's.
    """

    size: int | None

    family: ClassVar[str] = "vocabulary"

    @classmethod
    def whole(cls) -> Self:
        """Every token stays."""
        return cls(None)

    def to_decoded(self) -> dict[str, Any]:
        return {"embeddings": {"vocabulary": self.size}}

    @classmethod
    def from_decoded(cls, decoded: Mapping[str, Any]) -> Self:
        """The whole vocabulary where the record is older than this family."""
        return cls(decoded.get("embeddings", {}).get("vocabulary"))

    def kept(self, ranking: Sequence[int], fixed: Iterable[int] = ()) -> tuple[int, ...] | None:
        """Ids of the tokens that stay, ascending: a token's new id is its place among them. None: all keep their ids.

        Args:
            ranking: ids of the model's tokens, most needed first.
            fixed: ids that the model itself knows, such as the padding that RoBERTa counts positions from.

        Raises:
            DesignError: the ranking has fewer tokens, or one of `fixed` would change.
        """
        if self.size is None:
            return None
        if not 0 < self.size <= len(ranking):
            raise DesignError(
                f"The design keeps {self.size} tokens, the template's ranking has {len(ranking)}. "
                "Give the template a ranking of its tokenizer (with_vocabulary), or keep the whole vocabulary."
            )
        kept = tuple(sorted(ranking[: self.size]))
        for token in fixed:
            if kept[token : token + 1] != (token,):
                raise DesignError(
                    f"The model relies on token {token}, whose id a vocabulary of {self.size} tokens would change. "
                    "Rank the tokens before it first, or keep the whole vocabulary."
                )
        return kept


class VocabularyAxis(TokensAxis):
    """How many tokens stay: the knob `vocabulary.size`; arguments as of TokensAxis."""

    config = Vocabulary

    def __init__(self, shape: ModelShape, sizes: Sequence[int]) -> None:
        super().__init__(KNOB, shape, sizes)

    def decode(self, knobs: Mapping[str, Scalar]) -> Vocabulary:
        """The size; the whole where the knob is absent."""
        return Vocabulary(self.count(knobs))
