"""Flips counted by hand, and slices in an order that few rows cannot win."""

import numpy as np
import pytest

from evaluators.metrics.accuracy import Metric, wilson
from evaluators.metrics.flips import by_class, by_confidence, by_length, by_value, compared, flips, worst_first

# Rows by predicted class of base and model, and label: kept right, negative, positive, both wrong alike, both wrong.
BASE, MODEL, LABELS = np.array([0, 0, 1, 1, 2]), np.array([0, 1, 0, 1, 1]), np.array([0, 0, 0, 0, 0])


def logits(classes: np.ndarray, sure: float = 2.0) -> np.ndarray:
    """Logits (rows, 3) whose largest is that of `classes`."""
    return sure * np.eye(3, dtype=np.float32)[classes]


def test_every_kind_of_flip_is_counted() -> None:
    part = compared("all", logits(BASE), logits(MODEL), LABELS)
    assert (part.n, part.disagreement.rows, part.disagreement.value) == (5, 3, 0.6)
    judged = part.judged
    assert judged is not None
    assert (judged.negative.rows, judged.positive.rows) == (1, 1)
    assert (judged.base.value, judged.model.value, judged.drop[0]) == (0.4, 0.4, 0.0)
    assert (judged.negative.low, judged.negative.high) == pytest.approx(wilson(1 / 5, 5))
    assert [flip.kind for flip in flips(logits(BASE), logits(MODEL), LABELS)] == ["negative", "positive", "neither"]


def test_the_metric_of_the_task_is_that_of_all_rows() -> None:
    labels, base, model = np.array([1, 1, 0, 0]), np.array([1, 1, 0, 0]), np.array([1, 0, 0, 0])
    part = compared("all", logits(base), logits(model), labels, Metric("f1"))
    assert part.judged is not None
    assert part.judged.model.value == pytest.approx(2 / 3)
    assert part.judged.drop[0] == pytest.approx(1 / 3)


def test_without_labels_only_agreement_is_known() -> None:
    part = compared("all", logits(BASE), logits(MODEL), None)
    assert part.judged is None
    assert part.evidence == (True, part.disagreement.low)
    assert {flip.kind for flip in flips(logits(BASE), logits(MODEL), None)} == {None}


def test_probabilities_and_change_are_those_of_the_softmax() -> None:
    before, after = np.log([[0.7, 0.2, 0.1], [0.6, 0.3, 0.1]]), np.log([[0.1, 0.8, 0.1], [0.4, 0.5, 0.1]])
    first, second = flips(before, after, np.array([1, 0]))
    assert (first.row, first.kind, first.base, first.model) == (0, "positive", 0, 1)
    assert (first.base_probability, first.model_probability) == pytest.approx((0.7, 0.8))
    assert (first.change, second.change) == pytest.approx((0.6, 0.2))


def test_a_slice_of_two_rows_does_not_beat_one_of_hundreds() -> None:
    few, many = range(2), range(2, 402)
    base = np.zeros(402, dtype=int)
    model = np.where((np.arange(402) < 2) | (np.arange(402) % 5 == 0), 1, 0)  # both of two, and a fifth of the others
    parts = worst_first({"few": few, "many": many}, logits(base), logits(model), np.zeros(402, dtype=int))
    assert [part.name for part in parts] == ["many", "few"]
    drops = {part.name: part.judged.drop[0] for part in parts if part.judged is not None}
    assert drops["few"] > drops["many"]


def test_slices_that_surely_lose_come_before_those_that_may_and_these_before_those_that_do_not() -> None:
    rng = np.random.default_rng(0)
    lost = {"surely": (60, 0), "may": (12, 8), "equal": (0, 0), "gains": (0, 60)}  # rows lost and won, of 500 each
    groups, base, model = dict[str, range](), list[int](), list[int]()
    for name, (worse, better) in lost.items():
        groups[name] = range(len(base), len(base) + 500)
        base += [0] * worse + [1] * better + [0] * (500 - worse - better)
        model += [1] * worse + [0] * (500 - worse)
    names = list(groups)
    rng.shuffle(names)
    parts = worst_first(
        {name: groups[name] for name in names},
        logits(np.array(base)),
        logits(np.array(model)),
        np.zeros(2000, dtype=int),
    )
    assert [part.name for part in parts] == ["surely", "may", "equal", "gains"]


def test_slices_have_every_row_once() -> None:
    texts = [" ".join(["word"] * n) for n in (3, 3, 5, 7, 9, 9, 11, 30)]
    sure = np.linspace(0.1, 3, 8)[:, None] * logits(np.arange(8) % 3, 1.0)
    for groups in (by_class(("a", "b", "c"), [0, 1, 1, 0, 2, 1, 0, 0], "class"), by_length(texts), by_confidence(sure)):
        assert sorted(row for rows in groups.values() for row in rows) == list(range(8))
    assert by_class(("a", "b", "c"), [2, 0], "class") == {"class a": [1], "class c": [0]}
    assert by_value(["x", "y", "x"], "part=") == {"part=x": [0, 2], "part=y": [1]}
    assert next(iter(by_length(texts))) == "3 words"
