"""Metrics against scikit-learn, closed forms and simulated coverage."""

import pickle
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn.metrics import f1_score, log_loss, matthews_corrcoef

from evaluators.metrics.accuracy import Metric, correct, paired_drop, score
from evaluators.metrics.calibration import expected_drop, fit_temperature, log_softmax
from evaluators.problems.base import agreement, collapsed, mean_divergence
from evaluators.problems.classes import CLASSIFICATION
from spaces.errors import ConfigError


def draw(n: int, classes: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = rng.integers(classes, size=n)
    logits = rng.normal(size=(n, classes)) + 1.2 * np.eye(classes)[labels]
    return logits, labels


@pytest.mark.parametrize("classes", [2, 3, 5])
@pytest.mark.parametrize("seed", range(5))
def test_metrics_equal_scikit_learn(classes: int, seed: int) -> None:
    logits, labels = draw(200, classes, seed)
    predictions = logits.argmax(-1)
    average = "binary" if classes == 2 else "macro"
    assert Metric.named("accuracy")(labels, predictions) == pytest.approx((labels == predictions).mean())
    assert Metric.named("f1")(labels, predictions) == pytest.approx(f1_score(labels, predictions, average=average))
    assert Metric.named("matthews")(labels, predictions) == pytest.approx(matthews_corrcoef(labels, predictions))


def test_constant_predictions() -> None:
    labels, predictions = np.array([0, 1, 0, 1]), np.zeros(4, dtype=int)
    assert Metric.named("matthews")(labels, predictions) == 0
    assert Metric.named("f1")(labels, predictions) == 0


def test_accuracy_interval_is_wilsons() -> None:
    logits, labels = draw(150, 2, 0)
    figure = score(Metric.named("accuracy"), logits, labels)
    expected = binomtest(int(correct(logits, labels).sum()), 150).proportion_ci(0.95, method="wilson")
    assert (figure.low, figure.high) == pytest.approx((expected.low, expected.high))
    assert figure.n == 150


@pytest.mark.parametrize("name", ["f1", "matthews"])
def test_bootstrap_interval_holds_the_value_and_repeats(name: str) -> None:
    logits, labels = draw(300, 3, 0)
    figure = score(Metric.named(name), logits, labels, seed=1)
    assert figure.low < figure.value < figure.high
    assert figure == score(Metric.named(name), logits, labels, seed=1)
    assert figure != score(Metric.named(name), logits, labels, seed=2)


@pytest.mark.parametrize("name", CLASSIFICATION.metrics)
def test_no_drop_against_itself(name: str) -> None:
    logits, labels = draw(200, 2, 0)
    drop, low, high = paired_drop(Metric.named(name), logits, logits, labels)
    assert drop == 0
    assert low <= 0 <= high


def test_paired_drop_is_the_difference_of_accuracies() -> None:
    (base, labels), (other, _) = draw(400, 2, 0), draw(400, 2, 1)
    drop, low, high = paired_drop(Metric.named("accuracy"), base, other, labels)
    assert drop == pytest.approx(correct(base, labels).mean() - correct(other, labels).mean())
    assert low < drop < high
    reverse = paired_drop(Metric.named("accuracy"), other, base, labels)
    assert reverse == pytest.approx((-drop, -high, -low))


def test_paired_interval_without_disagreement_still_has_a_width() -> None:
    logits, labels = draw(100, 2, 0)
    _, low, high = paired_drop(Metric.named("accuracy"), logits, logits, labels)
    assert low == pytest.approx(-1.959964 / 102)  # (0.5 - 0.5) / 102 and sqrt(0.5 + 0.5) / 102
    assert high == -low


def test_paired_interval_covers_the_truth() -> None:
    rng, n, covered = np.random.default_rng(0), 500, 0
    labels = np.zeros(n, dtype=int)
    for _ in range(1000):
        kinds = rng.choice(3, size=n, p=[0.05, 0.03, 0.92])  # lost, won, both right: a true drop of 0.02
        base, other = (np.stack([kinds != wrong, kinds == wrong], axis=-1).astype(float) for wrong in (1, 0))
        _, low, high = paired_drop(Metric.named("accuracy"), base, other, labels)
        covered += low <= 0.02 <= high
    assert 930 <= covered <= 970


def test_paired_bootstrap_agrees_with_the_closed_form_on_accuracy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own_metrics.py").write_text(
        "def share(labels, predictions):\n    return (labels == predictions).mean()\n"
    )
    monkeypatch.chdir(tmp_path)
    (base, labels), (other, _) = draw(1000, 2, 0), draw(1000, 2, 1)
    exact = paired_drop(Metric.named("accuracy"), base, other, labels)
    bootstrap = paired_drop(Metric.named("own_metrics:share"), base, other, labels)
    assert bootstrap == pytest.approx(exact, abs=0.006)
    assert bootstrap[0] == exact[0]


