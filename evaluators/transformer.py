"""Members of a transformer, really assembled and scored. Knows one model in one runtime; knows no search."""

import io
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import DTypeLike

from evaluators.answering import Answer, Answering, Logits, PrefixReuse, Whole, by_length, run
from evaluators.base import Guard, Job, Score, Train, Verify, VerifyCascade
from evaluators.cascade import Cascade
from evaluators.latency_model import LatencyModel
from evaluators.latency_terms import widths
from evaluators.metrics.accuracy import Metric
from evaluators.metrics.calibration import expected_drop
from evaluators.metrics.guards import guards
from evaluators.metrics.host import usable_cores
from evaluators.metrics.loss import loss_figures
from evaluators.problems.base import agreement, mean_divergence, row_divergences
from evaluators.racing import ends, least_mean
from evaluators.reading import Readings, Texts
from evaluators.recovery import Recoverer, Recovery, Templates
from evaluators.runtimes.base import Predictor, Runtime, Template
from evaluators.tasks.base import Encoded
from spaces.design import Member
from spaces.objectives import ACCURACY, KL, LATENCY, SIZE, THROUGHPUT, Complete, Evaluation, Stopped, latency_at
from spaces.target import Target

# Rows that answer together where a batch changes nothing: at tens of tokens a quarter faster than one by one.
_TOGETHER = 8
# What the logits of scored designs are kept in: there may be thousands.
SCORED = np.float16


@dataclass(frozen=True)
class Workload:
    """Everything a worker needs, as one value that pickles: it goes to every node once.

    Args:
        runtime: where members run.
        template: the original model, ready to be cut.
        target: threads, batch and device of the figures.
        splits: rows by name, tokenised with the whole vocabulary.
        reference: the original model's logits (rows, classes) on the search rows.
        temperature: of the original's softmax, fitted on calibration; None where it gives no probabilities of classes,
            or nobody labelled rows to fit it to.
        metric: the task's metric.
        latency: predicts a member's mean latency at the target.
        further: the same at further targets, by label.
        instances: how many of the target's threads fill the machine that is served on.
        texts: the rows before tokenising; None: every member has the whole vocabulary and there are no cascades.
        recovery: what members are distilled with; None: no member can be trained.
        origin: stands for all that scores share: weights, rows, how members are made; empty: scores are not kept.
    """

    runtime: Runtime
    template: Template
    target: Target
    splits: Mapping[str, Encoded]
    reference: Logits
    temperature: float | None
    metric: Metric
    latency: LatencyModel
    further: Mapping[str, LatencyModel] = field(default_factory=dict)
    instances: int = 1
    texts: Texts | None = None
    recovery: Recovery | None = None
    origin: str = ""

    def readings(self) -> Readings:
        """Rows by the member that reads them."""
        return Readings(self.texts or Texts({}, None, 0), self.splits)

    def speeds(self, member: Member) -> dict[str, float]:
        """Predicted mean latencies in ms, and rows per second of the whole first target; by objective."""
        latency = self.latency.predict_ms(member)
        elsewhere = {latency_at(label).name: model.predict_ms(member) for label, model in self.further.items()}
        throughput = self.instances * self.target.batch_size * 1000 / latency
        return {LATENCY.name: latency, **elsewhere, THROUGHPUT.name: throughput}

    def templates(self) -> Templates:
        """Templates by the id of their weights."""
        return Templates(self.template, self.runtime, self.recovery)


