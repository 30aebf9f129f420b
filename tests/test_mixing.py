"""Mixed texts: made of the given words alone, about as long, new, and the same for the same seed."""

import random

import pytest

from evaluators.training.mixing import mixed

WORDS = [
    "a",
    "warm",
    "and",
    "funny",
    "film",
    "that",
    "never",
    "quite",
    "finds",
    "its",
    "feet",
    "but",
    "charms",
    "all",
    "the",
    "same",
]
RNG = random.Random(0)
TEXTS = tuple(" ".join(RNG.choices(WORDS, k=RNG.randint(3, 20))) for _ in range(60))


def test_they_are_new_and_of_the_same_words() -> None:
    found = mixed(TEXTS, 2, seed=0)
    assert len(found) > 100
    assert not set(found) & set(TEXTS)
    assert len(set(found)) == len(found)
    assert {word for text in found for word in text.split()} <= set(WORDS)


def test_they_are_about_as_long() -> None:
    given, found = ([len(text.split()) for text in texts] for texts in (TEXTS, mixed(TEXTS, 2, seed=0)))
    assert max(found) <= max(given)
    assert sum(found) / len(found) == pytest.approx(sum(given) / len(given), rel=0.25)


def test_the_seed_decides() -> None:
    assert mixed(TEXTS, 1, seed=0) == mixed(TEXTS, 1, seed=0) != mixed(TEXTS, 1, seed=1)


@pytest.mark.parametrize("texts", [(), ("word", "other"), ("", " ")])
def test_from_texts_of_one_word_come_none(texts: tuple[str, ...]) -> None:
    assert mixed(texts, 3, seed=0) == ()


def test_none_are_asked_for() -> None:
    assert mixed(TEXTS, 0, seed=0) == ()
