"""Scores that outlive their run: the same design of the same weights on the same rows and processor is scored once.

Knows what a score depends on; knows nothing of how it is computed. Latency and throughput are said anew each time,
because the run's targets decide them.
"""

import json
from typing import Any

from evaluators.base import Evaluator, Job, Score
from evaluators.metrics.host import this_target
from evaluators.recovery import ORIGINAL
from evaluators.store import QUALITY, Store
from evaluators.transformer import TransformerEvaluator, Workload
from spaces.design import content_key
from spaces.objectives import Complete, Evaluation

# Changes with whatever makes an artefact of one design answer otherwise than before.
_FORMAT = 2


class KeptScores:
    """An evaluator that looks scores up before it computes them. What was looked up took no attempt.

    Args:
        workload: what is evaluated; its `origin` stands for weights, rows and everything else that all scores share.
        store: where scores are kept.
        reuse_prefixes: as for TransformerEvaluator.
    """

    def __init__(self, workload: Workload, store: Store, *, reuse_prefixes: bool = False) -> None:
        self._workload = workload
        self._store = store
        self._inner: Evaluator = TransformerEvaluator(workload, reuse_prefixes=reuse_prefixes)
        target = workload.target
        # Of the machine that computes: int8 answers differ between processors and versions.
        version, batch_size = workload.runtime.version, target.batch_size
        self._machine = this_target(target.runtime, version, 1, batch_size, "real", target.device).key

    def evaluate(self, job: Job) -> Evaluation:
        """The inner evaluator's evaluation, or the same as it was computed earlier."""
        if not isinstance(job, Score) or job.member.weights != ORIGINAL:
            return self._inner.evaluate(job)
        key = self._key(job)
        kept = self._store.get(QUALITY, key)
        if kept is not None:
            return self._read(job, kept)
        evaluation = self._inner.evaluate(job)
        if isinstance(evaluation.outcome, Complete) and evaluation.predictions is not None:
            figures = {"values": dict(evaluation.outcome.values), "extras": dict(evaluation.outcome.extras)}
            self._store.put(QUALITY, key, json.dumps(figures).encode() + b"\n" + evaluation.predictions)
        return evaluation

    def _key(self, job: Score) -> str:
        parts: dict[str, Any] = {
            "format": _FORMAT,
            "origin": self._workload.origin,
            "machine": self._machine,
            "decoded": job.member.decoded,
            "rows": job.rows,
            "split": job.split,
        }
        return content_key(parts)

    def _read(self, job: Score, kept: bytes) -> Evaluation:
        head, _, predictions = kept.partition(b"\n")
        figures, now = json.loads(head), self._workload.speeds(job.member)
        outcome = Complete({**figures["values"], **now}, {**figures["extras"], **now})
        return Evaluation(job.key, outcome, attempts=0, predictions=predictions)
