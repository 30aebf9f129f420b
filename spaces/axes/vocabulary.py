"""Vocabulary: how many tokens keep their row of the word table. Knows counts and rankings; knows no tokenizer."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from spaces.errors import DesignError
from spaces.knobs import Choice, Knob, Scalar
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


class VocabularyAxis:
    """How many tokens stay.

    Knob: `vocabulary.size`; the size of the model's vocabulary stands for the whole.

    Args:
        shape: the model's sizes.
        sizes: numbers of tokens that may stay, besides the whole; larger ones are left out.
    """

    config = Vocabulary

    def __init__(self, shape: ModelShape, sizes: Sequence[int]) -> None:
        smaller = sorted({size for size in sizes if size < shape.vocab}, reverse=True)
        self._sizes = (shape.vocab, *smaller)
        self.knobs: Mapping[str, Knob] = {KNOB: Choice(self._sizes)}

    def decode(self, knobs: Mapping[str, Scalar]) -> Vocabulary:
        """The size; the whole where the knob is absent."""
        size = int(knobs.get(KNOB, self._sizes[0]))
        return Vocabulary.whole() if size == self._sizes[0] else Vocabulary(size)

    def ladder(self) -> list[dict[str, Scalar]]:
        """Every size, the whole first."""
        return [{KNOB: size} for size in self._sizes]

    def neutral(self) -> dict[str, Scalar]:
        """The knob of the whole."""
        return {KNOB: self._sizes[0]}

    def extremes(self) -> dict[str, dict[str, Scalar]]:
        """The designs at the ends of the axis, by name."""
        return {"whole": self.neutral(), "smallest": {KNOB: self._sizes[-1]}}
