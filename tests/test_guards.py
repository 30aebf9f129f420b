"""Limits on answers beside the metric: what is counted, how sure it is, and a search that knows no labels."""

import csv
import json
import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from scipy.stats import binom, binomtest

from evaluators.exported import accuracy_against
from evaluators.metrics.accuracy import Metric
from evaluators.metrics.guards import FEWEST_IN_GROUP, clopper_pearson, guards
from evaluators.problems.classes import CLASSIFICATION
from evaluators.problems.embeddings import EMBEDDINGS
from evaluators.problems.value import Regression
from evaluators.tasks.base import Encoded
from search import front_file, picks, present, run
from search.certificate import Test, all_of, rows_needed_for_share, share_at_most
from search.config import RunConfig
from spaces.errors import ConfigError, DataError, LimitError, ModelError
from spaces.objectives import Limit
from tests.tiny_task import BAD, GOOD, PLAIN, SHORT, write_encoder, write_rows

LABELS = np.array([0] * 60 + [1] * 40)
ORIGINAL = np.eye(2)[np.array([0] * 60 + [1] * 40)]
# One row of class 0 and five of class 1 change; the last two columns of slices are too small to count.
CHANGED = np.eye(2)[np.array([1] + [0] * 59 + [0] * 5 + [1] * 35)]
SLICES = ["web"] * 50 + ["app"] * 40 + ["fax"] * 10


def calibration_error(outputs: np.ndarray, labels: np.ndarray) -> float:
    """As published, bin by bin."""
    p = np.exp(outputs) / np.exp(outputs).sum(-1, keepdims=True)
    sure, right, error = p.max(-1), p.argmax(-1) == labels, 0.0
    for low in np.arange(15) / 15:
        inside = (sure >= low) & (sure < low + 1 / 15)
        if inside.any():
            error += inside.mean() * abs(right[inside].mean() - sure[inside].mean())
    return error


class TestCounted:
    def test_everything_against_its_definition(self) -> None:
        found = guards(CLASSIFICATION, ORIGINAL, CHANGED, LABELS, SLICES, ("bad", "good"))
        assert {name: each.value for name, each in found.items()} == pytest.approx(
            {
                "disagreement": 0.06,
                "negative_flips": 0.06,
                "class_drop": 5 / 40,
                "slice_drop": 5 / 40,
                "calibration_rise": -0.06,  # all rows are 73 % sure; fewer are right, so the probabilities fit better
            }
        )
        assert (found["class_drop"].group, found["slice_drop"].group) == ("good", "app")
        assert set(found["slice_drop"].losses) == {"web", "app"}
        assert all(each.low <= each.value <= each.high for each in found.values())

    def test_what_is_won_is_no_flip_and_makes_up_for_losses_in_its_group(self) -> None:
        found = guards(CLASSIFICATION, CHANGED, ORIGINAL, LABELS)
        assert found["negative_flips"].value == 0
        assert found["disagreement"].value == 0.06
        assert found["class_drop"].value < 0

    def test_without_labels_there_is_a_disagreement_alone(self) -> None:
        assert set(guards(CLASSIFICATION, ORIGINAL, CHANGED, None, SLICES)) == {"disagreement"}
        for problem, width in ((Regression(), 1), (EMBEDDINGS, 4)):
            outputs = np.random.default_rng(0).normal(size=(50, width))
            assert guards(problem, outputs, outputs, outputs)["disagreement"].value == 0

    def test_few_rows_say_nothing_of_a_group(self) -> None:
        few = ["rare"] * (FEWEST_IN_GROUP - 1) + ["common"] * (101 - FEWEST_IN_GROUP)
        assert set(guards(CLASSIFICATION, ORIGINAL, CHANGED, LABELS, few)["slice_drop"].losses) == {"common"}

    @pytest.mark.parametrize(("count", "n"), [(0, 50), (3, 50), (50, 50)])
    def test_intervals_are_exact(self, count: int, n: int) -> None:
        expected = binomtest(count, n).proportion_ci(0.95, method="exact")
        assert clopper_pearson(count, n) == pytest.approx((expected.low, expected.high))

    def test_calibration_is_held_against_its_definition(self) -> None:
        rng = np.random.default_rng(0)
        labels = rng.integers(0, 3, 2000)
        one, other = (scale * (np.eye(3)[labels] + rng.normal(size=(2000, 3))) for scale in (1.0, 4.0))
        found = guards(CLASSIFICATION, one, other, labels)["calibration_rise"]
        assert found.value == pytest.approx(calibration_error(other, labels) - calibration_error(one, labels))
        assert 0 < found.low < found.high < 1

    def test_a_rise_of_calibration_error_is_certified(self) -> None:
        rng = np.random.default_rng(1)
        labels = rng.integers(0, 2, 1500)
        one = np.eye(2)[labels] + rng.normal(size=(1500, 2))
        accuracy = accuracy_against(
            one, one, Encoded(({},) * 1500, tuple(labels.tolist())), Metric.named("accuracy"), ("no", "yes")
        )
        worse = replace(accuracy, guards=guards(CLASSIFICATION, one, 5 * one, labels))
        bound = Limit.parse("calibration_rise", "2pt").resolve({})
        assert [test.passes for test in picks.tests(accuracy, bound, 0.95)] == [True]
        assert [test.passes for test in picks.tests(worse, bound, 0.95)] == [False]