class TransformerEvaluator:
    """Assembles the real artefact of a design and scores it at the target's batch; trains what is to be recovered.

    Args:
        workload: what is evaluated.
        reuse_prefixes: whether hidden states are kept, so that members that share their first layers run these once.
    """

    def __init__(self, workload: Workload, *, reuse_prefixes: bool = False) -> None:
        self._workload = workload
        self._threads = min(workload.target.threads, usable_cores())  # a target may be a larger machine
        answering = PrefixReuse if reuse_prefixes else Whole
        self._answering: Answering = answering(workload.runtime, self._threads, workload.target.device)
        self._templates = workload.templates()
        self._readings = workload.readings()
        self._recoverer = None if workload.recovery is None else Recoverer(workload.recovery)

    def evaluate(self, job: Job) -> Evaluation:
        """Figures of a member on the search rows (Score), logits of an exported folder on whole splits (Verify,
        VerifyCascade), or weights that are kept in the run's folder (Train)."""
        if isinstance(job, Train):
            if self._recoverer is None:
                raise ValueError("This workload has nothing to train with. Give it a Recovery.")
            return Evaluation(job.key, Complete({}, self._recoverer.train(job)))
        if isinstance(job, Score):
            return self._score(job)
        logits = self._verify(job) if isinstance(job, Verify) else self._verify_cascade(job)
        rows = float(sum(len(each) for each in logits.values()))
        return Evaluation(job.key, Complete({}, {"rows": rows}), predictions=packed(logits))

    def _score(self, job: Score) -> Evaluation:
        if job.split == "test":
            raise ValueError("Score reads the search rows; the test split is read by Verify alone, once, last.")
        work, template = self._workload, self._templates.of(job.member.weights)
        rows = self._readings.rows(job.member, job.split).first(job.rows)
        costs = {**work.speeds(job.member), SIZE.name: float(template.size(job.member))}
        answer = self._answer(template, job.member)
        beat = math.inf if job.race is None else job.race.least(costs)
        logits = self._raced(answer, rows, beat)
        original = work.reference[: len(logits)]
        costs[KL.name] = mean_divergence(work.metric.problem, original, logits)
        if len(logits) < len(rows):
            return Evaluation(job.key, Stopped(f"divergence surely above {beat:.4g} nats", costs, len(logits)))
        truth = rows.truth_or(original)
        accuracy, fair = work.metric.of(logits, truth), work.metric.of(original, truth)
        values = {**costs, ACCURACY.name: accuracy}
        extras = {
            **values,  # whichever of them are objectives
            **self._drops(fair - accuracy, original, logits),
            **{name: guard.value for name, guard in self._guards(original, logits, rows).items()},
            "agreement": agreement(work.metric.problem, original, logits),
            "rows": float(len(rows)),
            **loss_figures(work.metric.problem, original, logits, truth),
        }
        return Evaluation(job.key, Complete(values, extras), predictions=packed({job.split: logits}, SCORED))

    def _guards(self, original: Logits, logits: Logits, rows: Encoded) -> dict[str, Guard]:
        labels = rows.truth if rows.labels else None
        return guards(self._workload.metric.problem, original, logits, labels, rows.slices)

    def _drops(self, counted: float, original: Logits, logits: Logits) -> dict[str, float]:
        """The counted drop is noisy on few rows, the expected one a little high: their mean is better than either."""
        temperature = self._workload.temperature
        if temperature is None:
            return {"accuracy_drop": counted, "accuracy_drop_estimate": counted}
        expected = expected_drop(original, logits, temperature)
        return {
            "accuracy_drop": counted,
            "expected_drop": expected,
            "accuracy_drop_estimate": (counted + expected) / 2,
        }

    def _answer(self, template: Template, member: Member) -> Answer:
        """At the target's batch; where answers do not depend on it, rows of a length together."""
        batch_size = self._workload.target.batch_size
        if not widths(member, template.shape).used <= set(self._workload.runtime.steady):
            return self._answering.open(template, member, batch_size)
        return by_length(self._answering.open(template, member, max(batch_size, _TOGETHER)))

    def _raced(self, answer: Answer, rows: Encoded, beat: float) -> Logits:
        """Logits of all rows, or of the first of them if the divergence is then surely above `beat`."""
        if beat == math.inf:
            return answer(rows)
        found, seen, looks = list[Logits](), 0, ends(len(rows), self._workload.target.batch_size)
        for end in looks:
            found.append(answer(rows.take(range(seen, end))))
            seen = end
            logits = np.concatenate(found)
            apart = row_divergences(self._workload.metric.problem, self._workload.reference[:seen], logits)
            if least_mean(apart, len(rows)) > beat:
                break
        return logits

    def _verify(self, job: Verify) -> dict[str, Logits]:
        predictor = self._open(job.folder / self._workload.runtime.filename)
        batch = self._workload.target.batch_size
        return {split: run(predictor, self._readings.rows(job.member, split), batch) for split in job.splits}

    def _verify_cascade(self, job: VerifyCascade) -> dict[str, Logits]:
        work = self._workload
        assert work.texts is not None, "cascades read texts"
        cascade = Cascade.open(job.folder, threads=self._threads, device=work.target.device)
        texts = {split: work.texts.rows[split].texts for split in job.splits}
        return {split: cascade.logits(rows, batch_size=work.target.batch_size)[0] for split, rows in texts.items()}

    def _open(self, artefact: bytes | Path) -> Predictor:
        return self._workload.runtime.load(artefact, threads=self._threads, device=self._workload.target.device)


def packed(logits: Mapping[str, Logits], precision: DTypeLike = np.float32) -> bytes:
    """Logits by split as the contents of an .npz file, in that precision."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **{split: rows.astype(precision) for split, rows in logits.items()})
    return buffer.getvalue()


def as_scored(logits: Logits) -> Logits:
    """Logits as those of scored designs read back, which are kept in half precision: (B, C)."""
    return logits.astype(SCORED).astype(np.float32)


def unpacked(predictions: bytes | Path) -> dict[str, Logits]:
    """The logits of an evaluation or of a predictions/KEY.npz file, by split."""
    source = io.BytesIO(predictions) if isinstance(predictions, bytes) else predictions
    with np.load(source, allow_pickle=False) as arrays:
        return {split: arrays[split].astype(np.float32) for split in arrays.files}
