"""The linear baseline: TF-IDF and logistic regression. Knows texts and labels; knows nothing of transformers.

Fitted by scikit-learn, stored as JSON and npz without pickles, applied in plain Python and numpy.
"""

import json
import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from evaluators.tasks.base import Rows
from spaces.errors import RunError

VOCABULARY, WEIGHTS = "vocabulary.json", "weights.npz"
_WORD = re.compile(r"(?u)\b\w\w+\b")  # scikit-learn's default


@dataclass(frozen=True)
class LinearBaseline:
    """Log-probabilities from weighted words and pairs of neighbouring words.

    Args:
        vocabulary: column of each word and pair.
        idf: inverse document frequency per column, (F,).
        coefficients: (F, C).
        intercept: (C,).
    """

    vocabulary: dict[str, int]
    idf: NDArray[np.float32]
    coefficients: NDArray[np.float32]
    intercept: NDArray[np.float32]

    @classmethod
    def fit(cls, rows: Rows) -> "LinearBaseline":
        """Fit on rows in which every class occurs; the solver draws nothing, so there is no seed."""
        from sklearn.feature_extraction.text import TfidfVectorizer  # loads slowly, and applying needs none of it
        from sklearn.linear_model import LogisticRegression

        vectorizer = TfidfVectorizer(ngram_range=(1, 2))
        features = vectorizer.fit_transform(rows.texts)
        classifier = LogisticRegression(max_iter=1000).fit(features, rows.labels)
        weights, bias = classifier.coef_, classifier.intercept_
        if len(weights) == 1:  # two classes: scikit-learn keeps the second one's log-odds
            weights, bias = np.concatenate([0 * weights, weights]), np.concatenate([0 * bias, bias])
        columns = {term: int(column) for term, column in vectorizer.vocabulary_.items()}
        return cls(columns, *(np.asarray(a, dtype=np.float32) for a in (vectorizer.idf_, weights.T, bias)))

    def logits(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Log-probabilities, (rows, C)."""
        return np.array([self._log_probabilities(text) for text in texts])

    def predict_one(self, text: str) -> int:
        """The likeliest class."""
        return int(self._log_probabilities(text).argmax())

    def save(self, folder: Path) -> None:
        """Write the two files that `load` reads."""
        folder.mkdir(parents=True, exist_ok=True)
        terms = sorted(self.vocabulary, key=self.vocabulary.__getitem__)
        (folder / VOCABULARY).write_text(json.dumps(terms, ensure_ascii=False), encoding="utf-8")
        arrays = {"idf": self.idf, "coefficients": self.coefficients, "intercept": self.intercept}
        np.savez(folder / WEIGHTS, allow_pickle=False, **arrays)

    @classmethod
    def load(cls, folder: Path) -> "LinearBaseline":
        """Read a folder that `save` wrote.

        Raises:
            RunError: a file is missing or damaged.
        """
        try:
            terms = json.loads((folder / VOCABULARY).read_text(encoding="utf-8"))
            with np.load(folder / WEIGHTS, allow_pickle=False) as arrays:
                weights = [arrays[name] for name in ("idf", "coefficients", "intercept")]
        except (OSError, ValueError, KeyError) as error:
            raise RunError(f"{folder} holds no linear baseline: {error}. Run the search again.") from None
        return cls({term: column for column, term in enumerate(terms)}, *weights)

    def _log_probabilities(self, text: str) -> NDArray[np.float32]:
        words = _WORD.findall(text.lower())
        terms = Counter(words + [" ".join(pair) for pair in pairwise(words)])
        known = [(self.vocabulary[term], count) for term, count in terms.items() if term in self.vocabulary]
        columns = [column for column, _ in known]
        weights = np.asarray([count for _, count in known], dtype=np.float32) * self.idf[columns]  # (T,)
        length = math.sqrt(float(weights @ weights)) or 1.0
        scores = weights @ self.coefficients[columns] / length + self.intercept  # (C,)
        shifted = scores - scores.max()
        return np.asarray(shifted - np.log(np.exp(shifted).sum()), dtype=np.float32)
