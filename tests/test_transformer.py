"""The evaluator of transformers: what it scores is the real artefact, and its figures are those of the definitions."""

import numpy as np
import pytest

from evaluators.base import Score
from evaluators.latency_model import LatencyModel
from evaluators.latency_terms import Terms
from evaluators.metrics.accuracy import Metric
from evaluators.runtimes.onnxruntime.runtime import OnnxRuntime
from evaluators.tasks.base import Encoded
from evaluators.transformer import TransformerEvaluator, Workload, run, run_sorted, unpacked
from spaces.axes.pruning import Importance, PruningAxis, UnitCosts
from spaces.axes.quantization import QuantizationAxis, forget_absent_parts
from spaces.objectives import Complete
from spaces.space import Space
from spaces.target import Target
from tests.contracts.evaluator import EvaluatorContract
from tests.tiny_models import CLASSES, POSITIONS, VOCAB, tiny

ROWS = 24


def encoded(seed: int) -> Encoded:
    rng = np.random.default_rng(seed)
    lengths = rng.integers(3, POSITIONS - 4, ROWS)
    inputs = tuple(
        {"input_ids": rng.integers(5, VOCAB, n), "attention_mask": np.ones(n, dtype=np.int64)} for n in lengths
    )
    return Encoded(inputs, tuple(rng.integers(0, CLASSES, ROWS).tolist()))


@pytest.fixture(scope="module")
def workload() -> Workload:
    model, _ = tiny("bert")
    runtime = OnnxRuntime()
    template = runtime.template(model)
    terms = Terms(template.shape, runtime.bits)
    splits = {name: encoded(seed) for seed, name in enumerate(("search", "confirm", "test"))}
    return Workload(
        runtime=runtime,
        template=template,
        target=Target(),
        splits=splits,
        reference=run(runtime.load(template.untouched(), threads=1), splits["search"], 1),
        temperature=1.0,
        metric=Metric.named("accuracy"),
        latency=LatencyModel(terms, (0.1,) * len(terms.names), 2.0, Target().key, ()),
    )


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
