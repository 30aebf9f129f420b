"""The evaluator of transformers: what it scores is the real artefact, and its figures are those of the definitions."""

from pathlib import Path

import numpy as np
import pytest

from evaluators.answering import run, run_sorted
from evaluators.base import Score, Verify
from evaluators.transformer import TransformerEvaluator, Workload, unpacked
from spaces.axes.pruning import Importance, PruningAxis, UnitCosts
from spaces.axes.quantization import QuantizationAxis, forget_absent_parts
from spaces.objectives import Complete
from spaces.space import Space
from tests.contracts.evaluator import EvaluatorContract
from tests.tiny_models import CLASSES, tiny
from tests.tiny_workload import tiny_rows, tiny_workload

ROWS = 24


@pytest.fixture(scope="module")
def workload() -> Workload:
    splits = {name: tiny_rows(seed, ROWS) for seed, name in enumerate(("search", "confirm", "test"))}
    return tiny_workload(tiny("bert")[0], splits)


def space_of(workload: Workload) -> Space:
    shape = workload.template.shape
    flat = Importance(
        ((1.0,) * shape.heads,) * shape.layers, ((1.0,) * shape.ffn,) * shape.layers, (1.0,) * shape.layers
    )
    axis = PruningAxis(shape, flat, UnitCosts(0.1, 0.01), ffn_group=16)
    return Space([axis, QuantizationAxis(shape, workload.runtime.bits)], [forget_absent_parts])


class TestTransformerEvaluator(EvaluatorContract):
    @pytest.fixture
    def evaluator(self, workload: Workload) -> TransformerEvaluator:
        return TransformerEvaluator(workload)

    @pytest.fixture
    def space(self, workload: Workload) -> Space:
        return space_of(workload)

    def test_the_original_is_as_good_as_itself(
        self, evaluator: TransformerEvaluator, space: Space, workload: Workload
    ) -> None:
        member = space.decode(space.identity())
        outcome = evaluator.evaluate(Score(member)).outcome
        assert isinstance(outcome, Complete)
        assert outcome.values["kl"] == pytest.approx(0, abs=1e-9)
        assert outcome.extras["agreement"] == 1
        assert outcome.extras["accuracy_drop"] == 0
        assert outcome.extras["accuracy_drop_estimate"] == pytest.approx(0, abs=1e-9)
        assert outcome.values["size"] == len(workload.template.assemble(member))

    def test_figures_are_those_of_the_kept_logits(
        self, evaluator: TransformerEvaluator, space: Space, workload: Workload
    ) -> None:
        evaluation = evaluator.evaluate(Score(space.decode(space.extremes()["smallest"]), rows=10))
        assert isinstance(evaluation.outcome, Complete)
        assert evaluation.predictions is not None
        logits = unpacked(evaluation.predictions)["search"]
        assert logits.shape == (10, CLASSES)
        labels = np.array(workload.splits["search"].labels[:10])
        assert evaluation.outcome.values["accuracy"] == np.mean(logits.argmax(-1) == labels)
        original = workload.reference[:10].argmax(-1)
        assert evaluation.outcome.extras["agreement"] == np.mean(logits.argmax(-1) == original)
        assert evaluation.outcome.extras["rows"] == 10

    def test_search_cannot_read_the_test_split(self, evaluator: TransformerEvaluator, space: Space) -> None:
        with pytest.raises(ValueError, match="test split"):
            evaluator.evaluate(Score(space.decode(space.identity()), split="test"))


def test_sorting_by_length_changes_no_answer(workload: Workload) -> None:
    predictor = workload.runtime.load(workload.template.untouched(), threads=1)
    rows = workload.splits["confirm"]
    np.testing.assert_allclose(run_sorted(predictor, rows, 5), run(predictor, rows, 1), atol=1e-5)


def test_what_is_verified_is_not_rounded(workload: Workload, tmp_path: Path) -> None:
    """Ranks and cosines of rounded answers are those of other answers."""
    member = (space := space_of(workload)).decode(space.identity())
    (tmp_path / workload.runtime.filename).write_bytes(workload.template.assemble(member))
    verified = TransformerEvaluator(workload).evaluate(Verify(member, tmp_path, ("confirm",)))
    assert verified.predictions is not None
    predictor = workload.runtime.load(tmp_path / workload.runtime.filename, threads=1)
    expected = run(predictor, workload.splits["confirm"], workload.target.batch_size)
    assert (unpacked(verified.predictions)["confirm"] == expected).all()
