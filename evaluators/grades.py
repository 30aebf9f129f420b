"""Which tokens a row can do without: a grade for every token, kept in the run's folder. Knows grades; knows no models.

Grades are small, because they travel in every compressed model: one byte a token. Insignificant words share the lower
ones, the most frequent the lowest, because what is everywhere says least; all others share the higher ones by weight.
Within either, a grade stands for an equal share of the words of the train rows, so that as many distinctions as a byte
has fall where rows have words to choose from.
"""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evaluators.pieces import content_of, pieces
from evaluators.tasks.base import Rows
from evaluators.tasks.word_weights import insignificant, presence_weights
from evaluators.vocabulary import tokenizer_sha256
from spaces.errors import RunError
from spaces.whole import write_whole

FILE = "grades.json"
SPECIAL = 255  # always stays; nothing else has this grade
UNGRADED = "the template has no grades of them. Give it some (with_grades), or let it read all."
_LOWER, _HIGHER = (1, 64), (65, 254)  # first and last grade; 0 is padding's


@dataclass(frozen=True)
class Grades:
    """A grade from 1 to SPECIAL for every row of a word table; the lowest go first.

    Args:
        grades: by token id.
    """

    grades: tuple[int, ...]

    def special(self, row: Sequence[int]) -> int:
        """How many tokens of a row always stay."""
        return sum(self.grades[token] == SPECIAL for token in row)


def grade_tokens(tokenizer: Any, rows: Rows, table: int) -> Grades:
    """Grades by the labelled texts of a task.

    Tokens that these do not have get the grade in the middle: half of the words that rows hold are less significant.
    A weight of zero would send every unknown word away first, and those are mostly rare ones, which say something.

    Args:
        tokenizer: of `transformers`, with WordPiece, BPE or Unigram of the `tokenizers` library.
        rows: train rows.
        table: rows of the model's word table; those that no token has count as unseen.

    Raises:
        ModelError: a tokenizer of another kind.
    """
    content = content_of(tokenizer)
    ids = tokenizer(list(rows.texts), add_special_tokens=False, verbose=False)["input_ids"]
    weights = presence_weights(ids, rows.labels, table)
    counts = np.zeros(table)
    for token, count in Counter(token for row in ids for token in row).items():
        counts[token] = count
    low = np.zeros(table, np.bool_)
    low[[token for token in insignificant(pieces(content), content) if token < table]] = True
    grades = np.zeros(table, np.int64)
    for tier, worth, (first, last) in ((low, -counts, _LOWER), (~low, weights, _HIGHER)):
        grades[tier] = _graded(worth[tier], counts[tier], first, last)
    grades[_always(tokenizer, table)] = SPECIAL
    return Grades(tuple(grades.tolist()))


def save_grades(path: Path, found: Grades, tokenizer: Any, rows: Rows) -> None:
    """Write the grades as JSON, with the hashes of what they were computed from."""
    write_whole(path, json.dumps({**_origin(tokenizer, rows), "grades": found.grades}))


def load_grades(path: Path, tokenizer: Any, rows: Rows) -> Grades:
    """Read the grades back.

    Raises:
        RunError: they were computed from another tokenizer or other rows.
    """
    content = json.loads(path.read_text())
    for name, expected in _origin(tokenizer, rows).items():
        if content[name] != expected:
            raise RunError(f"{path} has {name}={content[name]}, this run {expected}. Start a new run folder (--out).")
    return Grades(tuple(content["grades"]))


def _origin(tokenizer: Any, rows: Rows) -> dict[str, str]:
    return {"tokenizer_sha256": tokenizer_sha256(tokenizer), "rows_sha256": rows.sha256}


def _graded(worth: NDArray[np.float64], counts: NDArray[np.float64], first: int, last: int) -> NDArray[np.int64]:
    """Grades from `first` to `last` by worth, equal ones of equal worth; unseen tokens stand in the middle.

    Args:
        worth: of tokens.
        counts: how often each occurs.
        first, last: grades.
    """
    values, inverse = np.unique(worth, return_inverse=True)
    occurring = np.bincount(inverse, counts, len(values))
    before = np.cumsum(occurring) - occurring  # occurrences of less significant tokens
    grades = first + ((last + 1 - first) * before / max(1.0, occurring.sum())).astype(np.int64)
    found: NDArray[np.int64] = np.where(counts > 0, np.minimum(grades, last)[inverse], (first + last) // 2)
    return found


def _always(tokenizer: Any, table: int) -> list[int]:
    """Ids of special tokens, but for the one that stands for unknown words, which is a word like any other."""
    special = {token for token in tokenizer.all_special_ids if token < table}
    others = {getattr(tokenizer, f"{role}_token_id", None) for role in ("cls", "sep", "bos", "eos", "pad", "mask")}
    return sorted(special - ({tokenizer.unk_token_id} - others))
