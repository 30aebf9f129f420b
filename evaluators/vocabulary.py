"""Which tokens a task needs, and tokenizers of those alone. Knows texts and rankings; knows no weights and no graph."""

import copy
import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

from evaluators.pieces import content_of, letters, parents, pieces, renumbered, special
from evaluators.tasks.base import Text, parted
from spaces.errors import DesignError, RunError
from spaces.whole import write_whole

_PROSE = 12  # words; shorter paragraphs are titles and grammar


@dataclass(frozen=True)
class Ranking:
    """All tokens of a tokenizer, most needed first.

    Args:
        tokens: their ids; what BPE merges a token from comes before it.
        required: how many at the start must stay: special tokens and what words can always be spelled with.
        seen: how many at the start split the ranked texts as the whole vocabulary does.
    """

    tokens: tuple[int, ...]
    required: int
    seen: int


def exact_rows(ranking: Ranking, share: float) -> int:
    """How many tokens stay, or stay exact, given as a share of those that the ranked texts use."""
    return min(len(ranking.tokens), max(ranking.required, round(share * ranking.seen)))


@dataclass(frozen=True)
class Affected:
    """What a smaller vocabulary does to texts, in shares from 0 to 1.

    Args:
        tokens: of the tokens before, those whose piece is gone.
        rows: of the texts, those that are split otherwise.
        unknown: of the tokens after, those that are unknown in addition.
    """

    tokens: float
    rows: float
    unknown: float


def rank_tokens(tokenizer: Any, texts: Sequence[Text]) -> Ranking:
    """Special tokens, then single characters, then the others by how often they occur in `texts`, then by id.

    Single characters are those of Latin-1 and of `texts`, as far as the tokenizer has them (of byte-level BPE, all 256
    bytes), and quotes, dashes and the like; others, of scripts that the texts do not use, are ranked like any token
    and are unknown once they are gone.

    Args:
        tokenizer: of `transformers`, with WordPiece, BPE or Unigram of the `tokenizers` library.
        texts: of the task; labels are not needed.

    Raises:
        ModelError: a tokenizer of another kind.
    """
    content = content_of(tokenizer)
    sources = parents(content)
    counts = Counter(token for ids in _ids(tokenizer, texts) for token in ids)
    by_need = sorted(pieces(content), key=lambda token: (-counts[token], token))
    required = _sources_first([*sorted(special(content)), *letters(content, counts)], sources)
    seen = _sources_first([*required, *(token for token in by_need if counts[token])], sources)
    return Ranking(_sources_first([*seen, *by_need], sources), len(required), len(seen))


def pruned_tokenizer(tokenizer: Any, kept: Sequence[int]) -> Any:
    """A copy of `tokenizer` that knows the tokens `kept` (ascending) alone, each by its place among them.

    Raises:
        ModelError: a tokenizer of another kind than `rank_tokens` takes.
        DesignError: a special token would go.
    """
    content, ids = content_of(tokenizer), _places(kept)
    if lost := sorted(special(content) - ids.keys()):
        raise DesignError(
            f"A vocabulary of {len(kept)} tokens lacks {pieces(content)[lost[0]]}, on which the tokenizer relies. "
            "Keep at least the tokens that the ranking requires."
        )
    pruned = copy.deepcopy(tokenizer)
    pruned._tokenizer = type(tokenizer.backend_tokenizer).from_str(json.dumps(renumbered(content, ids)))
    return pruned


def pruned_config(config: Any, kept: Sequence[int]) -> Any:
    """A copy of a model's configuration with the size and the special ids (`pad_token_id`, ...) that `kept` gives."""
    pruned, ids = copy.deepcopy(config), _places(kept)
    pruned.vocab_size = len(kept)
    for name, token in config.to_dict().items():
        if name.endswith("_token_id") and isinstance(token, int):
            setattr(pruned, name, ids.get(token))
    return pruned


def affected(tokenizer: Any, pruned: Any, texts: Sequence[Text]) -> Affected:
    """How `pruned` splits `texts` compared with `tokenizer`."""
    before, after = _split(tokenizer, texts), _split(pruned, texts)
    left = pruned.get_vocab().keys()
    gone = sum(piece not in left for row in before for piece in row)
    otherwise = sum(one != other for one, other in zip(before, after, strict=True))
    unknown = sum(row.count(pruned.unk_token) for row in after) - sum(row.count(tokenizer.unk_token) for row in before)
    lengths = [max(1, sum(map(len, rows))) for rows in (before, after)]
    return Affected(gone / lengths[0], otherwise / max(1, len(texts)), max(0, unknown) / lengths[1])


def foreign_text() -> tuple[str, ...]:
    """Paragraphs of Python's own reference: prose far from most tasks, the same for the same version of Python."""
    paragraphs = [paragraph for topic in topics.values() for paragraph in topic.split("\n\n")]
    prose = (paragraph for paragraph in paragraphs if paragraph[:1].isupper() and len(paragraph.split()) >= _PROSE)
    return tuple(dict.fromkeys(" ".join(paragraph.split()) for paragraph in prose))


def tokenizer_sha256(tokenizer: Any) -> str:
    """Hash of all that decides how a tokenizer splits texts."""
    return hashlib.sha256(json.dumps(content_of(tokenizer), sort_keys=True).encode()).hexdigest()


def save_vocabulary(path: Path, ranking: Ranking, tokenizer_sha: str, texts_sha: str) -> None:
    """Write the ranking as JSON, with the hashes of what it was computed from."""
    content = {"tokenizer_sha256": tokenizer_sha, "texts_sha256": texts_sha, **asdict(ranking)}
    write_whole(path, json.dumps(content))


def load_vocabulary(path: Path, tokenizer_sha: str, texts_sha: str) -> Ranking:
    """Read the ranking back.

    Raises:
        RunError: it was computed from another tokenizer or other texts.
    """
    content = json.loads(path.read_text())
    for name, expected in (("tokenizer_sha256", tokenizer_sha), ("texts_sha256", texts_sha)):
        if content[name] != expected:
            raise RunError(f"{path} has {name}={content[name]}, this run {expected}. Start a new run folder (--out).")
    return Ranking(tuple(content["tokens"]), content["required"], content["seen"])


def _sources_first(tokens: Iterable[int], sources: Mapping[int, Sequence[int]]) -> tuple[int, ...]:
    """`tokens` in order, each behind what it is merged from, none twice."""
    placed: dict[int, None] = {}

    def place(token: int) -> None:
        if token not in placed:
            for source in sources.get(token, ()):
                place(source)
            placed[token] = None

    for token in tokens:
        place(token)
    return tuple(placed)


def _places(kept: Sequence[int]) -> dict[int, int]:
    """New ids by old ones."""
    return {token: place for place, token in enumerate(kept)}


def _ids(tokenizer: Any, texts: Sequence[Text]) -> list[list[int]]:
    """Token ids of each text, uncut."""
    if not texts:
        return []
    parts = [part for text in texts for part in parted(text)]
    rows: list[list[int]] = tokenizer(parts, add_special_tokens=False, verbose=False)["input_ids"]
    return rows


def _split(tokenizer: Any, texts: Sequence[Text]) -> list[list[str]]:
    return [tokenizer.convert_ids_to_tokens(ids) for ids in _ids(tokenizer, texts)]
