"""Exported folders measured for search (Assessor) and for people (bench). Knows files and figures; decides nothing."""

import csv
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from transformers import AutoTokenizer

from evaluators import artifact
from evaluators.base import Accuracy, Baseline, Judgement, Served, StageTimings, Timing, Watch
from evaluators.cascade import CASCADE, judged, numbered
from evaluators.cascade import answers as cascade_answers
from evaluators.cascade_export import write_cascade
from evaluators.graphs import fastest
from evaluators.instance_worker import load
from evaluators.instances import Throughput, throughput
from evaluators.metrics.accuracy import Metric, collapsed, correct, paired_drop, score
from evaluators.metrics.fidelity import agreement
from evaluators.metrics.latency import Contender, Latency, Measurement, TimingRow, measure, sample_inputs, timed_inputs
from evaluators.metrics.size import inference_bytes, tokenizer_bytes
from evaluators.models import load_classifier, save
from evaluators.pool import Setup
from evaluators.prepare import Prepared, design_json
from evaluators.runtimes.torch import TorchPredictor
from evaluators.tasks.base import Rows, Task, encode
from evaluators.tasks.linear import LinearBaseline
from evaluators.transformer import Logits, packed, run, run_sorted, unpacked
from evaluators.vocabulary import affected, foreign_text
from spaces.axes.vocabulary import Vocabulary
from spaces.design import Member
from spaces.target import Target

_REFERENCE_BATCH = 16
# What cascades are chosen on.
_JUDGED = ("calibration", "search")
_SINGLE = ("onnxruntime", "torch")  # kinds of an exported single model
# Rows of a split whose throughput is measured, of the lengths of all of them: enough to sort into batches.
_SERVED_ROWS = 512
_SERVED_TOGETHER, _SERVED_ROUNDS = 6, 3
_AS_FIRST, _AS_STAGE = "{} as a first stage", "{} as a later stage"  # in timings.csv