def test_own_function_by_dotted_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_figures.py").write_text("NUMBER = 3\n\ndef bad(labels, predictions):\n    return float('nan')\n")
    monkeypatch.chdir(tmp_path)
    metric = Metric.named("my_figures.bad")
    with pytest.raises(ConfigError, match="gave nan on 2 rows"):
        metric(np.array([0, 1]), np.array([0, 1]))
    with pytest.raises(ConfigError, match="is a int, not a function"):
        Metric.named("my_figures.NUMBER")
    with pytest.raises(ConfigError, match="has no attribute 'nothing'"):
        Metric.named("my_figures.nothing")


@pytest.mark.parametrize(
    ("name", "message"),
    [("acuracy", "Unknown metric 'acuracy'. Known for classification"), ("no.such", "Cannot import")],
)
def test_unknown_metrics(name: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Metric.named(name)


def test_metrics_pickle() -> None:
    assert pickle.loads(pickle.dumps(Metric.named("f1"))) == Metric("f1")


def test_collapsed_and_correct() -> None:
    logits = np.array([[2.0, 1.0], [3.0, 0.0]])
    assert collapsed(CLASSIFICATION, logits)
    assert not collapsed(CLASSIFICATION, np.array([[2.0, 1.0], [0.0, 3.0]]))
    assert correct(logits, np.array([0, 1])).tolist() == [True, False]


def test_kl_equals_its_definition() -> None:
    p, q = np.array([[0.5, 0.5], [0.9, 0.1]]), np.array([[0.25, 0.75], [0.9, 0.1]])
    expected = (0.5 * np.log(0.5 / 0.25) + 0.5 * np.log(0.5 / 0.75)) / 2
    assert mean_divergence(CLASSIFICATION, np.log(p) + 5, np.log(q) - 300) == pytest.approx(expected)
    assert mean_divergence(CLASSIFICATION, np.log(p), np.log(p)) == 0


def test_kl_of_extreme_float16_logits_is_finite() -> None:
    assert mean_divergence(
        CLASSIFICATION, np.array([[6e4, -6e4]], np.float16), np.array([[-6e4, 6e4]], np.float16)
    ) == pytest.approx(119_936, rel=1e-3)


def test_agreement() -> None:
    assert agreement(CLASSIFICATION, np.array([[1, 0], [0, 1]]), np.array([[3, 0], [1, 0]])) == 0.5


def test_expected_drop_of_a_calibrated_original_is_the_true_drop() -> None:
    rng, n = np.random.default_rng(0), 200_000
    original = rng.normal(size=(n, 2)) * 2
    labels = (rng.random(n) < np.exp(log_softmax(original))[:, 1]).astype(int)
    candidate = original + rng.normal(size=(n, 2))
    drop = correct(original, labels).mean() - correct(candidate, labels).mean()
    assert expected_drop(original, candidate) == pytest.approx(drop, abs=0.003)
    assert expected_drop(3 * original, candidate, temperature=3.0) == pytest.approx(drop, abs=0.003)
    assert expected_drop(original, original) == 0


def test_fitted_temperature_undoes_a_scale_and_is_a_minimum() -> None:
    rng, n = np.random.default_rng(0), 50_000
    true = rng.normal(size=(n, 3))
    labels = np.array([rng.choice(3, p=p / p.sum()) for p in np.exp(log_softmax(true))[:5000]])
    scaled = 4 * true[:5000]
    temperature = fit_temperature(scaled, labels)
    assert temperature == pytest.approx(4, rel=0.1)
    losses = [log_loss(labels, np.exp(log_softmax(scaled / (temperature * f)))) for f in (0.98, 1, 1.02)]
    assert min(losses) == losses[1]


def test_log_softmax_sums_to_one() -> None:
    assert np.exp(log_softmax(np.array([[1e4, 1e4 - 1, 0]]))).sum() == pytest.approx(1)
