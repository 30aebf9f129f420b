"""Exported folders measured for search (Assessor) and for people (bench). Knows files and figures; decides nothing."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch

from evaluators import artifact
from evaluators.base import Accuracy, Baseline, Timing, Watch
from evaluators.metrics.accuracy import Metric, collapsed, correct, paired_drop, score
from evaluators.metrics.fidelity import agreement
from evaluators.metrics.latency import Contender, Latency, TimingRow, measure, sample_inputs, timed_inputs
from evaluators.metrics.size import inference_bytes, tokenizer_bytes
from evaluators.models import load_classifier, save
from evaluators.prepare import Prepared, design_json
from evaluators.runtimes.torch import TorchPredictor
from evaluators.tasks.base import Task, encode
from evaluators.tasks.linear import LinearBaseline
from evaluators.transformer import Logits, packed, run, run_sorted, unpacked
from spaces.design import Member
from spaces.target import Target

_REFERENCE_BATCH = 16


class TransformerAssessor:
    """Builds, scores and times the members and baselines of one run.

    Args:
        prepared: the model, its rows and its runtime.
        folder: the run's folder; baselines and timings.csv are written there.
        rounds: timing rounds in all.
        processes: fresh processes they are spread over.
    """

    def __init__(self, prepared: Prepared, folder: Path, *, rounds: int, processes: int) -> None:
        self._prepared = prepared
        self._work = prepared.assignment
        self._folder = folder
        self._rounds = rounds
        self._processes = processes
        self._reference = dict(prepared.reference)

    def build(self, member: Member, folder: Path) -> None:
        """`folder` with the artefact, the tokenizer and the design; replaced whole if it exists."""
        self._write(folder, self._prepared.workload.template.assemble(member), design_json(self._work, member))

    def baselines(self, watch: Watch) -> Mapping[str, Baseline]:
        """The four baselines, built and scored on the confirm rows: `fair`, `one_liner`, `pipeline`, `linear`."""
        one_liner, pipeline, linear = (self._folder / "baseline" / name for name in ("one_liner", "pipeline", "linear"))
        watch("baselines", 0, 4)
        original = self._folder / "baseline" / "fair"
        untouched = self._prepared.workload.template.untouched()
        self._write(original, untouched, design_json(self._work, self._prepared.identity))
        fair = Baseline(original, packed({"confirm": self._reference["confirm"]}), "fp32")
        watch("baselines", 1, 4)
        found = {"fair": fair}
        if self._work.runtime.name == "onnxruntime":
            found["one_liner"] = self._one_liner(one_liner)
        watch("baselines", 2, 4)
        found["pipeline"] = self._pipeline(pipeline)
        watch("baselines", 3, 4)
        found["linear"] = self._linear(linear)
        watch("baselines", 4, 4)
        return found

    def accuracy(self, split: str, predictions: bytes) -> Accuracy:
        """The task's metric on a split, and its drop against `fair` on the same rows."""
        logits = unpacked(predictions)[split]
        metric, rows = self._prepared.workload.metric, self._prepared.workload.splits[split].first(len(logits))
        labels, original = np.asarray(rows.labels), self._original(split)[: len(logits)]
        figure = score(metric, logits, labels)
        drop, drop_low, drop_high = paired_drop(metric, original, logits, labels)
        lost = correct(original, labels).astype(float) - correct(logits, labels).astype(float)
        return Accuracy(
            value=figure.value,
            low=figure.low,
            high=figure.high,
            n=figure.n,
            drop=drop,
            drop_low=drop_low,
            drop_high=drop_high,
            collapsed=collapsed(logits),
            losses=tuple(lost.tolist()),
        )

    def agreement(self, split: str, left: bytes, right: bytes) -> float:
        """Share of the rows that both have on which the predicted class is equal."""
        one, other = unpacked(left)[split], unpacked(right)[split]
        rows = min(len(one), len(other))
        return agreement(one[:rows], other[:rows])

    def time(self, folders: Mapping[str, Path], watch: Watch) -> Mapping[str, Timing]:
        """Latency of members and baselines beside each other; every round goes to timings.csv."""
        contenders = [contender(name, folder) for name, folder in {**self._baseline_folders(), **folders}.items()]
        search = self._prepared.workload.splits["search"]
        measured = measure(
            contenders,
            timed_inputs(search, self._prepared.timing_rows, self._work.target),
            texts=[self._prepared.texts.search.texts[row] for row in self._prepared.timing_rows],
            target=self._work.target,
            rounds=self._rounds,
            processes=self._processes,
            seed=self._work.seed,
            progress=lambda done, total: watch("timing", done, total),
        )
        _append(self._folder / "timings.csv", measured.timings)
        bases = [name for name in self._baseline_folders() if name != "linear"]
        return {name: _timing(measured, name, bases, self._work.seed) for name in measured}

    def sizes(self, folder: Path) -> tuple[int, int]:
        """Bytes needed for inference, and bytes of the tokenizer."""
        return inference_bytes(folder), tokenizer_bytes(folder)

    def predicted(self, member: Member) -> tuple[float, int]:
        """Latency in ms and bytes as search predicted them."""
        work = self._prepared.workload
        return work.latency.predict_ms(member), work.template.size(member)

    def _baseline_folders(self) -> dict[str, Path]:
        names = ("fair", "one_liner", "pipeline", "linear")
        return {name: self._folder / "baseline" / name for name in names if (self._folder / "baseline" / name).is_dir()}

    def _one_liner(self, folder: Path) -> Baseline:
        from evaluators.runtimes.onnxruntime.one_liner import one_liner

        artefact = one_liner((self._folder / "baseline" / "fair" / self._work.runtime.filename).read_bytes())
        self._write(folder, artefact, {**design_json(self._work, self._prepared.identity), "key": "one_liner"})
        target = self._work.target
        predictor = self._work.runtime.load(artefact, threads=target.threads, device=target.device)
        logits = run(predictor, self._prepared.workload.splits["confirm"], target.batch_size)
        return Baseline(folder, packed({"confirm": logits}), "onnxruntime.quantization.quantize_dynamic")

    def _pipeline(self, folder: Path) -> Baseline:
        model, tokenizer = load_classifier(str(self._prepared.checkpoint), self._work.task.classes)
        save(model, tokenizer, folder)
        predictor = TorchPredictor(model, torch.device("cpu"))
        logits = run_sorted(predictor, self._prepared.workload.splits["confirm"], _REFERENCE_BATCH)
        return Baseline(folder, packed({"confirm": logits}), "transformers, eager fp32")

    def _linear(self, folder: Path) -> Baseline:
        baseline = LinearBaseline.fit(self._prepared.texts.train)
        baseline.save(folder)
        logits = baseline.logits(self._prepared.texts.confirm.texts)
        return Baseline(folder, packed({"confirm": logits}), "TF-IDF and logistic regression")

    def _write(self, folder: Path, artefact: bytes, design: Mapping[str, Any]) -> None:
        artifact.write(
            folder,
            model_bytes=artefact,
            filename=self._work.runtime.filename,
            tokenizer=self._prepared.tokenizer,
            model_config=self._prepared.model_config,
            design=dict(design),
        )

    def _original(self, split: str) -> Logits:
        """Logits of `fair`; those of the test rows are computed when a pick asks for them."""
        if split not in self._reference:
            fair = self._folder / "baseline" / "fair" / self._work.runtime.filename
            predictor = self._work.runtime.load(
                fair, threads=self._work.target.threads, device=self._work.target.device
            )
            self._reference[split] = run_sorted(predictor, self._prepared.workload.splits[split], _REFERENCE_BATCH)
        return self._reference[split]


