"""Exported folders measured for search (Assessor). Knows files and figures; decides nothing."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from evaluators import artifact
from evaluators.answering import Logits, run, run_sorted
from evaluators.base import Accuracy, Baseline, Judgement, Served, StageTimings, Timing, Watch
from evaluators.cascade import answers as cascade_answers
from evaluators.cascade import judged, numbered
from evaluators.cascade_export import write_cascade
from evaluators.exported import SERVED_ROWS, accuracy_against, as_it_reads, contender, timing, timings
from evaluators.graphs import fastest
from evaluators.instances import throughput
from evaluators.kept_timings import KeptTimings
from evaluators.metrics.accuracy import row_drops
from evaluators.metrics.lane import LocalLane
from evaluators.metrics.latency import TIMINGS, Contender, Measurement, append_timings, measure, timed_inputs
from evaluators.metrics.size import inference_bytes, tokenizer_bytes
from evaluators.models import load_classifier, save
from evaluators.prepare import Prepared, design_json, latency_file
from evaluators.problems.base import Problem, agreement
from evaluators.runtimes.torch import TorchPredictor
from evaluators.tasks.base import Text
from evaluators.tasks.linear import LinearBaseline
from evaluators.transformer import as_scored, packed, unpacked
from evaluators.vocabulary import affected, foreign_text
from spaces.axes.vocabulary import Vocabulary
from spaces.design import Member
from spaces.target import Target

_REFERENCE_BATCH = 16
# What cascades are chosen on.
_JUDGED = ("calibration", "search")
_SERVED_TOGETHER, _SERVED_ROUNDS = 6, 3
_AS_FIRST, _AS_STAGE = "{} as a first stage", "{} as a later stage"  # in timings.csv


class TransformerAssessor:
    """Builds, scores and times the members and baselines of one run.

    Args:
        prepared: the model, its rows and its runtime.
        folder: the run's folder; baselines and timings.csv are written there.
        rounds: timing rounds in all.
        processes: fresh processes they are spread over.
        again: whether what was timed lately is timed again.
    """

    def __init__(self, prepared: Prepared, folder: Path, *, rounds: int, processes: int, again: bool = False) -> None:
        self._prepared = prepared
        self._work = prepared.assignment
        self._templates = prepared.workload.templates()
        self._readings = prepared.workload.readings()
        self._folder = folder
        self._rounds = rounds
        self._processes = processes
        self._again = again
        self._reference = dict(prepared.reference)
        self._latency = {self._work.target.label: prepared.workload.latency, **prepared.workload.further}

    def build(self, member: Member, folder: Path) -> None:
        """`folder` with the artefact, the tokenizer and the design; replaced whole if it exists.

        Of the graphs that the runtime knows the fastest is written, so nothing else of the run may be busy; the first
        where another machine does the timing.
        """
        template = self._templates.of(member.weights)
        if not isinstance(self._work.lane, LocalLane):
            name = template.graphs[0]
            return self._write(folder, template.assemble(member, name), member, graph=name)
        graphs = {name: template.assemble(member, name) for name in template.graphs}
        rows, target = self._readings.rows(member, "search"), self._work.target
        calls = replace(rows.take(self.timed_rows), inputs=tuple(timed_inputs(rows, self.timed_rows, target)))
        name = fastest(graphs, self._work.runtime, list(calls.batches(target.batch_size)), target)
        self._write(folder, graphs[name], member, graph=name)

    def baselines(self, watch: Watch) -> Mapping[str, Baseline]:
        """The baselines, built and scored on the confirm rows: `fair`, `one_liner`, `pipeline` and, where whole
        texts have labels, `linear`."""
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
        task = self._work.task
        if self._prepared.texts.train.labels and not task.problem.words and not task.medium.of_files:
            found["linear"] = self._linear(linear)
        watch("baselines", 4, 4)
        return found

    def accuracy(self, split: str, predictions: bytes) -> Accuracy:
        """The task's metric on a split, and its drop against `fair` on the same rows."""
        logits = unpacked(predictions)[split]
        rows = self._prepared.workload.splits[split].first(len(logits))
        original = self._original(split)[: len(logits)]
        return accuracy_against(original, logits, rows, self._prepared.workload.metric, self._work.task.classes)

    def losses(self, split: str, predictions: bytes) -> tuple[float, ...]:
        """Per row of logits, what `fair` scores minus what they score."""
        logits = unpacked(predictions)[split]
        rows, metric = self._prepared.workload.splits[split].first(len(logits)), self._prepared.workload.metric
        original = self._original(split)[: len(logits)]
        return tuple(row_drops(metric, original, logits, rows.truth_or(original)).tolist())

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
        one, other = (as_scored(unpacked(each)[split]) for each in (left, right))
        rows = min(len(one), len(other))
        return agreement(self._problem, one[:rows], other[:rows])

    def time(
        self, folders: Mapping[str, Path], watch: Watch, target: Target | None = None, times: int = 1
    ) -> Mapping[str, Timing]:
        """Latency of members and baselines beside each other; every round goes to timings.csv.

        Members that were timed lately are not timed again, unless more rounds are wanted, and baselines only beside
        others.
        """
        baselines, target = self._baseline_folders(), target or self._work.target
        kept = self._kept_timings(target)
        known = {} if kept is None or times > 1 else kept.find({**baselines, **folders})
        if known.keys() >= {*baselines, *folders}:
            return {name: each.timing for name, each in known.items()}
        missing = {**baselines, **{name: folder for name, folder in folders.items() if name not in known}}
        measured = self._measure([contender(name, folder) for name, folder in missing.items()], watch, target, times)
        fresh = timings(measured, baselines, self._work.seed)
        if kept is not None:
            kept.keep(missing, fresh)
        return {**{name: each.now(fresh["fair"].mean_ms) for name, each in known.items()}, **fresh}

    def _kept_timings(self, target: Target) -> KeptTimings | None:
        work, fair = self._work, self._baseline_folders()["fair"]
        if work.store is None or self._again:
            return None
        return KeptTimings(work.store, work.latency_age, work.lane.node, fair, target, self._timed_texts())

    def _timed_texts(self) -> tuple[Text, ...]:
        """Or, of files, what stands for what is in them."""
        timed = self._prepared.texts.search.take(self.timed_rows)
        return timed.contents or timed.texts

    def time_stages(self, folders: Mapping[str, Path], watch: Watch) -> StageTimings:
        """Latency of single models when each call follows one of another of them, the first for all others."""
        first, second = list(folders)[:2]
        stages = [
            Contender(_AS_STAGE.format(name), "stage", folder, after=folders[second if name == first else first])
            for name, folder in folders.items()
        ]
        alone = contender(first, folders[first]), Contender(_AS_FIRST.format(first), "stage", folders[first])
        fair = contender("fair", self._baseline_folders()["fair"])
        measured = self._measure([fair, *alone, *stages], watch, self._work.target)
        seed = self._work.seed
        return StageTimings(
            timing(measured, "fair", (), seed),
            asking_ms=measured[alone[1].name].mean_ms - measured[alone[0].name].mean_ms,
            later={name: timing(measured, _AS_STAGE.format(name), (), seed) for name in folders},
        )

    def _measure(self, contenders: Sequence[Contender], watch: Watch, target: Target, times: int = 1) -> Measurement:
        """Latencies on the timed search rows; every round goes to timings.csv."""
        timed = self._prepared.texts.search.take(self.timed_rows)
        measured = measure(
            [as_it_reads(each, timed, target) for each in contenders],
            timed_inputs(self._prepared.workload.splits["search"], self.timed_rows, target),
            texts=timed.texts,
            target=target,
            rounds=times * self._rounds,
            processes=self._processes,
            seed=self._work.seed,
            progress=lambda done, total: watch("timing", done, total),
            lane=self._work.lane,
        )
        append_timings(self._folder / TIMINGS, measured.timings)
        return measured

    def throughput(self, folders: Mapping[str, Path], watch: Watch) -> Mapping[str, Served]:
        """Rows per second of every folder with the whole machine to itself; a few at a time take turns with `fair`."""
        found: dict[str, Served] = {}
        target, texts = self._work.target, self._prepared.texts.search.first(SERVED_ROWS).texts
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
        return agreement(self._problem, expected, unpacked(answers)[split])

    def sizes(self, folder: Path) -> tuple[int, int]:
        """Bytes needed for inference, and bytes of the tokenizer."""
        return inference_bytes(folder), tokenizer_bytes(folder)

    def predicted(self, member: Member) -> tuple[Mapping[str, float], int]:
        """Latency in ms by target, and bytes, as they were predicted before the member was timed."""
        latencies = {label: model.without(member).predict_ms(member) for label, model in self._latency.items()}
        return latencies, self._templates.of(member.weights).size(member)

    def expected(self, member: Member) -> Mapping[str, tuple[float, float, float]]:
        """Latency in ms by target with the ends of its interval, from all that was timed."""
        models = self._latency.items()
        return {label: (model.predict_ms(member), *model.predict_interval(member)) for label, model in models}

    def learn(self, target: Target, timed: Sequence[tuple[Member, float]]) -> None:
        """Refine what is expected at a target, here and in the run's folder, by members and their latency over that of
        `fair`."""
        known = self._latency[target.label]
        self._latency[target.label] = known.refined(timed)
        if self._latency[target.label] != known:
            self._latency[target.label].write(latency_file(self._folder, self._work, target))

    @property
    def _problem(self) -> Problem:
        return self._prepared.workload.metric.problem

    def _judged(self, logits: Mapping[str, Logits]) -> Judgement:
        splits = self._prepared.workload.splits
        return judged(logits, {split: splits[split].truth for split in logits})

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
        model, tokenizer = load_classifier(
            str(self._prepared.checkpoint), self._work.task.classes, self._work.task.problem
        )
        save(model, tokenizer, folder)
        predictor = TorchPredictor(model, torch.device("cpu"))
        logits = run_sorted(predictor, self._prepared.workload.splits["confirm"], _REFERENCE_BATCH)
        return Baseline(folder, packed({"confirm": logits}), "transformers, eager fp32")

    def _linear(self, folder: Path) -> Baseline:
        baseline = LinearBaseline.fit(self._prepared.texts.train)
        baseline.save(folder)
        logits = baseline.logits(self._prepared.texts.confirm.texts)
        return Baseline(folder, packed({"confirm": logits}), "TF-IDF and a linear model")

    def _write(self, folder: Path, artefact: bytes, member: Member, **described: str) -> None:
        artifact.write(
            folder,
            model_bytes=artefact,
            filename=self._work.runtime.filename,
            tokenizer=self._readings.tokenizer(member),
            model_config=self._readings.config(member, self._prepared.model_config),
            design={**design_json(self._work, member), "rows": self._rows, **described},
        )

    @cached_property
    def _rows(self) -> dict[str, Any]:
        """Which rows the figures of an exported model are on: `diff` finds them again."""
        work = self._work
        metric, test = work.task.metric, self._prepared.texts.test
        return {"seed": work.seed, "metric": metric.name, "goal": metric.goal, "test": test.sha256}

    def _original(self, split: str) -> Logits:
        """Logits of `fair`; those of the test rows are computed when a pick asks for them."""
        if split not in self._reference:
            fair = self._folder / "baseline" / "fair" / self._work.runtime.filename
            predictor = self._work.runtime.load(
                fair, threads=self._work.target.threads, device=self._work.target.device
            )
            self._reference[split] = run_sorted(predictor, self._prepared.workload.splits[split], _REFERENCE_BATCH)
        return self._reference[split]
