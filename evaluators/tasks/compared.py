"""Rows to compare models on: a split of a task, or all of a file. Knows rows and classes; knows no models."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from evaluators.problems.base import Labels
from evaluators.tasks.base import Rows, Task, Text
from evaluators.tasks.columns import check_columns, class_of
from evaluators.tasks.files import Columns, read_columns, unlabeled_texts
from evaluators.tasks.folders import Listing, place
from spaces.errors import DataError
from spaces.medium import TEXT, Medium

_TEXT, _LABEL = "text", "label"


@dataclass(frozen=True)
class Compared:
    """Texts or files, and what is known of them.

    Args:
        texts: at least one; of files their paths.
        labels: class indices; None where nobody labelled the rows.
        what: which rows these are, in words.
        values: of the column that slices are made by; None where none was asked for.
        medium: what the rows are of.
    """

    texts: tuple[Text, ...]
    labels: Labels | None
    what: str
    values: tuple[str, ...] | None = None
    medium: Medium = TEXT

    def first(self, n: int | None) -> "Compared":
        """At most so many of them; all if None."""
        if n is None or n >= len(self.texts):
            return self
        return replace(
            self,
            texts=self.texts[:n],
            labels=None if self.labels is None else self.labels[:n],
            what=f"the first {n:,} of {self.what}",
            values=None if self.values is None else self.values[:n],
        )

    @property
    def rows(self) -> Rows:
        """As models read them."""
        return Rows(self.texts, () if self.labels is None else tuple(self.labels.tolist()))


def of_split(task: Task, split: str, seed: int, file: Path | None = None, column: str | None = None) -> Compared:
    """One split of a task.

    Args:
        task: drawn from.
        split: its name.
        seed: draws the splits.
        file: that the task is, where it is one.
        column: of that file, to make slices by.
    """
    rows: Rows = getattr(task.splits(seed), split)
    values = None if file is None or column is None else _values(file, column, rows.texts)
    what = f"{len(rows):,} {split} rows of {task.name} (splits of seed {seed})"
    return Compared(rows.texts, np.asarray(rows.labels) if rows.labels else None, what, values, task.medium)


def of_folder(folder: Path, classes: Sequence[str] | None) -> Compared:
    """All files of a folder; without labels where it has no folders of classes.

    Args:
        folder: see FolderTask.
        classes: by name, in the order of the models' answers; None where neither says.

    Raises:
        DataError: files that cannot be used, or labels that are no classes of the models.
    """
    listing = Listing.of(folder)
    flat = all(path.parent == folder for path in listing.paths)
    labels = None if flat else _indices([place(path, folder)[1] for path in listing.paths], classes, folder)
    what = f"all {len(listing.paths):,} files of {folder}" + (" (no labels)" if flat else "")
    return Compared(listing.texts, labels, what, medium=listing.medium)


def of_file(path: Path, classes: Sequence[str] | None, column: str | None = None) -> Compared:
    """All rows of a file; without labels where it has no column of them, as a .txt file has none.

    Args:
        path: with a column `text`.
        classes: by name, in the order of the models' answers; None where neither says.
        column: of the file, to make slices by.

    Raises:
        DataError: no such file or column, a row without text, or labels that are no classes of the models.
    """
    columns: Columns = {_TEXT: unlabeled_texts(path)} if path.suffix.lower() == ".txt" else read_columns(path)
    check_columns({_TEXT: _TEXT, **({} if column is None else {"slice": column})}, list(columns), str(path))
    texts = columns[_TEXT]
    if not texts:
        raise DataError(f"{path} has no rows. Give a file with a text per row.")
    for row, text in enumerate(texts, start=1):
        if not isinstance(text, str) or not text.strip():
            raise DataError(f"{path}: row {row} has no text (found {text!r}). Remove the row or fill it in.")
    labels = _indices(columns[_LABEL], classes, path) if _LABEL in columns else None
    what = f"all {len(texts):,} rows of {path}" + (" (no labels)" if labels is None else "")
    values = None if column is None else tuple(map(str, columns[column]))
    return Compared(tuple(map(str, texts)), labels, what, values)


def _values(path: Path, column: str, texts: Sequence[Text]) -> tuple[str, ...]:
    """What the file's column says of each text; of equal texts, what it says of the first, as splits take that row."""
    columns = read_columns(path)
    check_columns({"slice": column}, list(columns), str(path))
    known: dict[object, object] = {}
    for text, value in zip(columns[_TEXT], columns[column], strict=True):
        known.setdefault(text, value)
    return tuple(str(known[text]) for text in texts)


def _indices(labels: Sequence[object], classes: Sequence[str] | None, path: Path) -> Labels:
    """Labels as the models number them: by name, or by number where they are whole numbers."""
    names = [class_of(label, row, str(path)) for row, label in enumerate(labels, start=1)]
    if classes is None:
        classes = [str(index) for index in range(1 + max((int(name) for name in names if name.isdecimal()), default=0))]
    numbers = {name: index for index, name in enumerate(classes)}
    if all(name.isdecimal() for name in names) and not set(names) <= numbers.keys():
        numbers = {str(index): index for index in range(len(classes))}
    for row, name in enumerate(names, start=1):
        if name not in numbers:
            raise DataError(
                f"{path}: row {row} has the label {name!r}; the models answer {', '.join(classes)}. "
                "Label the rows so, or with the numbers 0, 1, ... of these, or leave the column out."
            )
    return np.asarray([numbers[name] for name in names])
