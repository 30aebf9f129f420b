"""Texts that say nearly the same. Knows words; knows nothing of labels or splits.

Resemblance of documents is the Jaccard index of their shingles, the runs of a few words in them (A. Broder, "On the
resemblance and containment of documents", 1997), here exact instead of sketched.
"""

from collections.abc import Sequence

import numpy as np
from sklearn.feature_extraction.text import CountVectorizer

_WORDS = 3
_BLOCK = 500
_PAD = "\x00 " * (_WORDS - 1)  # so that a text of one word has a shingle too


def without_near_duplicates(texts: Sequence[str], most_alike: float = 0.5) -> list[int]:
    """Indices, in order, of texts that resemble none kept before them.

    Args:
        texts: words are what white space separates, in any case.
        most_alike: the highest Jaccard index of two texts that both stay.
    """
    counter = CountVectorizer(binary=True, ngram_range=(_WORDS, _WORDS), token_pattern=r"\S+", dtype=np.int32)
    shingles = counter.fit_transform([_PAD + text for text in texts])
    sizes = np.asarray(shingles.sum(axis=1)).ravel()
    kept = np.zeros(len(texts), dtype=np.bool_)
    for start in range(0, len(texts), _BLOCK):
        shared = (shingles[start : start + _BLOCK] @ shingles.T).tocsr()
        for row, (begin, end) in enumerate(zip(shared.indptr, shared.indptr[1:], strict=False), start=start):
            others, common = shared.indices[begin:end], shared.data[begin:end]
            alike = common > most_alike * (sizes[row] + sizes[others] - common)
            kept[row] = not (alike & kept[others]).any()
    return np.flatnonzero(kept).tolist()
