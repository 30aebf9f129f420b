"""The linear baseline: TF-IDF and a linear model. Knows texts and labels; knows nothing of transformers.

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
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evaluators.problems.classes import CLASSIFICATION
from evaluators.tasks.base import Rows, Text, parted
from spaces.errors import RunError

VOCABULARY, WEIGHTS = "vocabulary.json", "weights.npz"
_WORD = re.compile(r"(?u)\b\w\w+\b")  # scikit-learn's default


@dataclass(frozen=True)
class LinearBaseline:
    """Outputs from weighted words and pairs of neighbouring words.

    Args:
        vocabulary: column of each word and pair.
        idf: inverse document frequency per column, (F,).
        coefficients: (F, C).
        intercept: (C,).
        softmax: whether outputs are log-probabilities of classes, of which one is right.
    """

    vocabulary: dict[str, int]
    idf: NDArray[np.float32]
    coefficients: NDArray[np.float32]
    intercept: NDArray[np.float32]
    softmax: bool = True

    @classmethod
    def fit(cls, rows: Rows) -> "LinearBaseline":
        """Logistic or ridge regression on rows in which every class occurs; of pairs, on both texts as one.

        The solvers draw nothing, so there is no seed.
        """
        from sklearn.feature_extraction.text import TfidfVectorizer  # loads slowly, and applying needs none of it

        vectorizer = TfidfVectorizer(ngram_range=(1, 2))
        features = vectorizer.fit_transform([" ".join(parted(text)) for text in rows.texts])
        weights, bias = _fitted(features, rows)
        columns = {term: int(column) for term, column in vectorizer.vocabulary_.items()}
        idf, weights, bias = (np.asarray(a, dtype=np.float32) for a in (vectorizer.idf_, weights.T, bias))
        return cls(columns, idf, weights, bias, softmax=rows.problem == CLASSIFICATION)

    def logits(self, texts: Sequence[Text]) -> NDArray[np.float32]:
        """Outputs (rows, C), as a model's."""
        return np.array([self._outputs(text) for text in texts])

    def predict_one(self, text: Text) -> int:
        """The largest output's place."""
        return int(self._outputs(text).argmax())

    def save(self, folder: Path) -> None:
        """Write the two files that `load` reads."""
        folder.mkdir(parents=True, exist_ok=True)
        terms = sorted(self.vocabulary, key=self.vocabulary.__getitem__)
        (folder / VOCABULARY).write_text(json.dumps(terms, ensure_ascii=False), encoding="utf-8")
        arrays = {"idf": self.idf, "coefficients": self.coefficients, "intercept": self.intercept}
        np.savez(folder / WEIGHTS, allow_pickle=False, softmax=np.array(self.softmax), **arrays)

    @classmethod
    def load(cls, folder: Path) -> "LinearBaseline":
        """Read a folder that `save` wrote.

        Raises:
            RunError: a file is missing or damaged.
        """
        try:
            terms = json.loads((folder / VOCABULARY).read_text(encoding="utf-8"))
            with np.load(folder / WEIGHTS, allow_pickle=False) as arrays:
                idf, weights, bias = (arrays[name] for name in ("idf", "coefficients", "intercept"))
                softmax = bool(arrays.get("softmax", True))  # older files are of classes
        except (OSError, ValueError, KeyError) as error:
            raise RunError(f"{folder} holds no linear baseline: {error}. Run the search again.") from None
        return cls({term: column for column, term in enumerate(terms)}, idf, weights, bias, softmax)

    def _outputs(self, text: Text) -> NDArray[np.float32]:
        words = _WORD.findall(" ".join(parted(text)).lower())
        terms = Counter(words + [" ".join(pair) for pair in pairwise(words)])
        known = [(self.vocabulary[term], count) for term, count in terms.items() if term in self.vocabulary]
        columns = [column for column, _ in known]
        weights = np.asarray([count for _, count in known], dtype=np.float32) * self.idf[columns]  # (T,)
        length = math.sqrt(float(weights @ weights)) or 1.0
        scores = weights @ self.coefficients[columns] / length + self.intercept  # (C,)
        if self.softmax:
            scores = scores - scores.max()
            scores = scores - np.log(np.exp(scores).sum())
        return np.asarray(scores, dtype=np.float32)


def _fitted(features: Any, rows: Rows) -> tuple[NDArray[Any], NDArray[Any]]:
    """Weights (C, F) and intercepts (C,)."""
    from sklearn.linear_model import LogisticRegression, Ridge

    labels = np.asarray(rows.labels)
    if labels.dtype.kind == "f":
        ridge = Ridge().fit(features, labels)
        return ridge.coef_[None], np.array([ridge.intercept_])
    if labels.ndim == 2:
        each = [LogisticRegression(max_iter=1000).fit(features, column) for column in labels.T]
        return np.concatenate([one.coef_ for one in each]), np.concatenate([one.intercept_ for one in each])
    classifier = LogisticRegression(max_iter=1000).fit(features, labels)
    weights, bias = classifier.coef_, classifier.intercept_
    if len(weights) == 1:  # two classes: scikit-learn keeps the second one's log-odds
        weights, bias = np.concatenate([0 * weights, weights]), np.concatenate([0 * bias, bias])
    return weights, bias
