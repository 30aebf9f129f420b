"""Exported models side by side, as people ask for it. Knows folders and one task; knows no run."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeAlias

from evaluators import artifact
from evaluators.base import Watch
from evaluators.exported import (
    SERVED_ROWS,
    SINGLE,
    accuracy_against,
    answers_of,
    contender,
    design_of,
    has_own_vocabulary,
    medium_of_folder,
    side_by_side,
    timing,
)
from evaluators.instances import Throughput
from evaluators.media import check_medium
from evaluators.metrics.latency import sample_inputs
from evaluators.metrics.size import inference_bytes, tokenizer_bytes
from evaluators.tasks.base import Task, Text, encode
from spaces.target import Target

Serve: TypeAlias = Callable[[Mapping[str, Path], Sequence[Text]], Mapping[str, Throughput]]


def bench(
    folders: Sequence[Path], task: Task, target: Target, seed: int, watch: Watch, serve: Serve | None = None
) -> list[dict[str, Any]]:
    """Exported models side by side on the confirm rows; drops and speed-ups are against the first.

    Args:
        serve: measures rows per second of the whole machine on texts (`instances.throughput`); None: left out.

    Returns:
        One mapping per folder: accuracy with interval, drop, latency in ms, speed-up with interval, bytes; throughput.

    Raises:
        ModelError: a folder that holds no model, or one of other rows than the task's.
    """
    for folder in folders:
        check_medium(task.medium, medium_of_folder(folder), f"Model {str(folder)!r}")
    texts = task.splits(seed)
    metric = task.metric
    logits, names = [], [str(folder) for folder in folders]
    singles = [folder for folder in folders if contender("", folder).kind in SINGLE] or folders
    original = min(singles, key=lambda folder: has_own_vocabulary(design_of(folder)))
    model = artifact.Artifact.open(original, threads=target.threads)
    for done, folder in enumerate(folders):
        watch("scoring", done, len(folders))
        logits.append(answers_of(folder, texts.confirm, target, model.max_length))
    named = dict(zip(names, folders, strict=True))
    measured = side_by_side(named, model, texts.search, target, seed=seed, watch=watch)
    served: Mapping[str, Throughput] = {}
    if serve is not None:
        some = sample_inputs(encode(texts.confirm, model.tokenizer, model.max_length), SERVED_ROWS, seed=seed)
        served = serve(named, [texts.confirm.texts[row] for row in some])
    rows = encode(texts.confirm, model.tokenizer, model.max_length)
    table = []
    for name, folder, scored in zip(names, folders, logits, strict=True):
        figure = accuracy_against(logits[0], scored, rows, metric)
        timed = timing(measured, name, names[:1], seed)
        size, tokenizer = inference_bytes(folder), tokenizer_bytes(folder)
        table.append(
            {
                "model": name,
                "accuracy": {"value": figure.value, "ci95": [figure.low, figure.high], "n": figure.n},
                "drop": {"value": figure.drop, "ci95": [figure.drop_low, figure.drop_high]},
                "latency": {
                    **asdict(timed),
                    "speedup": list(timed.speedup[names[0]]),
                    "bands": [{**asdict(band), "speedup": list(band.speedup[names[0]])} for band in timed.bands],
                },
                "size": {"bytes": size, "tokenizer_bytes": tokenizer},
                **({"throughput": served[name].to_json(served[names[0]], seed)} if served else {}),
            }
        )
    return table
