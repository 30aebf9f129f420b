"""What outputs mean: predictions, losses, divergences and metrics against definitions and reference implementations."""

import math
import pickle
from collections.abc import Sequence
from dataclasses import asdict

import numpy as np
import pytest
import torch
from scipy.stats import pearsonr, spearmanr
from sklearn.metrics import f1_score
from torch.distributions import Bernoulli, Normal, kl_divergence
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from evaluators.metrics.accuracy import Metric, paired_drop, row_drops, score
from evaluators.problems.base import (
    Label,
    Outputs,
    Problem,
    agreement,
    collapsed,
    mean_divergence,
    row_divergences,
    row_losses,
)
from evaluators.problems.classes import CLASSIFICATION
from evaluators.problems.labels import MULTI_LABEL
from evaluators.problems.value import Regression
from evaluators.problems.words import TokenClassification
from evaluators.tasks.base import Encoded, Rows
from search import wiring
from search.certificate import non_inferiority_of_losses
from search.config import RunConfig

VALUES = Regression(scale=2.0)
NAMES = TokenClassification(("O", "B-org", "I-org", "B-per", "I-per"), words=6)
# With the shape of a row's outputs.
PROBLEMS: dict[str, tuple[Problem, tuple[int, ...]]] = {
    "classification": (CLASSIFICATION, (3,)),
    "multi-label": (MULTI_LABEL, (4,)),
    "regression": (VALUES, (1,)),
    "token-classification": (NAMES, (6, 5)),
}


def draw(problem: Problem, shape: Sequence[int], rows: int = 60, seed: int = 0) -> tuple[Outputs, np.ndarray]:
    rng = np.random.default_rng(seed)
    outputs = rng.normal(size=(rows, *shape)).astype(np.float32)
    noisy = outputs + rng.normal(size=outputs.shape).astype(np.float32)
    return outputs, problem.predictions(noisy)


