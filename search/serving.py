"""Exported models at work: predictions, and what they cost beside each other. Knows folders; knows no runs."""

import math
import sys
import time
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from search import present, wiring
from search.config import RunConfig, merged, read_yaml
from search.progress import Display

if TYPE_CHECKING:
    from evaluators.answers import Prediction
    from evaluators.instances import Instances

# Predicting shows how far it has come after so many seconds, and again after each so many.
_PATIENCE_S, _REDRAW_S = 5.0, 0.5


def predict(
    model_dir: Path, texts: Sequence[str] | Path, *, instances: "Instances | None", threads: int, batch_size: int
) -> Generator[dict[str, Any], None, None]:
    """Predictions of an exported model, one mapping per text, in order, while a file is still being read.

    Args:
        model_dir: the model.
        texts: themselves, or a JSONL file of them. All lines are checked before the first answer.
        instances: processes that share the work; None: this one.
        threads: that each may use.
        batch_size: rows per call.
    """
    from evaluators import instances as serving

    rows, total = _read_twice(texts) if isinstance(texts, Path) else (texts, len(texts))
    with closing(Display()) as shown:
        if instances is not None and (remark := serving.crowding(instances, threads)) is not None:
            shown.say(remark)
        found = serving.predict(model_dir, rows, instances=instances, threads=threads, batch_size=batch_size)
        with closing(found):
            for prediction in _watched(found, total, shown):
                yield {"label": prediction.label, "score": round(prediction.score, 6)}


def _read_twice(file: Path) -> tuple[Iterable[str], int]:
    """A file's texts and their number; only what cannot be read twice, such as a pipe, is held in memory."""
    if file.is_file():
        return present.read_texts(file), sum(1 for _ in present.read_texts(file))
    texts = list(present.read_texts(file))
    return texts, len(texts)


def _watched(found: "Iterable[Prediction]", total: int, shown: Display) -> "Iterator[Prediction]":
    """The same, with a bar where it takes long and answers do not go to the terminal themselves."""
    due = time.monotonic() + _PATIENCE_S if sys.stderr.isatty() and not sys.stdout.isatty() else math.inf
    for done, prediction in enumerate(found, start=1):
        yield prediction
        if time.monotonic() >= due:
            shown.stage("predict", done, total)
            due = time.monotonic() + _REDRAW_S


def bench(
    model_dirs: list[Path],
    task: str,
    target: Path | None,
    *,
    threads: int | None,
    seed: int,
    format: str,
    instances: "Instances | None" = None,
    batch_size: int | None = None,
) -> str:
    """Exported models side by side on a task's confirm rows, as text; with `instances` also on the whole machine."""
    from evaluators import instances as serving
    from evaluators.assess import bench as measure

    config = RunConfig.parse(
        merged({"task": task, "target": read_yaml(target) if target else {}}, {"target.threads": threads})
    )
    with closing(Display()) as shown:
        serve = None
        if instances is not None:
            if (remark := serving.crowding(instances, config.target.threads)) is not None:
                shown.say(remark)
            serve = partial(
                serving.throughput,
                instances=instances,
                threads=config.target.threads,
                batch_size=batch_size or serving.BATCH_SIZES,
                seed=seed,
                progress=partial(shown.stage, "throughput"),
            )
        rows = measure(model_dirs, wiring.task(config.task), wiring.target(config), seed, shown.stage, serve)
    return present.bench(rows, format)
