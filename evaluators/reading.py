"""What members read: texts as tokens of the vocabulary that a member has left. Knows tokenizers; knows no models."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from evaluators.tasks.base import Encoded, Rows, encode
from evaluators.vocabulary import pruned_config, pruned_tokenizer
from spaces.axes.vocabulary import Vocabulary
from spaces.design import Member


@dataclass(frozen=True)
class Texts:
    """The rows of a run before they are tokenised.

    Args:
        rows: by split.
        tokenizer: the original's.
        max_length: tokens beyond it are cut.
        ranking: its tokens, most needed first; empty where no member's vocabulary is pruned.
    """

    rows: Mapping[str, Rows]
    tokenizer: Any
    max_length: int
    ranking: tuple[int, ...] = ()


class Readings:
    """Tokenised rows and tokenizers by member; each vocabulary is tokenised once.

    Args:
        texts: of the run.
        whole: by split, tokenised with the whole vocabulary.
    """

    def __init__(self, texts: Texts, whole: Mapping[str, Encoded]) -> None:
        self._texts = texts
        self._encoded = {(0, split): rows for split, rows in whole.items()}
        self._tokenizers: dict[tuple[int, ...], Any] = {}

    def rows(self, member: Member, split: str) -> Encoded:
        """A split as `member` reads it."""
        kept = self._kept(member)
        key = len(kept or ()), split  # no vocabulary is empty: 0 stands for the whole
        if key not in self._encoded:
            self._encoded[key] = encode(self._texts.rows[split], self.tokenizer(member), self._texts.max_length)
        return self._encoded[key]

    def tokenizer(self, member: Member) -> Any:
        """The tokenizer that `member` ships with."""
        kept = self._kept(member)
        if kept is None:
            return self._texts.tokenizer
        if kept not in self._tokenizers:
            self._tokenizers[kept] = pruned_tokenizer(self._texts.tokenizer, kept)
        return self._tokenizers[kept]

    def config(self, member: Member, original: Any) -> Any:
        """The model configuration that `member` ships with, from the original's."""
        kept = self._kept(member)
        return original if kept is None else pruned_config(original, kept)

    def _kept(self, member: Member) -> tuple[int, ...] | None:
        sizes = [config for config in member.configs if isinstance(config, Vocabulary)]
        return sizes[0].kept(self._texts.ranking) if sizes else None
