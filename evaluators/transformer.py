"""Members of a transformer, really assembled and scored. Knows one model in one runtime; knows no search."""

import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from evaluators.base import Job, Score, Verify
from evaluators.latency_model import LatencyModel
from evaluators.metrics.accuracy import Metric
from evaluators.metrics.fidelity import agreement, expected_drop, mean_kl
from evaluators.runtimes.base import Predictor, Runtime, Template
from evaluators.tasks.base import Encoded
from spaces.objectives import Complete, Evaluation
from spaces.target import Target

Logits = NDArray[np.float32]


@dataclass(frozen=True)
class Workload:
    """Everything a worker needs, as one value that pickles: it goes to every node once.

    Args:
        runtime: where members run.
        template: the original model, ready to be cut.
        target: threads, batch and device of the figures.
        splits: tokenised rows by name.
        reference: the original model's logits (rows, classes) on the search rows.
        temperature: of the original's softmax, fitted on calibration.
        metric: the task's metric.
        latency: predicts a member's mean latency at the target.
    """

    runtime: Runtime
    template: Template
    target: Target
    splits: Mapping[str, Encoded]
    reference: Logits
    temperature: float
    metric: Metric
    latency: LatencyModel


class TransformerEvaluator:
    """Assembles the real artefact of a design and scores it at the target's batch."""

    def __init__(self, workload: Workload) -> None:
        self._workload = workload

    def evaluate(self, job: Job) -> Evaluation:
        """Figures of a member on the search rows (Score), or logits of an exported folder on whole splits (Verify)."""
        outcome, logits = self._score(job) if isinstance(job, Score) else self._verify(job)
        return Evaluation(job.key, outcome, predictions=packed(logits))

    def _score(self, job: Score) -> tuple[Complete, dict[str, Logits]]:
        if job.split == "test":
            raise ValueError("Score reads the search rows; the test split is read by Verify alone, once, last.")
        work = self._workload
        artefact = work.template.assemble(job.member)
        rows = work.splits[job.split].first(job.rows)
        logits = run(self._open(artefact), rows, work.target.batch_size)
        original = work.reference[: len(rows)]
        labels = np.asarray(rows.labels)
        accuracy, fair = work.metric(labels, logits.argmax(-1)), work.metric(labels, original.argmax(-1))
        # The counted drop is noisy on few rows, the expected one a little too high: their mean is better than either.
        expected = expected_drop(original, logits, work.temperature)
        values = {
            "kl": mean_kl(original, logits),
            "accuracy": accuracy,
            "latency": work.latency.predict_ms(job.member),
            "size": float(work.template.size(job.member)),
        }
        extras = {
            **values,  # whichever of them are objectives
            "accuracy_drop": fair - accuracy,
            "expected_drop": expected,
            "accuracy_drop_estimate": (fair - accuracy + expected) / 2,
            "agreement": agreement(original, logits),
            "rows": float(len(rows)),
            "bytes": float(len(artefact)),
        }
        return Complete(values, extras), {job.split: logits}

    def _verify(self, job: Verify) -> tuple[Complete, dict[str, Logits]]:
        work = self._workload
        predictor = self._open(job.folder / work.runtime.filename)
        logits = {split: run(predictor, work.splits[split], work.target.batch_size) for split in job.splits}
        return Complete({}, {"rows": float(sum(len(rows) for rows in logits.values()))}), logits

    def _open(self, artefact: bytes | Path) -> Predictor:
        return self._workload.runtime.load(
            artefact, threads=self._workload.target.threads, device=self._workload.target.device
        )


def run(predictor: Predictor, rows: Encoded, batch_size: int) -> Logits:
    """Logits (rows, classes) in the rows' order."""
    return np.concatenate([predictor(batch) for batch in rows.batches(batch_size)])


def run_sorted(predictor: Predictor, rows: Encoded, batch_size: int) -> Logits:
    """The same for models whose answers do not depend on the batch: sorted by length, so padding costs little."""
    order = np.argsort([len(inputs["attention_mask"]) for inputs in rows.inputs], kind="stable")
    logits = run(predictor, rows.take(order.tolist()), batch_size)
    return logits[np.argsort(order)]


def packed(logits: Mapping[str, Logits]) -> bytes:
    """Logits by split as the contents of an .npz file, in half precision."""
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer, allow_pickle=False, **{split: rows.astype(np.float16) for split, rows in logits.items()}
    )
    return buffer.getvalue()


def unpacked(predictions: bytes | Path) -> dict[str, Logits]:
    """The logits of an evaluation or of a predictions/KEY.npz file, by split."""
    source = io.BytesIO(predictions) if isinstance(predictions, bytes) else predictions
    with np.load(source, allow_pickle=False) as arrays:
        return {split: arrays[split].astype(np.float32) for split in arrays.files}