@pytest.mark.parametrize("name", PROBLEMS)
class TestEvery:
    """Whatever a problem is, the rest of the project counts on this."""

    def test_the_same_answers_are_alike_and_nothing_apart(self, name: str) -> None:
        problem, shape = PROBLEMS[name]
        outputs, _ = draw(problem, shape)
        assert agreement(problem, outputs, outputs) == 1
        assert mean_divergence(problem, outputs, outputs) == 0

    def test_divergences_are_positive_and_grow_with_a_change(self, name: str) -> None:
        problem, shape = PROBLEMS[name]
        (outputs, _), (other, _) = draw(problem, shape), draw(problem, shape, seed=1)
        some, more = (row_divergences(problem, outputs, outputs + share * other) for share in (0.1, 1.0))
        assert (some > 0).all()
        assert more.mean() > 10 * some.mean()

    def test_perfect_predictions_have_the_best_figure_and_a_worse_model_drops(self, name: str) -> None:
        problem, shape = PROBLEMS[name]
        outputs, _ = draw(problem, shape)
        labels = problem.predictions(outputs)
        worse = outputs + draw(problem, shape, seed=2)[0]
        for metric_name in problem.metrics:
            metric = Metric.named(metric_name, problem)
            assert metric.of(outputs, labels) == pytest.approx(0 if metric_name.startswith("neg_") else 1)
            drop, low, high = paired_drop(metric, outputs, worse, labels)
            assert low < drop < high
            assert drop > 0

    def test_sums_over_rows_give_what_any_selection_of_rows_does(
        self, name: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        problem, shape = PROBLEMS[name]
        outputs, labels = draw(problem, shape)
        worse = outputs + draw(problem, shape, seed=2)[0]
        for metric_name in problem.metrics:
            metric = Metric.named(metric_name, problem)
            fast = score(metric, worse, labels), paired_drop(metric, outputs, worse, labels)
            rows = row_drops(metric, outputs, worse, labels)
            with monkeypatch.context() as patch:
                patch.setattr(Metric, "summed", None)
                slow = score(metric, worse, labels), paired_drop(metric, outputs, worse, labels)
                np.testing.assert_allclose(rows, row_drops(metric, outputs, worse, labels), atol=1e-9)
            assert asdict(fast[0]) == pytest.approx(asdict(slow[0]))
            assert fast[1] == pytest.approx(slow[1])

    def test_losses_of_rows_without_a_label_are_nothing(self, name: str) -> None:
        problem, shape = PROBLEMS[name]
        outputs, truth = draw(problem, shape, rows=3)
        known: list[Label] = [tuple(label) if isinstance(label, list) else label for label in truth.tolist()]
        rows = Rows(("a", "b", "c"), tuple(known), problem).joined(["d"])
        labels = np.asarray(rows.labels)
        assert problem.labelled(labels).tolist() == [True, True, True, False]
        losses = row_losses(problem, np.concatenate([outputs, outputs[:1]]), labels)
        assert (losses[:3] > 0).all()
        assert losses[3] == 0
        kept = Encoded(({"attention_mask": np.ones(1, np.int64)},) * 4, rows.labels, problem=problem).labelled()
        assert kept.labels == rows.labels[:3]

    def test_it_pickles_and_is_a_key(self, name: str) -> None:
        problem, _ = PROBLEMS[name]
        assert pickle.loads(pickle.dumps(problem)) == problem
        assert {problem: 1}[problem] == 1

    def test_one_answer_to_everything_is_collapsed(self, name: str) -> None:
        problem, shape = PROBLEMS[name]
        outputs, _ = draw(problem, shape)
        assert collapsed(problem, np.repeat(outputs[:1], 5, axis=0))
        assert not collapsed(problem, outputs)


def test_losses_are_those_of_torch() -> None:
    outputs, labels = torch.randn(7, 3), torch.tensor([0, 1, 2, -1, 0, 1, 2])
    expected = cross_entropy(outputs, labels, ignore_index=-1, reduction="none")
    torch.testing.assert_close(CLASSIFICATION.losses(outputs, labels), expected)
    several = torch.randint(0, 2, (7, 3))
    expected = binary_cross_entropy_with_logits(outputs, several.float(), reduction="none").mean(-1)
    torch.testing.assert_close(MULTI_LABEL.losses(outputs, several), expected)


def test_no_gradient_comes_from_rows_without_a_number() -> None:
    outputs = torch.randn(2, 1, requires_grad=True)
    VALUES.losses(outputs, torch.tensor([1.0, math.nan])).sum().backward()
    assert outputs.grad is not None
    assert outputs.grad[0] != 0
    assert outputs.grad[1] == 0


def test_divergences_of_labels_and_numbers_are_those_of_distributions() -> None:
    one, other = torch.randn(5, 4).double(), torch.randn(5, 4).double()
    expected = kl_divergence(Bernoulli(logits=one), Bernoulli(logits=other)).sum(-1)
    torch.testing.assert_close(MULTI_LABEL.divergences(one, other), expected)
    expected = kl_divergence(Normal(one[:, 0], 2.0), Normal(other[:, 0], 2.0))
    torch.testing.assert_close(VALUES.divergences(one[:, :1], other[:, :1]), expected)


def test_metrics_of_several_labels_are_those_of_scikit_learn() -> None:
    outputs, labels = draw(MULTI_LABEL, (4,))
    predictions = MULTI_LABEL.predictions(outputs)
    for name, average in (("f1_micro", "micro"), ("f1_macro", "macro")):
        assert Metric.named(name, MULTI_LABEL)(labels, predictions) == pytest.approx(
            f1_score(labels, predictions, average=average)
        )
    nothing = np.zeros_like(labels)
    assert Metric.named("f1_macro", MULTI_LABEL)(nothing, nothing) == 0


def test_correlations_are_those_of_scipy_with_ties() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 5, 80).astype(float)
    predictions = np.round(labels + rng.normal(size=80), 1)
    assert Metric.named("pearson", VALUES)(labels, predictions) == pytest.approx(pearsonr(labels, predictions)[0])
    assert Metric.named("spearman", VALUES)(labels, predictions) == pytest.approx(spearmanr(labels, predictions)[0])
    assert Metric.named("spearman", VALUES)(labels, np.ones(80)) == 0