def contender(name: str, folder: Path) -> Contender:
    """How a folder is timed, told by what lies in it."""
    if (folder / "model.onnx").is_file():
        return Contender(name, "onnxruntime", folder / "model.onnx")
    if (folder / "design.json").is_file():
        return Contender(name, "torch", folder / "model.safetensors")
    if (folder / "config.json").is_file():
        return Contender(name, "pipeline", folder)
    return Contender(name, "linear", folder)


def bench(folders: Sequence[Path], task: Task, target: Target, seed: int, watch: Watch) -> list[dict[str, Any]]:
    """Exported models side by side on the confirm rows; drops and speed-ups are against the first.

    Returns:
        One mapping per folder: accuracy with interval, drop, latency in ms, speed-up with interval, bytes.
    """
    texts = task.splits(seed)
    metric, labels = Metric.named(task.metric), np.asarray(texts.confirm.labels)
    logits, names = [], [str(folder) for folder in folders]
    for done, folder in enumerate(folders):
        watch("scoring", done, len(folders))
        model = artifact.Artifact.open(folder, threads=target.threads)
        logits.append(run(model.predictor, model.encode(texts.confirm), target.batch_size))
    encoded = encode(texts.search, model.tokenizer, model.max_length)
    rows = sample_inputs(encoded, seed=seed)
    measured = measure(
        [contender(name, folder) for name, folder in zip(names, folders, strict=True)],
        timed_inputs(encoded, rows, target),
        texts=[texts.search.texts[row] for row in rows],
        target=target,
        seed=seed,
        progress=lambda done, total: watch("timing", done, total),
    )
    table = []
    for name, folder, scored in zip(names, folders, logits, strict=True):
        figure = score(metric, scored, labels)
        drop, low, high = paired_drop(metric, logits[0], scored, labels)
        timing = _timing(measured, name, names[:1], seed)
        size, tokenizer = inference_bytes(folder), tokenizer_bytes(folder)
        table.append(
            {
                "model": name,
                "accuracy": {"value": figure.value, "ci95": [figure.low, figure.high], "n": figure.n},
                "drop": {"value": drop, "ci95": [low, high]},
                "latency": {**asdict(timing), "speedup": list(timing.speedup[names[0]])},
                "size": {"bytes": size, "tokenizer_bytes": tokenizer},
            }
        )
    return table


def _timing(measured: Mapping[str, Latency], name: str, bases: Sequence[str], seed: int) -> Timing:
    latency = measured[name]
    return Timing(
        mean_ms=latency.mean_ms,
        p50_ms=latency.p50_ms,
        p95_ms=latency.p95_ms,
        rounds=latency.rounds,
        processes=latency.processes,
        speedup={base: latency.speedup(measured[base], seed) for base in bases},
    )


def _append(path: Path, rows: Sequence[TimingRow]) -> None:
    fresh = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(TimingRow)])
        if fresh:
            writer.writeheader()
        writer.writerows(asdict(row) for row in rows)
