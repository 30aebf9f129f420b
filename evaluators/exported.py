"""Exported folders, baselines' among them: how they are called, what they answer, what was measured of them.

Knows files and figures; knows no run and decides nothing.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from transformers import AutoConfig, AutoTokenizer

from evaluators import artifact
from evaluators.answering import Logits, run
from evaluators.base import Accuracy, Band, Timing, Watch
from evaluators.cascade import CASCADE
from evaluators.instance_worker import load
from evaluators.metrics.accuracy import Metric, paired_drop, row_drops, score
from evaluators.metrics.bands import stretches
from evaluators.metrics.guards import guards
from evaluators.metrics.latency import Contender, Latency, Measurement, measure, sample_inputs, timed_inputs
from evaluators.pool import Setup
from evaluators.problems.base import collapsed
from evaluators.tasks.base import Encoded, Rows, encode
from evaluators.tasks.linear import LinearBaseline
from spaces.medium import Medium, medium_in
from spaces.target import Target

Triple: TypeAlias = tuple[float, float, float]  # an estimate and its 95 % interval
SINGLE = ("onnxruntime", "torch")  # kinds of an exported single model
# Rows of a split whose throughput is measured, of the lengths of all of them: enough to sort into batches.
SERVED_ROWS = 512


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


def as_it_reads(known: Contender, rows: Rows, target: Target) -> Contender:
    """The same with the rows as it reads them, if it is an exported model with a vocabulary of its own."""
    folder = known.path.parent
    design = design_of(folder) if known.kind in SINGLE else {}
    if not has_own_vocabulary(design):
        return known
    encoded = encode(rows, AutoTokenizer.from_pretrained(folder, local_files_only=True), int(design["max_length"]))
    return replace(known, inputs=tuple(timed_inputs(encoded, range(len(rows)), target)))


def design_of(folder: Path) -> Mapping[str, Any]:
    path = folder / artifact.DESIGN
    return json.loads(path.read_text()) if path.is_file() else {}


def medium_of_folder(folder: Path) -> Medium:
    """What the model in a folder, of any kind, reads."""
    if contender("", folder).kind != "pipeline":
        return medium_in(design_of(folder))
    from evaluators.models import medium_of  # loads slowly, and exported models say it themselves

    return medium_of(AutoConfig.from_pretrained(folder, local_files_only=True))


def has_own_vocabulary(design: Mapping[str, Any]) -> bool:
    return design.get("decoded", {}).get("embeddings", {}).get("vocabulary") is not None


def answers_of(folder: Path, rows: Rows, target: Target, max_length: int) -> Logits:
    """Logits (rows, classes) of any folder; a checkpoint does not say itself where it cuts."""
    kind = contender("", folder).kind
    if kind == "linear":
        return LinearBaseline.load(folder).logits(rows.texts)
    if kind in SINGLE:
        model = artifact.Artifact.open(folder, threads=target.threads, device=target.device)
        return run(model.predictor, model.encode(rows), target.batch_size)
    answer = load(Setup(str(folder), target.threads, max_length=max_length)).keep(rows.texts)
    logits = answer(range(len(rows)), target.batch_size)
    if words := rows.problem.words:  # of the task's longest row, which need not be among these
        return np.pad(logits, ((0, 0), (0, words - logits.shape[1]), (0, 0)))
    return logits


def accuracy_against(
    original: Logits, logits: Logits, rows: Encoded, metric: Metric, classes: Sequence[str] = ()
) -> Accuracy:
    """A metric of logits (rows, ...), and what is lost against the original's on the same rows.

    Args:
        original, logits: of the two models.
        rows: that were answered.
        metric: of the task.
        classes: names of the classes.
    """
    labels = rows.truth_or(original)
    figure = score(metric, logits, labels)
    drop, drop_low, drop_high = paired_drop(metric, original, logits, labels)
    return Accuracy(
        value=figure.value,
        low=figure.low,
        high=figure.high,
        n=figure.n,
        drop=drop,
        drop_low=drop_low,
        drop_high=drop_high,
        collapsed=collapsed(metric.problem, logits),
        losses=tuple(row_drops(metric, original, logits, labels).tolist()),
        guards=guards(metric.problem, original, logits, labels if rows.labels else None, rows.slices, classes),
    )


def side_by_side(
    folders: Mapping[str, Path],
    original: artifact.Artifact,
    texts: Rows,
    target: Target,
    *,
    inputs: int = 100,
    rounds: int = 9,
    processes: int = 3,
    seed: int,
    watch: Watch,
) -> Measurement:
    """Latencies of folders that take turns on some of the rows, as verification times them.

    Args:
        folders: by name.
        original: its tokenizer writes the rows of all that have no vocabulary of their own.
        texts: rows to choose from.
        target: threads, batch and lengths.
        inputs: how many rows.
        rounds: of timing in all.
        processes: fresh ones that they are spread over.
        seed: chooses the rows and shuffles turns.
        watch: told how far it is.
    """
    encoded = encode(texts, original.tokenizer, original.max_length)
    rows = sample_inputs(encoded, n=inputs, seed=seed)
    timed = texts.take(rows)
    return measure(
        [as_it_reads(contender(name, folder), timed, target) for name, folder in folders.items()],
        timed_inputs(encoded, rows, target),
        texts=timed.texts,
        target=target,
        rounds=rounds,
        processes=processes,
        seed=seed,
        progress=lambda done, total: watch("timing", done, total),
    )


def timings(measured: Mapping[str, Latency], baselines: Collection[str], seed: int) -> dict[str, Timing]:
    """Latencies that were measured beside each other, with the speed-up over each of the baselines among them."""
    bases = [name for name in baselines if name != "linear"]
    return {name: timing(measured, name, bases, seed) for name in measured}


def timing(measured: Mapping[str, Latency], name: str, bases: Sequence[str], seed: int) -> Timing:
    latency = measured[name]
    parts = stretches(latency.lengths)
    groups = [range(latency.array.shape[-1]), *(part.calls for part in parts)]
    whole, *rest = _transposed({base: latency.speedups(measured[base], groups, seed) for base in bases}, len(groups))
    return Timing(
        mean_ms=latency.mean_ms,
        p50_ms=latency.p50_ms,
        p95_ms=latency.p95_ms,
        rounds=latency.rounds,
        processes=latency.processes,
        speedup=whole,
        per_call_ms=tuple(latency.per_input.tolist()),
        bands=tuple(
            Band(part.tokens, len(part.calls), float(latency.per_input[list(part.calls)].mean()), speedup)
            for part, speedup in zip(parts, rest, strict=True)
        ),
    )


def _transposed(triples: Mapping[str, Sequence[Triple]], groups: int) -> list[dict[str, Triple]]:
    """Per group by baseline, from per baseline by group."""
    return [{base: found[group] for base, found in triples.items()} for group in range(groups)]