def test_a_metric_to_be_small_is_negated_once() -> None:
    labels, predictions = np.array([1.0, 2.0]), np.array([1.0, 4.0])
    assert Metric("neg_mae", VALUES)(labels, predictions) == -1
    assert Metric("neg_mae", VALUES, "min")(labels, predictions) == 1
    assert Metric("neg_mae", VALUES, "min").title == "-neg_mae"


def test_row_drops_of_a_mean_over_rows_are_its_terms() -> None:
    """The jackknife gives back what is averaged: for exact matches 1, 0 or -1."""
    (base, labels), (other, _) = draw(MULTI_LABEL, (2,)), draw(MULTI_LABEL, (2,), seed=3)
    metric = Metric.named("exact", MULTI_LABEL)
    right = [(MULTI_LABEL.predictions(each) == labels).all(-1).astype(float) for each in (base, other)]
    np.testing.assert_allclose(row_drops(metric, base, other, labels), right[0] - right[1], atol=1e-9)


def test_row_drops_estimate_the_drop_and_its_error() -> None:
    """Against the bootstrap, for a metric that is no mean over rows."""
    (base, labels), (other, _) = draw(VALUES, (1,), rows=400), draw(VALUES, (1,), rows=400, seed=5)
    mixed, metric = base + 0.3 * other, Metric.named("spearman", VALUES)
    drop, low, high = paired_drop(metric, base, mixed, labels)
    terms = row_drops(metric, base, mixed, labels)
    assert terms.mean() == pytest.approx(drop, abs=0.002)
    assert terms.std(ddof=1) / 20 == pytest.approx((high - low) / (2 * 1.96), rel=0.15)
    assert not row_drops(metric, base, base, labels).any()


def test_certificates_on_correlations_are_wrong_as_seldom_as_they_say() -> None:
    """Of models whose true loss is exactly the margin at most about one in twenty passes."""
    rng, passed, margin = np.random.default_rng(0), 0, 0.0
    large = rng.normal(size=(200_000, 3))
    truth, noise = large[:, 0], large[:, 1:]
    base, other = truth + 0.5 * noise[:, 0], truth + 0.6 * noise[:, 0] + 0.1 * noise[:, 1]
    margin = float(np.corrcoef(truth, base)[0, 1] - np.corrcoef(truth, other)[0, 1])
    metric = Metric.named("pearson", VALUES)
    for start in range(0, 200_000, 500):
        rows = slice(start, start + 500)
        losses = row_drops(metric, base[rows, None], other[rows, None], truth[rows])
        passed += non_inferiority_of_losses(losses.tolist(), margin, largest=0.0).passes
    assert passed / 400 <= 0.08


def test_intervals_of_several_labels_hold_the_figure() -> None:
    outputs, labels = draw(MULTI_LABEL, (4,), rows=200)
    figure = score(Metric.named("f1_micro", MULTI_LABEL), outputs, labels)
    assert figure.low < figure.value < figure.high


@pytest.mark.parametrize(
    ("task", "metric"),
    [
        ("movie-reviews", "accuracy"),
        ("rows.csv", "accuracy"),
        ({"file": "rows.csv", "problem": "regression"}, "spearman"),
        ({"data": "rows.csv"}, "agreement"),
        ({"name": "movie-reviews", "metric": "f1"}, "f1"),
    ],
)
def test_a_task_is_judged_by_its_problem_s_metric_however_it_is_named(task: object, metric: str) -> None:
    assert RunConfig.parse({"task": task}).task.metric == metric


@pytest.mark.parametrize("name", ["movie-reviews", "mail-spam"])
def test_packaged_tasks_have_their_metric(name: str) -> None:
    assert wiring.task(RunConfig.parse({"task": name})).metric == Metric.named("accuracy")
