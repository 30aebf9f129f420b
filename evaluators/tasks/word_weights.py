"""How much each token matters to a task: stop words, punctuation, and what a linear model weighs. Knows no models.

Insignificant words are those of the same name in ICPC (arXiv 2312.12385): English stop words without negations, and
light punctuation. For all others the absolute weight of a token's presence in an L2-regularised logistic regression on
the train rows decides, the largest over the classes.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evaluators.pieces import Content
from evaluators.problems.base import Label
from evaluators.problems.classes import UNLABELED

# What turns a sentence around or weighs its parts against each other.
NEGATIONS = frozenset(
    {"no", "nor", "not", "none", "never", "nobody", "noone", "nothing", "nowhere", "neither"}
    | {"cannot", "cant", "couldnt", "hasnt", "without", "against"}
    | {"but", "however", "although", "though", "yet", "too", "only"}
)
# What the list has besides function words; these say something.
MEANINGFUL = frozenset(
    {"bill", "cry", "describe", "detail", "empty", "fill", "fire", "full", "interest", "mill", "serious", "sincere"}
    | {"system", "thick", "thin"}
)
# Exclamation and question marks are not light: they carry tone.
LIGHT = frozenset(",.;:'\"`-_()[]{}/\u2013\u2014\u2026\u2018\u2019\u201c\u201d")  # the last ones are typographic
# By which BPE and SentencePiece mark that a word begins.
_BEGINS = ("Ġ", "▁")


def insignificant(pieces: Mapping[int, str], content: Content) -> frozenset[int]:
    """Tokens that are a whole stop word, or punctuation.

    Args:
        pieces: all tokens by id.
        content: of their tokenizer.
    """
    from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS  # loads slowly

    words = ENGLISH_STOP_WORDS - NEGATIONS - MEANINGFUL
    marked = content["model"]["type"] != "WordPiece"
    return frozenset(token for token, piece in pieces.items() if _goes(piece, words, marked))


def _goes(piece: str, words: frozenset[str], marked: bool) -> bool:
    """Whether a piece is one of `words`, or light punctuation; where words are `marked`, one without is a rest."""
    begins = not marked or piece.startswith(_BEGINS)
    bare = piece.lstrip("".join(_BEGINS)) if marked else piece
    return (begins and bare.lower() in words) or (bare != "" and LIGHT.issuperset(bare))


def presence_weights(rows: Sequence[Sequence[int]], labels: Sequence[Label], tokens: int) -> NDArray[np.float64]:
    """Absolute weight of each token's presence, (tokens,); one classifier per class, the largest of their weights.

    Args:
        rows: token ids of each text.
        labels: class indices; rows without a label are left out.
        tokens: how many ids there are.
    """
    from scipy.sparse import csr_array
    from sklearn.linear_model import LogisticRegression
    from sklearn.multiclass import OneVsRestClassifier

    labelled = [(sorted(set(row)), label) for row, label in zip(rows, labels, strict=True) if label != UNLABELED]
    columns = np.array([token for row, _ in labelled for token in row], np.int64)
    ends = np.cumsum([0, *(len(row) for row, _ in labelled)])
    present = csr_array((np.ones(len(columns)), columns, ends), shape=(len(labelled), tokens))
    fitted: Any = OneVsRestClassifier(LogisticRegression(max_iter=1000)).fit(present, [label for _, label in labelled])
    weights: NDArray[np.float64] = np.abs([one.coef_[0] for one in fitted.estimators_]).max(axis=0)
    return weights