class TestCertified:
    @pytest.mark.parametrize(("count", "n"), [(0, 298), (0, 299), (5, 1500), (9, 1500)])
    def test_a_share_is_tested_exactly(self, count: int, n: int) -> None:
        margin = 0.01
        test = share_at_most(count, n, margin)
        assert test.p_value == pytest.approx(binomtest(count, n, margin, alternative="less").pvalue)
        assert test.upper == pytest.approx(binomtest(count, n, alternative="less").proportion_ci(0.95).high)
        assert test.passes == (test.upper < margin)

    def test_its_size_never_exceeds_the_level(self) -> None:
        passing = [count for count in range(100) if share_at_most(count, 1500, 0.01).passes]
        assert binom.cdf(max(passing), 1500, 0.01) <= 0.05

    def test_rows_needed_reach_their_power(self) -> None:
        assert rows_needed_for_share(0.0, 0.01) == 299
        n = rows_needed_for_share(0.005, 0.01)
        assert n is not None
        passing = [count for count in range(100) if share_at_most(count, n, 0.01).passes]
        assert binom.cdf(max(passing), n, 0.005) >= 0.8
        assert rows_needed_for_share(0.01, 0.01) is None

    def test_of_several_limits_the_least_sure_one_speaks(self) -> None:
        sure, unsure = Test(0.0, 0.01, 0.001, True), Test(0.0, 0.03, 0.2, False, "disagreement")
        assert all_of([sure, unsure]) == unsure
        assert all_of([sure, Test(0.0, 0.02, 0.04, True)]).p_value == 0.04


class TestAsked:
    def test_a_percentage_of_shares_is_of_all_rows(self) -> None:
        for name in ("disagreement", "negative_flips"):
            assert Limit.parse(name, "1%").resolve({"accuracy": 0.5}).at_most == pytest.approx(0.01)
        assert Limit.parse("accuracy_drop", "1%").resolve({"accuracy": 0.5}).at_most == pytest.approx(0.005)

    @pytest.mark.parametrize(("name", "text"), [("class_drop", "2%"), ("disagreement", "2ms"), ("slice_drop", "-1pt")])
    def test_other_units_are_refused(self, name: str, text: str) -> None:
        with pytest.raises(LimitError):
            Limit.parse(name, text)

    def test_data_has_no_labels_and_no_metric(self, tmp_path: Path) -> None:
        for more in ({"label": "stars"}, {"metric": "f1"}, {"file": "x.csv"}):
            with pytest.raises(ConfigError):
                RunConfig.parse({"task": {"data": "traffic.jsonl", **more}})
        with pytest.raises(ConfigError, match="agreement"):
            RunConfig.parse({"task": {"file": "x.csv", "metric": "agreement"}})


def _texts(folder: Path, *, labelled: bool = False) -> Path:
    rng, path = random.Random(1), folder / "traffic.jsonl"
    rows = []
    for _ in range(400):
        words = rng.choices(rng.choice((GOOD, BAD)), k=2) + rng.choices(PLAIN, k=rng.randint(3, 10))
        rows.append({"text": " ".join(words), **({"label": "good"} if labelled else {})})
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


