"""Exported models at work: predictions, and what they cost beside each other. Knows folders; knows no runs."""

import errno
import math
import shutil
import sys
import tempfile
import time
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from search import differences, present, wiring
from search.config import RunConfig, merged, read_yaml
from search.progress import Display
from spaces.errors import ConfigError, RunError
from spaces.medium import Medium, medium_in, medium_of_file

if TYPE_CHECKING:
    from evaluators.answers import Prediction
    from evaluators.instances import Instances
    from evaluators.tasks.base import Text

# Predicting shows how far it has come after so many seconds, and again after each so many.
_PATIENCE_S, _REDRAW_S = 5.0, 0.5


def predict(
    model_dir: Path, texts: "Sequence[Text] | Path", *, instances: "Instances | None", threads: int, batch_size: int
) -> Generator[dict[str, Any], None, None]:
    """Predictions of an exported model, one mapping per row, in order, while a file is still being read.

    Args:
        model_dir: the model.
        texts: themselves, pairs of them, or a file: a row itself, or JSONL of rows. All lines are checked before the
            first answer.
        instances: processes that share the work; None: this one.
        threads: that each may use.
        batch_size: rows per call.
    """
    from evaluators import instances as serving
    from evaluators.exported import design_of
    from evaluators.media import check_medium

    medium = medium_in(design_of(model_dir))
    if isinstance(texts, Path) and (known := medium_of_file(texts)) is not None:
        check_medium(known, medium, f"Model {str(model_dir)!r}")
        texts = [str(texts)]
    elif not isinstance(texts, Path) and medium.of_files:
        raise ConfigError(f"Model {str(model_dir)!r} reads files of {medium.name}, found a text. Give --file.")
    rows, total = _read_twice(texts, medium) if isinstance(texts, Path) else (texts, len(texts))
    with closing(Display()) as shown:
        if instances is not None and (remark := serving.crowding(instances, threads)) is not None:
            shown.say(remark)
        found = serving.predict(model_dir, rows, instances=instances, threads=threads, batch_size=batch_size)
        with closing(found):
            for prediction in _watched(found, total, shown):
                yield _shown(prediction)


def _shown(prediction: "Prediction") -> dict[str, Any]:
    if prediction.vector:
        return {prediction.label: [round(value, 6) for value in prediction.vector]}
    return {"label": prediction.label, "score": round(prediction.score, 6)}


def _read_twice(file: Path, medium: Medium) -> "tuple[Iterable[Text], int]":
    """A file's rows and their number; only what cannot be read twice, such as a pipe, is held in memory."""
    if file.is_file():
        return present.read_rows(file, medium), sum(1 for _ in present.read_rows(file, medium))
    texts = list(present.read_rows(file, medium))
    return texts, len(texts)


def _watched(found: "Iterable[Prediction]", total: int, shown: Display) -> "Iterator[Prediction]":
    """The same, with a bar where it takes long and answers do not go to the terminal themselves."""
    due = time.monotonic() + _PATIENCE_S if sys.stderr.isatty() and not sys.stdout.isatty() else math.inf
    for done, prediction in enumerate(found, start=1):
        yield prediction
        if time.monotonic() >= due:
            shown.stage("predict", done, total)
            due = time.monotonic() + _REDRAW_S


def _setting(file: Path) -> dict[str, Any]:
    """Threads, batch, lengths and device of a target's file, one that `profile` wrote included."""
    from evaluators.device_profile import FORMAT

    content = read_yaml(file)
    if content.get("format") != FORMAT:
        return content
    return {name: content[name] for name in ("label", "runtime", "device", "threads", "batch_size", "lengths")}


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
    from evaluators.bench import bench as measure

    config = RunConfig.parse(
        merged(
            {"model": str(model_dirs[0]), "task": task, "target": _setting(target) if target else {}},
            {"target.threads": threads},
        )
    )
    asked = wiring.targets(config)[0]
    with closing(Display()) as shown:
        serve = None
        if instances is not None:
            if (remark := serving.crowding(instances, asked.threads)) is not None:
                shown.say(remark)
            serve = partial(
                serving.throughput,
                instances=instances,
                threads=asked.threads,
                batch_size=batch_size or serving.BATCH_SIZES,
                seed=seed,
                progress=partial(shown.stage, "throughput"),
            )
        rows = measure(model_dirs, wiring.task(config), asked, seed, shown.stage, serve)
    return present.bench(rows, format)


@dataclass(frozen=True)
class Rows:
    """Which rows `diff` is asked to compare models on, as flags say it.

    Args:
        task: a name or a file; None: `data` says.
        data: a file all of whose rows are meant, with labels or without.
        split: test, confirm or search; None: what fits the task (see evaluators/diff.py).
        seed: draws splits; None: as the models' run drew them.
        rows: at most so many.
        column: of the file, to make slices by.
    """

    task: str | None
    data: Path | None
    split: str | None = None
    seed: int | None = None
    rows: int | None = None
    column: str | None = None


