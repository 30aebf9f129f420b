"""Two runnable folders answer the same rows: what flips. Knows folders and rows; knows no run and no limit."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from evaluators.answers import unnamed
from evaluators.base import Watch
from evaluators.exported import answers_of, contender, design_of, medium_of_folder
from evaluators.media import check_medium
from evaluators.metrics.accuracy import Metric
from evaluators.metrics.flips import (
    Groups,
    by_class,
    by_confidence,
    by_length,
    by_value,
    compared,
    flips,
    worst_first,
)
from evaluators.problems.base import Outputs
from evaluators.problems.classes import CLASSIFICATION
from evaluators.tasks.base import Task, parted
from evaluators.tasks.compared import Compared, of_file, of_folder, of_split
from evaluators.tasks.linear import WEIGHTS
from spaces.errors import DataError, ModelError
from spaces.target import Target

# Tokens beyond it are cut for a checkpoint, which does not say so itself, where no exported model stands beside it.
_MAX_LENGTH = 128


@dataclass(frozen=True)
class Asked:
    """Which rows two models shall answer.

    Args:
        task: makes the source of splits; None where all rows of `file` are wanted.
        file: rows of the user's own; None where the task goes by a name.
        split: test, confirm or search; None: test of a task by name, and of a file that the models' run was made with;
            all rows of another file.
        seed: draws the splits; None: that of the models' run, or 0 where they know of none.
        rows: at most so many of them.
        column: of the file, to make slices by; None: classes, length and confidence make them.
    """

    task: Callable[[], Task] | None
    file: Path | None
    split: str | None = None
    seed: int | None = None
    rows: int | None = None
    column: str | None = None


def diff(base: Path, model: Path, asked: Asked, target: Target, watch: Watch) -> dict[str, Any]:
    """Both models' answers compared.

    Args:
        base, model: any two folders that can be run.
        asked: which rows.
        target: threads and batch.
        watch: told how far it is.

    Returns:
        `rows` in words, `classes`, `metric`, `whole` and `slices` (flips.Part, the worst first) and every flipped row.

    Raises:
        ModelError: a folder that holds no model, two that answer different classes, or one of other rows.
        DataError: rows that cannot be used.
    """
    folders = (base, model)
    classes = _classes(folders)
    known: Mapping[str, Any] = next((rows for folder in (model, base) if (rows := design_of(folder).get("rows"))), {})
    rows = _rows(asked, known, classes).first(asked.rows)
    for folder in folders:
        check_medium(rows.medium, medium_of_folder(folder), f"Model {str(folder)!r}")
    if rows.labels is not None and classes is not None and rows.labels.max() >= len(classes):
        raise DataError(f"{rows.what} have {rows.labels.max() + 1} classes, the models answer {', '.join(classes)}.")
    length = next((int(found) for folder in folders if (found := design_of(folder).get("max_length"))), _MAX_LENGTH)
    logits = []
    for done, folder in enumerate(folders):
        watch("answers", done, len(folders))
        logits.append(answers_of(folder, rows.rows, target, length))
    watch("answers", len(folders), len(folders))
    before, after = logits
    names = list(classes or map(str, range(before.shape[1])))
    metric = Metric.named(known.get("metric", "accuracy"), goal=known.get("goal", "max"))
    whole = compared("all rows", before, after, rows.labels, metric)
    slices = worst_first(_groups(rows, asked.column, before, names), before, after, rows.labels)
    return {
        "base": str(base),
        "model": str(model),
        "rows": rows.what,
        "classes": names,
        "metric": metric.name,
        "whole": asdict(whole),
        "slices": [asdict(part) for part in slices],
        "flips": [
            {
                "text": " / ".join(parted(rows.texts[flip.row])),
                "label": None if rows.labels is None else names[rows.labels[flip.row]],
                **asdict(flip),
                "base": names[flip.base],
                "model": names[flip.model],
            }
            for flip in flips(before, after, rows.labels)
        ],
    }


def _rows(asked: Asked, known: Mapping[str, Any], classes: Sequence[str] | None) -> Compared:
    if asked.column is not None and asked.file is None:
        raise DataError(f"--slice {asked.column}: a task by name has no further columns. Give a file of rows.")
    if asked.task is None or (asked.file is not None and not _drawn(asked, known)):
        assert asked.file is not None, "rows come from a task or a file"
        return of_folder(asked.file, classes) if asked.file.is_dir() else of_file(asked.file, classes, asked.column)
    seed = asked.seed if asked.seed is not None else int(known.get("seed", 0))
    task = asked.task()
    _refuse_others(task.problem.name, f"the task {task.name}")
    _check_classes(classes, task.classes, f"the task {task.name}")
    return of_split(task, asked.split or "test", seed, asked.file, asked.column)


def _drawn(asked: Asked, known: Mapping[str, Any]) -> bool:
    """Whether splits of a file are meant: some were asked for, or the models were made with splits of the same rows."""
    if asked.split is not None or asked.seed is not None:
        return True
    if "test" not in known or asked.task is None:
        return False
    try:
        return bool(asked.task().splits(int(known["seed"])).test.sha256 == known["test"])
    except DataError:
        return False  # too few rows to be split, so never split


def _groups(rows: Compared, column: str | None, base: Outputs, classes: Sequence[str]) -> Groups:
    if rows.values is not None:
        return by_value(rows.values, f"{column}=")
    of_class = (
        by_class(classes, base.argmax(-1).tolist(), "base says")
        if rows.labels is None
        else by_class(classes, rows.labels.tolist(), "class")
    )
    lengths = {} if rows.medium.of_files else by_length(rows.texts)
    return {**of_class, **lengths, **by_confidence(base)}


def _classes(folders: Sequence[Path]) -> tuple[str, ...] | None:
    """What both models answer; None where neither says.

    Raises:
        ModelError: a folder without a model, or models of different tasks.
    """
    said = [_said(folder) for folder in folders]
    for folder, names in zip(folders[1:], said[1:], strict=True):
        _check_classes(said[0], names, str(folder))
    own = [names for names in said if names is not None]
    return next((names for names in own if not unnamed(names)), own[0] if own else None)


def _said(folder: Path) -> tuple[str, ...] | None:
    """The classes that a folder says it answers; None for a linear baseline, which has no names for them."""
    if contender("", folder).kind != "pipeline":
        if not (folder / WEIGHTS).is_file() and not (folder / "design.json").is_file():
            raise ModelError(
                f"{folder} holds no model that can be run: no design.json, config.json or {WEIGHTS}. Give an exported "
                "model, a baseline's folder, or a checkpoint."
            )
        design = design_of(folder)
        _refuse_others(design.get("problem", CLASSIFICATION.name), str(folder))
        names = design.get("classes")
        return None if names is None else tuple(names)
    labels = json.loads((folder / "config.json").read_text()).get("id2label") or {"0": "LABEL_0", "1": "LABEL_1"}
    return tuple(labels[index] for index in sorted(labels, key=int))


def _refuse_others(problem: str, whose: str) -> None:
    if problem != CLASSIFICATION.name:
        raise ModelError(f"{whose} is of {problem}; diff compares models that say one of several classes per row.")


def _check_classes(own: Sequence[str] | None, others: Sequence[str] | None, whose: str) -> None:
    if own is None or others is None:
        return
    ours, theirs = ([name.casefold() for name in names] for names in (own, others))
    if len(ours) != len(theirs) or (ours != theirs and sorted(ours) == sorted(theirs)):
        raise ModelError(
            f"The models answer {', '.join(own)}, {whose} has {', '.join(others)}: not one task's classes in one "
            "order. Compare models of the same task."
        )