@pytest.mark.slow
class TestRuns:
    @pytest.fixture(scope="class")
    @staticmethod
    def tuned(tmp_path_factory: pytest.TempPathFactory) -> Path:
        folder = tmp_path_factory.mktemp("tuned")
        rows, encoder = write_rows(folder / "rows.csv"), write_encoder(folder / "encoder")
        config = {
            "model": str(encoder),
            "task": str(rows),
            "search": {"trials": 1, "workers": 1},
            **yaml.safe_load(SHORT),
        }
        assert run.search(RunConfig.parse(config), folder / "run") == 0
        return folder / "run" / "baseline" / "pipeline"

    def test_a_search_without_labels_says_agreement_and_certifies_disagreement(
        self, tuned: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        config = {
            "model": str(tuned),
            "task": {"data": str(_texts(tmp_path))},
            "limits": {"disagreement": "10%"},
            "search": {"trials": 20, "workers": 1},
            **yaml.safe_load(SHORT),
        }
        assert run.search(RunConfig.parse(config), tmp_path / "run") == 0
        front = front_file.read(tmp_path / "run")
        assert front.metric == "agreement"
        assert "linear" not in front.baselines
        for member in (each for each in front.members if each.verified):
            figure = member.accuracy["confirm"]
            assert figure.drop is not None
            assert figure.guards["disagreement"].share.value == pytest.approx(figure.drop.value)
            assert figure.value == pytest.approx(1 - figure.drop.value)
        shown = present.front(tmp_path / "run", "table", everything=False)
        assert "agreement [95 %]" in shown
        assert "accuracy" not in shown
        picks = {pick.name: pick for pick in front.picks}
        assert picks["certified"].key is not None
        assert "disagreement" in picks["certified"].reason

    def test_labels_in_the_file_are_not_read(
        self, tuned: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        config = RunConfig.parse({"model": str(tuned), "task": {"data": str(_texts(tmp_path, labelled=True))}})
        assert run.wiring.task(config).splits(0).train.labels == ()
        assert "is not read" in caplog.text

    def test_without_a_head_there_is_nothing_to_agree_with(self, tmp_path: Path) -> None:
        encoder = write_encoder(tmp_path / "encoder")
        model = json.loads((encoder / "config.json").read_text())
        (encoder / "config.json").write_text(json.dumps({**model, "architectures": ["BertModel"]}))
        config = RunConfig.parse({"model": str(encoder), "task": {"data": str(_texts(tmp_path))}})
        with pytest.raises(ModelError, match="no classification head"):
            run.wiring.task(config)

    def test_too_few_texts_are_refused(self, tuned: Path, tmp_path: Path) -> None:
        (tmp_path / "few.txt").write_text("one\ntwo\n")
        config = RunConfig.parse({"model": str(tuned), "task": {"data": str(tmp_path / "few.txt")}})
        with pytest.raises(DataError, match="at least 50"):
            run.wiring.task(config).splits(0)

    def test_slices_of_a_file_are_guarded(self, tuned: Path, tmp_path: Path) -> None:
        rows = list(csv.DictReader(write_rows(tmp_path / "plain.csv", rows=500).read_text().splitlines()))
        path = tmp_path / "sliced.jsonl"
        path.write_text("\n".join(json.dumps({**row, "from": ("web", "app")[i % 2]}) for i, row in enumerate(rows)))
        config = {
            "model": str(tuned),
            "task": {"file": str(path), "slice": "from"},
            "limits": {"slice_drop": "20pt", "negative_flips": "20%"},
            "search": {"trials": 20, "workers": 1},
            **yaml.safe_load(SHORT),
        }
        assert run.search(RunConfig.parse(config), tmp_path / "run") == 0
        front = front_file.read(tmp_path / "run")
        pick = next(pick for pick in front.picks if pick.name == "limits")
        member = next(member for member in front.members if member.key == pick.key)
        guard = member.accuracy["confirm"].guards["slice_drop"]
        assert guard.group in ("web", "app")
        assert guard.share.value <= 0.2
        assert "slice drop, points [95 %]" in present.front(tmp_path / "run", "table", everything=False)