Serve: TypeAlias = Callable[[Mapping[str, Path], Sequence[str]], Mapping[str, Throughput]]


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
        self._templates = prepared.workload.templates()
        self._readings = prepared.workload.readings()
        self._folder = folder
        self._rounds = rounds
        self._processes = processes
        self._reference = dict(prepared.reference)

    def build(self, member: Member, folder: Path) -> None:
        """`folder` with the artefact, the tokenizer and the design; replaced whole if it exists.

        Of the graphs that the runtime knows the fastest is written, so nothing else of the run may be busy.
        """
        template = self._templates.of(member.weights)
        graphs = {name: template.assemble(member, name) for name in template.graphs}
        rows, target = self._readings.rows(member, "search"), self._work.target
        calls = replace(rows.take(self.timed_rows), inputs=tuple(timed_inputs(rows, self.timed_rows, target)))
        name = fastest(graphs, self._work.runtime, calls.batches(target.batch_size), target)
        self._write(folder, graphs[name], member, graph=name)

    def baselines(self, watch: Watch) -> Mapping[str, Baseline]:
        """The four baselines, built and scored on the confirm rows: `fair`, `one_liner`, `pipeline`, `linear`."""
        one_liner, pipeline, linear = (self._folder / "baseline" / name for name in ("one_liner", "pipeline", "linear"))
        watch("baselines", 0, 4)
        original = self._folder / "baseline" / "fair"
        untouched = self._prepared.workload.template.untouched()
        self._write(original, untouched, self._prepared.identity)
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

    def vocabulary(self, member: Member) -> Mapping[str, float]:
        """What a smaller vocabulary does; empty where a member has all of it.

        Shares of tokens whose piece is gone, in the confirm rows (`tokens_affected`) and in Python's own reference
        (`foreign_tokens_affected`), and the bytes that the member would have with the whole vocabulary.
        """
        configs = tuple(config for config in member.configs if not isinstance(config, Vocabulary))
        whole, pruned = self._prepared.tokenizer, self._readings.tokenizer(member)
        if pruned is whole:
            return {}
        return {
            "tokens_affected": affected(whole, pruned, self._prepared.texts.confirm.texts).tokens,
            "foreign_tokens_affected": affected(whole, pruned, foreign_text()).tokens,
            "whole_vocabulary_bytes": float(self._prepared.workload.template.size(Member(configs))),
        }

    def agreement(self, split: str, left: bytes, right: bytes) -> float:
        """Share of the rows that both have on which the predicted class is equal."""
        one, other = unpacked(left)[split], unpacked(right)[split]
        rows = min(len(one), len(other))
        return agreement(one[:rows], other[:rows])

    def time(self, folders: Mapping[str, Path], watch: Watch) -> Mapping[str, Timing]:
        """Latency of members and baselines beside each other; every round goes to timings.csv."""
        everything = {**self._baseline_folders(), **folders}
        measured = self._measure([contender(name, folder) for name, folder in everything.items()], watch)
        bases = [name for name in self._baseline_folders() if name != "linear"]
        return {name: _timing(measured, name, bases, self._work.seed) for name in measured}

    def time_stages(self, folders: Mapping[str, Path], watch: Watch) -> StageTimings:
        """Latency of single models when each call follows one of another of them, the first for all others."""
        first, second = list(folders)[:2]
        stages = [
            Contender(_AS_STAGE.format(name), "stage", folder, after=folders[second if name == first else first])
            for name, folder in folders.items()
        ]
        alone = contender(first, folders[first]), Contender(_AS_FIRST.format(first), "stage", folders[first])
        measured = self._measure([contender("fair", self._baseline_folders()["fair"]), *alone, *stages], watch)
        seed = self._work.seed
        return StageTimings(
            _timing(measured, "fair", (), seed),
            asking_ms=measured[alone[1].name].mean_ms - measured[alone[0].name].mean_ms,
            later={name: _timing(measured, _AS_STAGE.format(name), (), seed) for name in folders},
        )

    def _measure(self, contenders: Sequence[Contender], watch: Watch) -> Measurement:
        """Latencies on the timed search rows; every round goes to timings.csv."""
        timed, target = self._prepared.texts.search.take(self.timed_rows), self._work.target
        measured = measure(
            [_reading(each, timed, target) for each in contenders],
            timed_inputs(self._prepared.workload.splits["search"], self.timed_rows, target),
            texts=timed.texts,
            target=target,
            rounds=self._rounds,
            processes=self._processes,
            seed=self._work.seed,
            progress=lambda done, total: watch("timing", done, total),
        )
        _append(self._folder / "timings.csv", measured.timings)
        return measured

    def throughput(self, folders: Mapping[str, Path], watch: Watch) -> Mapping[str, Served]:
        """Rows per second of every folder with the whole machine to itself; a few at a time take turns with `fair`."""
        found: dict[str, Served] = {}
        target, texts = self._work.target, self._prepared.texts.search.first(_SERVED_ROWS).texts
        names = list(folders)
        for start in range(0, len(names), _SERVED_TOGETHER):
            watch("throughput", start, len(names))
            together = {name: folders[name] for name in names[start : start + _SERVED_TOGETHER]}
            rates = throughput(
                {"fair": self._baseline_folders()["fair"], **together},
                texts,
                threads=target.threads,
                batch_size=target.batch_size,
                rounds=_SERVED_ROUNDS,
                seconds=1.0,
                seed=self._work.seed,
            )
            for name in together:
                rate, (times, low, high) = rates[name], rates[name].ratio(rates["fair"], self._work.seed)
                found[name] = Served(rate.rows_per_second, rate.instances, rate.batch_size, (times, low, high))
        return found

    @property
    def timed_rows(self) -> tuple[int, ...]:
        """Which of the search rows are timed, in order."""
        return self._prepared.timing_rows

    def judged(self, predictions: bytes) -> Judgement:
        """How sure a model is on calibration and search, and whether it is right."""
        logits = unpacked(predictions)
        return self._judged({split: logits[split] for split in _JUDGED})

    def judged_baseline(self, name: str) -> Judgement:
        """The same of the baselines `fair` and `linear`."""
        if name == "fair":
            return self._judged({split: self._reference[split] for split in _JUDGED})
        linear = LinearBaseline.load(self._folder / "baseline" / name)
        return self._judged({split: linear.logits(getattr(self._prepared.texts, split).texts) for split in _JUDGED})

    def build_cascade(
        self, folder: Path, sources: Sequence[Path], stages: Sequence[tuple[float, float | None]]
    ) -> None:
        """`folder` with a cascade of exported folders, each with its temperature and threshold (None: the last)."""
        temperatures, thresholds = zip(*stages, strict=True)
        write_cascade(folder, numbered(temperatures, thresholds[:-1]), sources, {"key": folder.name})

    def cascade_agreement(
        self, split: str, stages: Sequence[tuple[bytes, float, float | None]], answers: bytes
    ) -> float:
        """Share of rows on which a cascade answers what its stages' logits on that split say it should."""
        temperatures, thresholds = [stage[1] for stage in stages], [stage[2] for stage in stages[:-1]]
        logits = [unpacked(predictions)[split] for predictions, _, _ in stages]
        expected, _ = cascade_answers(logits, numbered(temperatures, [level or 0.0 for level in thresholds]))
        return agreement(expected, unpacked(answers)[split])

    def sizes(self, folder: Path) -> tuple[int, int]:
        """Bytes needed for inference, and bytes of the tokenizer."""
        return inference_bytes(folder), tokenizer_bytes(folder)

    def predicted(self, member: Member) -> tuple[float, int]:
        """Latency in ms and bytes as search predicted them."""
        latency = self._prepared.workload.latency
        return latency.predict_ms(member), self._templates.of(member.weights).size(member)

    def _judged(self, logits: Mapping[str, Logits]) -> Judgement:
        splits = self._prepared.workload.splits
        return judged(logits, {split: np.asarray(splits[split].labels) for split in logits})

    def _baseline_folders(self) -> dict[str, Path]:
        names = ("fair", "one_liner", "pipeline", "linear")
        return {name: self._folder / "baseline" / name for name in names if (self._folder / "baseline" / name).is_dir()}

    def _one_liner(self, folder: Path) -> Baseline:
        from evaluators.runtimes.onnxruntime.one_liner import one_liner

        artefact = one_liner((self._folder / "baseline" / "fair" / self._work.runtime.filename).read_bytes())
        self._write(folder, artefact, self._prepared.identity, key="one_liner")
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

    def _write(self, folder: Path, artefact: bytes, member: Member, **described: str) -> None:
        artifact.write(
            folder,
            model_bytes=artefact,
            filename=self._work.runtime.filename,
            tokenizer=self._readings.tokenizer(member),
            model_config=self._readings.config(member, self._prepared.model_config),
            design={**design_json(self._work, member), **described},
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
    if (folder / CASCADE).is_file():
        return Contender(name, "cascade", folder)
    if (folder / "model.onnx").is_file():
        return Contender(name, "onnxruntime", folder / "model.onnx")
    if (folder / "design.json").is_file():
        return Contender(name, "torch", folder / "model.safetensors")
    if (folder / "config.json").is_file():
        return Contender(name, "pipeline", folder)
    return Contender(name, "linear", folder)


def _reading(known: Contender, rows: Rows, target: Target) -> Contender:
    """The same with the rows as it reads them, if it is an exported model with a vocabulary of its own."""
    folder = known.path.parent
    design = _design(folder) if known.kind in _SINGLE else {}
    if not _own_vocabulary(design):
        return known
    encoded = encode(rows, AutoTokenizer.from_pretrained(folder, local_files_only=True), int(design["max_length"]))
    return replace(known, inputs=tuple(timed_inputs(encoded, range(len(rows)), target)))


def _design(folder: Path) -> Mapping[str, Any]:
    path = folder / artifact.DESIGN
    return json.loads(path.read_text()) if path.is_file() else {}


def _own_vocabulary(design: Mapping[str, Any]) -> bool:
    return design.get("decoded", {}).get("embeddings", {}).get("vocabulary") is not None


def bench(
    folders: Sequence[Path], task: Task, target: Target, seed: int, watch: Watch, serve: Serve | None = None
) -> list[dict[str, Any]]:
    """Exported models side by side on the confirm rows; drops and speed-ups are against the first.

    Args:
        serve: measures rows per second of the whole machine on texts (`instances.throughput`); None: left out.

    Returns:
        One mapping per folder: accuracy with interval, drop, latency in ms, speed-up with interval, bytes; throughput.
    """
    texts = task.splits(seed)
    metric, labels = Metric.named(task.metric), np.asarray(texts.confirm.labels)
    logits, names = [], [str(folder) for folder in folders]
    singles = [folder for folder in folders if contender("", folder).kind in _SINGLE] or folders
    original = min(singles, key=lambda folder: _own_vocabulary(_design(folder)))
    model = artifact.Artifact.open(original, threads=target.threads)
    for done, folder in enumerate(folders):
        watch("scoring", done, len(folders))
        logits.append(_scored(folder, texts.confirm, target, model.max_length))
    encoded = encode(texts.search, model.tokenizer, model.max_length)
    rows = sample_inputs(encoded, seed=seed)
    measured = measure(
        [
            _reading(contender(name, folder), texts.search.take(rows), target)
            for name, folder in zip(names, folders, strict=True)
        ],
        timed_inputs(encoded, rows, target),
        texts=texts.search.take(rows).texts,
        target=target,
        seed=seed,
        progress=lambda done, total: watch("timing", done, total),
    )
    served: Mapping[str, Throughput] = {}
    if serve is not None:
        some = sample_inputs(encode(texts.confirm, model.tokenizer, model.max_length), _SERVED_ROWS, seed=seed)
        served = serve(dict(zip(names, folders, strict=True)), [texts.confirm.texts[row] for row in some])
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
                **({"throughput": served[name].to_json(served[names[0]], seed)} if served else {}),
            }
        )
    return table


def _scored(folder: Path, rows: Rows, target: Target, max_length: int) -> Logits:
    """Logits (rows, classes) of an exported model, a cascade, or a checkpoint, which does not say where it cuts."""
    if contender("", folder).kind in _SINGLE:
        model = artifact.Artifact.open(folder, threads=target.threads)
        return run(model.predictor, model.encode(rows), target.batch_size)
    answer = load(Setup(str(folder), target.threads, max_length=max_length)).keep(rows.texts)
    return answer(range(len(rows)), target.batch_size)


def _timing(measured: Mapping[str, Latency], name: str, bases: Sequence[str], seed: int) -> Timing:
    latency = measured[name]
    return Timing(
        mean_ms=latency.mean_ms,
        p50_ms=latency.p50_ms,
        p95_ms=latency.p95_ms,
        rounds=latency.rounds,
        processes=latency.processes,
        speedup={base: latency.speedup(measured[base], seed) for base in bases},
        per_call_ms=tuple(latency.per_input.tolist()),
    )


def _append(path: Path, rows: Sequence[TimingRow]) -> None:
    fresh = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(TimingRow)])
        if fresh:
            writer.writeheader()
        writer.writerows(asdict(row) for row in rows)
