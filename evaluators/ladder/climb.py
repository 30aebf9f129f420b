"""The ladder from its first step to its last: built, answered, measured side by side. Knows order and files.

Steps are written to `steps.json` as they finish and read back when the same ladder is asked for again. Nothing is
chosen on confirm rows, so accuracy on them is unbiased; test rows are not read.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from evaluators.answering import Logits, run, run_sorted
from evaluators.base import Watch
from evaluators.instance_worker import is_checkpoint
from evaluators.ladder.models import Models
from evaluators.ladder.padding import longest_input, padded
from evaluators.ladder.race import Race
from evaluators.ladder.steps import BASELINES, LINEAR, ORIGINAL, STEPS, Settings, Step
from evaluators.metrics.accuracy import paired_drop, score
from evaluators.metrics.host import describe_host
from evaluators.metrics.latency import sample_inputs
from evaluators.metrics.size import inference_bytes, tokenizer_bytes
from evaluators.prepare import Assignment
from evaluators.runtimes.torch import TorchPredictor
from evaluators.tasks.linear import LinearBaseline
from evaluators.transformer import packed, unpacked
from spaces.errors import RunError
from spaces.whole import write_whole

STEPS_FILE = "steps.json"
# fp32 answers do not depend on the batch, so PyTorch's are computed in batches.
_BATCH = 16


def climb(work: Assignment, settings: Settings, folder: Path, watch: Watch) -> dict[str, Any]:
    """Build and measure the ladder; what `folder` holds of the same ladder already is not done again.

    Args:
        work: model, task, target of single calls (onnxruntime on the CPU, one thread) and seed.
        settings: constants.
        folder: for the models and the record of finished steps.
        watch: told how far each stage is.

    Returns:
        JSON-able: what was asked (`identity`), the machine, and `steps` and `baselines`, each a list of rows with
        accuracy, latency in ms, rows per second by turn, bytes and notes.

    Raises:
        RunError: the folder is of another ladder, or a finished step's model is gone.
    """
    models = Models(work, settings, folder, watch)
    finished = Finished(folder / STEPS_FILE, _identity(work, settings, models))
    notes = {name: finished.once(name, make) for name, make in models.makers.items()}
    for name in notes:
        if not (folder / name).is_dir():
            raise RunError(f"{folder / name} is gone though {STEPS_FILE} has it. Start again with another --out.")
    answers = _Answers(work, models, folder, watch)
    accuracies = {step.name: answers.accuracy(step) for step in (*STEPS, *BASELINES)}
    speeds = finished.once("speeds", lambda: _speeds(work, settings, models, folder, watch))

    def row(step: Step) -> dict[str, Any]:
        return {
            "step": step.name,
            "change": step.change,
            "folder": step.folder,
            "accuracy": accuracies[step.name],
            "latency": speeds["latency"][step.answers],
            "throughput": speeds["throughput"][step.name],
            "size": _size(folder / step.folder),
            "notes": notes[step.folder],
        }

    return {
        "identity": finished.identity,
        "machine": speeds["machine"],
        "steps": [row(step) for step in STEPS],
        "baselines": [row(step) for step in BASELINES],
    }


class Finished:
    """What is done, as JSON that is written after every step.

    Raises:
        RunError: the file is of something else.
    """

    def __init__(self, path: Path, identity: Mapping[str, Any]) -> None:
        self._path = path
        self._done: dict[str, Any] = {"identity": json.loads(json.dumps(identity))}
        if path.exists():
            known = json.loads(path.read_text())
            other = [name for name, value in self._done["identity"].items() if known["identity"].get(name) != value]
            if other:
                raise RunError(f"{path} is of a ladder with other {', '.join(other)}. Name another folder with --out.")
            self._done = known

    @property
    def identity(self) -> dict[str, Any]:
        """What the file is of."""
        found: dict[str, Any] = self._done["identity"]
        return found

    def once(self, name: str, work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """What `work` returned when it was first asked for."""
        if name not in self._done:
            self._done[name] = work()
            write_whole(self._path, json.dumps(self._done, indent=1, allow_nan=False))
        found: dict[str, Any] = self._done[name]
        return found


class _Answers:
    """Every model's logits on the confirm rows, kept in predictions/, and the figures that follow from them."""

    def __init__(self, work: Assignment, models: Models, folder: Path, watch: Watch) -> None:
        self._work = work
        self._models = models
        self._folder = folder
        self._watch = watch
        self._metric = work.task.metric

    def accuracy(self, step: Step) -> dict[str, Any]:
        """The metric with its 95 % interval, and what is lost against the original on the same rows."""
        labels = np.asarray(self._models.texts.confirm.labels)
        logits, original = self._logits(step), self._logits(Step("original", "", ORIGINAL))
        figure = score(self._metric, logits, labels)
        drop, low, high = paired_drop(self._metric, original, logits, labels)
        return {
            "value": figure.value,
            "ci95": [figure.low, figure.high],
            "n": figure.n,
            "drop": {"value": drop, "ci95": [low, high]},
        }

    def _logits(self, step: Step) -> Logits:
        path = self._folder / "predictions" / f"{step.answers}.npz"
        if not path.exists():
            self._watch(f"answers of {step.answers}", 0, 0)
            write_whole(path, packed({"confirm": self._computed(step)}))
        return unpacked(path)["confirm"]

    def _computed(self, step: Step) -> Logits:
        folder, work = self._folder / step.folder, self._work
        if step.folder == LINEAR:
            return LinearBaseline.load(folder).logits(self._models.texts.confirm.texts)
        rows = self._models.encoded("confirm")
        if not is_checkpoint(folder):
            artefact = folder / work.runtime.filename
            return run(work.runtime.load(artefact, threads=work.target.threads), rows, work.target.batch_size)
        model, tokenizer = self._models.load(step.folder)
        if step.padded:
            rows = padded(rows, longest_input(tokenizer, model.config, work.max_length))
        return run_sorted(TorchPredictor(model, torch.device("cpu")), rows, _BATCH)


def _identity(work: Assignment, settings: Settings, models: Models) -> dict[str, Any]:
    """What decides a ladder; the hash of the rows covers all splits."""
    hashes = "".join(rows.sha256 for rows in vars(models.texts).values())
    return {
        "model": work.model,
        "task": work.task.name,
        "rows": hashlib.sha256(hashes.encode()).hexdigest()[:16],
        "seed": work.seed,
        "max_length": work.max_length,
        "settings": asdict(settings),
    }


def _size(folder: Path) -> dict[str, int]:
    return {"bytes": inference_bytes(folder), "tokenizer_bytes": tokenizer_bytes(folder)}


def _speeds(work: Assignment, settings: Settings, models: Models, folder: Path, watch: Watch) -> dict[str, Any]:
    """All rows of the table in one session on some search rows of typical lengths."""
    rows = models.encoded("search")
    chosen = sample_inputs(rows, n=work.timing_inputs, seed=work.seed)
    model, tokenizer = models.load(ORIGINAL)
    race = Race(
        folder=folder,
        rows=rows.take(chosen),
        texts=tuple(models.texts.search.texts[row] for row in chosen),
        length=longest_input(tokenizer, model.config, work.max_length),
        target=work.target,
        settings=settings,
        seed=work.seed,
    )
    table = (*STEPS, *BASELINES)
    return {
        "machine": describe_host(),
        "latency": race.latencies(table, watch),
        "throughput": race.throughputs(table, watch),
    }
