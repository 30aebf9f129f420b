"""Further texts made of given ones, for a teacher to answer. Knows words; knows no models and no labels.

A teacher is surer of the rows it was trained on than of any other, and a student that sees only those learns little of
how it doubts. Texts that nobody wrote serve as well: a teacher's answer needs no label (after the augmentation of Jiao
et al. 2020, TinyBERT, arXiv 1909.10351, without its word vectors and language model).
"""

from collections.abc import Sequence

import numpy as np

from evaluators.tasks.base import Text, parted

_JOINED = 0.6  # share of texts that are parts of two; of the others some words are left out
_LEFT_OUT = 0.2


def mixed(texts: Sequence[Text], times: int, seed: int) -> tuple[Text, ...]:
    """`times` new texts for each one of `texts`, about as long; the same for the same seed. Of a pair one text changes.

    Args:
        texts: with words separated by white space; from others no new ones come.
        times: passes over them.
        seed: draws partners, cuts and words.
    """
    rng = np.random.default_rng(seed)
    rows = [[part.split() for part in parted(text)] for text in texts]
    found = dict[Text, None]()
    for _ in range(times):
        for row in rows:
            place = int(rng.integers(len(row))) if len(row) > 1 else 0
            if len(row[place]) > 1:
                made = _made(row[place], rows[rng.integers(len(rows))][place], rng)
                found[_text([*row[:place], made, *row[place + 1 :]])] = None
    known = set(texts)
    return tuple(text for text in found if all(parted(text)) and text not in known)


def _text(parts: Sequence[Sequence[str]]) -> Text:
    if len(parts) == 1:
        return " ".join(parts[0])
    first, second = (" ".join(words) for words in parts)
    return first, second


def _made(words: Sequence[str], others: Sequence[str], rng: np.random.Generator) -> list[str]:
    if rng.random() >= _JOINED:
        return [word for word in words if rng.random() >= _LEFT_OUT]
    cut = int(rng.integers(1, len(words) + 1))
    part = words[:cut] if rng.random() < 0.5 else words[-cut:]
    start = int(rng.integers(len(others)))
    return [*part, *others[start : start + len(words) - len(part)]]