def diff(
    base: Path, model: Path, rows: Rows, limits: differences.Limits, *, format: str, out: Path | None
) -> tuple[str, list[str]]:
    """What flips from one model's answers to another's, as text, and the limits that are missed.

    Args:
        base, model: any two folders that can be run.
        rows: which ones they answer.
        limits: on what may change.
        format: table, json or csv.
        out: file for all flipped rows; None: none is written.

    Raises:
        ConfigError: rows that are no rows of anything, or options that contradict each other.
    """
    from evaluators.diff import Asked
    from evaluators.diff import diff as compare

    if (rows.task is None) == (rows.data is None):
        raise ConfigError("diff takes one of --task and --data. Example: diff base/ model/ --task movie-reviews")
    if rows.data is not None and (rows.split or rows.seed is not None):
        raise ConfigError("--data is about all rows of a file; --split and --seed go with --task.")
    if out is not None:
        differences.check_name(out)
        _check_writable(out)
    config = RunConfig.parse({} if rows.task is None else {"model": str(base), "task": rows.task})
    named = config.task.file
    file = rows.data if rows.task is None else None if named is None else Path(named)
    task = None if rows.task is None else partial(wiring.task, config)
    asked = Asked(task, file, rows.split, rows.seed, rows.rows, rows.column)
    with closing(Display()) as shown:
        found = compare(base, model, asked, wiring.targets(config)[0], shown.stage)
    if out is not None:
        differences.write(out, found)
    return differences.shown(found, format), limits.missed(found)


def profile(out: Path, asked: Mapping[str, Any], *, seed: int) -> str:
    """Time this machine, write what `search --target` takes, and say how well its predictions hold.

    Args:
        out: the file.
        asked: `threads`, `device`, `batch_size` and `label`, as the configuration of a target takes them; None as a
            label is the host's name.
        seed: draws the models that are timed.

    Raises:
        RunError: the file cannot be written, which is found out before anything is timed.
    """
    from evaluators.profiling import profile_here

    setting = wiring.targets(RunConfig.parse({"target": dict(asked)}))[0]
    _check_writable(out)
    with closing(Display()) as shown:
        target = wiring.here(setting) if asked["label"] is None else setting
        found = profile_here(target, seed=seed, progress=partial(shown.stage, "profile"))
    found.write(out)
    return "\n".join(
        [
            f"{target.label}: {target.processor}; {target.runtime} {target.runtime_version}, threads {target.threads}",
            f"predictions for {len(found.held_out)} models that the fit had not seen are off by {found.mean_error:.1%} "
            "on average",
            f"Wrote {out}. Anywhere: paretoformer search --model M --task T --target {out}",
        ]
    )


def _check_writable(out: Path) -> None:
    try:
        if out.is_dir():
            raise IsADirectoryError(errno.EISDIR, "it is a folder")
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out.parent):
            pass
    except OSError as error:
        raise RunError(f"{out} cannot be written: {error.strerror}. Name another file with --out.") from None


def cache_info() -> str:
    """What earlier runs left on this machine, one line per kind."""
    from evaluators.cache import cache_folder
    from evaluators.store import Store

    store = Store()
    lines = [f"{cache_folder()}:"]
    for kind, held in store.held().items():
        newest = time.strftime("%Y-%m-%d %H:%M", time.localtime(held.newest))
        lines.append(f"  {kind:12} {held.entries:7,} figures  {held.bytes / 1e6:9.1f} MB, the newest of {newest}")
    for entry in sorted(cache_folder().iterdir()):
        if entry != store.file:
            files = [path for path in (entry, *entry.rglob("*")) if path.is_file() and not path.is_symlink()]
            size = sum(path.stat().st_size for path in files)
            lines.append(f"  {entry.name:12} {len(files):7,} files    {size / 1e6:9.1f} MB")
    return "\n".join(lines) if len(lines) > 1 else f"{cache_folder()}: empty"


def cache_clear(*, everything: bool) -> str:
    """Forget figures, or everything; what went."""
    from evaluators.cache import cache_folder
    from evaluators.store import Store
    from evaluators.tasks import download

    gone = Store().clear()
    if not everything:
        return f"Forgot {gone:,} figures. Checkpoints and downloads stay; --everything removes them too."
    # Only what this project puts there: the folder may be one that the user shares with other things.
    checkpoints, downloads = cache_folder() / "finetuned", download.kept()
    try:
        if checkpoints.exists():
            shutil.rmtree(checkpoints)
        for archive in downloads:
            archive.unlink()
    except OSError as error:
        raise RunError(f"{error.filename} cannot be removed: {error.strerror}. Remove it by hand.") from error
    return f"Forgot {gone:,} figures, all fine-tuned checkpoints and {len(downloads)} downloads."
