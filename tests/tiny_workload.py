"""Random rows, and what an evaluator needs to score members of a tiny model on them. Knows no designs."""

from collections.abc import Mapping

import numpy as np
from transformers import PreTrainedModel

from evaluators.answering import run
from evaluators.latency_model import LatencyModel
from evaluators.latency_terms import Terms
from evaluators.metrics.accuracy import Metric
from evaluators.runtimes.onnxruntime.runtime import OnnxRuntime
from evaluators.tasks.base import Encoded
from evaluators.transformer import Workload
from spaces.target import Target
from tests.tiny_models import CLASSES, POSITIONS, VOCAB


def tiny_rows(
    seed: int, count: int, longest: int = POSITIONS - 5, vocab: int = VOCAB, classes: int = CLASSES
) -> Encoded:
    """Labelled rows of 3 to `longest` random tokens."""
    rng = np.random.default_rng(seed)
    inputs = tuple(
        {"input_ids": rng.integers(5, vocab, n), "attention_mask": np.ones(n, dtype=np.int64)}
        for n in rng.integers(3, longest + 1, count)
    )
    return Encoded(inputs, tuple(rng.integers(0, classes, count).tolist()))


def tiny_workload(model: PreTrainedModel, splits: Mapping[str, Encoded], kinds: tuple[str, ...] = ()) -> Workload:
    """Of a model in onnxruntime, with a latency model that nothing was measured for."""
    runtime = OnnxRuntime()
    template = runtime.template(model)
    terms = Terms(template.shape, runtime.bits, kinds=kinds)
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
