"""The linear baseline against scikit-learn's own pipeline, and its files."""

from pathlib import Path

import numpy as np
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from evaluators.tasks.base import Rows
from evaluators.tasks.linear import LinearBaseline
from spaces.errors import RunError

SUBJECTS = ("the film", "This plot", "a cast", "its score", "every scene", "naïve dialogue")
MOODS = (("was superb", "is a joy", "works"), ("was dull", "is a bore", "fails"), ("was okay", "is fine", "exists"))


def rows(classes: int) -> Rows:
    pairs = [
        (f"{subject} {ending}, number {i}", label)
        for label in range(classes)
        for i, subject in enumerate(SUBJECTS)
        for ending in MOODS[label]
    ]
    return Rows(tuple(text for text, _ in pairs), tuple(label for _, label in pairs))


@pytest.mark.parametrize("classes", [2, 3])
def test_equals_scikit_learn(classes: int) -> None:
    train = rows(classes)
    pipeline = make_pipeline(TfidfVectorizer(ngram_range=(1, 2)), LogisticRegression(max_iter=1000))
    pipeline.fit(train.texts, train.labels)
    texts = [*train.texts, "wholly unseen", "", "a a film FILM film works", "the film's plot was-superb, naïve"]
    logits = LinearBaseline.fit(train).logits(texts)
    assert logits.shape == (len(texts), classes)
    np.testing.assert_allclose(logits, pipeline.predict_log_proba(texts), atol=1e-5)


def test_saved_and_loaded_it_answers_the_same_from_plain_files(tmp_path: Path) -> None:
    train = rows(3)
    fitted = LinearBaseline.fit(train)
    fitted.save(tmp_path / "linear")
    loaded = LinearBaseline.load(tmp_path / "linear")
    np.testing.assert_array_equal(loaded.logits(train.texts), fitted.logits(train.texts))
    assert loaded.predict_one(train.texts[0]) == train.labels[0]
    assert sorted(file.name for file in (tmp_path / "linear").iterdir()) == ["vocabulary.json", "weights.npz"]


def test_a_folder_without_it_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="holds no linear baseline"):
        LinearBaseline.load(tmp_path)


@pytest.mark.data
def test_movie_reviews_are_learnt() -> None:
    from evaluators.tasks.movie_reviews import MovieReviews

    splits = MovieReviews().splits(0)
    baseline = LinearBaseline.fit(splits.train)
    assert (baseline.logits(splits.test.texts).argmax(-1) == splits.test.labels).mean() > 0.74
