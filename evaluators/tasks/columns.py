"""A text and a label column made into classes. Knows what a usable row is; knows no file formats."""

import difflib
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from evaluators.tasks.splits import FEWEST_ROWS
from spaces.errors import DataError

_FEWEST_PER_CLASS = 5  # one for each split


@dataclass(frozen=True)
class LabelledTexts:
    """Texts with class indices into `classes`."""

    texts: tuple[str, ...]
    labels: tuple[int, ...]
    classes: tuple[str, ...]


def labelled_texts(
    texts: Sequence[object], labels: Sequence[object], source: str, names: Sequence[str] | None = None
) -> LabelledTexts:
    """Check every row and number the classes.

    Args:
        texts: one per row; must be strings.
        labels: strings, integers or booleans; classes are sorted, as numbers if all are integers.
        source: what the messages call the rows' origin.
        names: classes of integer labels, where the source knows them.

    Raises:
        DataError: an empty text, a missing label, fewer than 50 rows, one class only, a class with hardly any rows.
    """
    keys = [class_of(label, row, source) for row, label in enumerate(labels, start=1)]
    for row, text in enumerate(texts, start=1):
        if not isinstance(text, str) or not text.strip():
            raise DataError(f"{source}: row {row} has no text (found {text!r}). Remove the row or fill it in.")
    if len(keys) < FEWEST_ROWS:
        raise DataError(f"{source} has {len(keys)} rows; at least {FEWEST_ROWS} are needed. Add rows.")
    classes = sorted(set(keys), key=_order)
    if len(classes) < 2:
        raise DataError(f"{source}: every row has the label {classes[0]!r}. A classifier needs at least two classes.")
    rarest, count = min(Counter(keys).items(), key=lambda item: item[1])
    if count < _FEWEST_PER_CLASS:
        raise DataError(
            f"{source}: label {rarest!r} has {count} rows, a class needs at least {_FEWEST_PER_CLASS}. "
            "Add rows or merge classes; labels are classes, not scores."
        )
    indices = {key: index for index, key in enumerate(classes)}
    shown = [names[int(key)] if names else key for key in classes]
    return LabelledTexts(tuple(map(str, texts)), tuple(indices[key] for key in keys), tuple(shown))


def check_columns(wanted: dict[str, str], found: Sequence[str], source: str) -> None:
    """Refuse a source without the columns in `wanted` (configuration key to column name).

    Raises:
        DataError: names the columns found and the nearest.
    """
    for key, column in wanted.items():
        if column in found:
            continue
        near = difflib.get_close_matches(column, found, n=1, cutoff=0.5)
        hint = f"Did you mean {near[0]!r}? " if near else ""
        listed = ", ".join(map(repr, found)) or "none"
        raise DataError(f"{source} has no column {column!r}; it has {listed}. {hint}Set task.{key} to a column's name.")


def class_of(label: object, row: int, source: str) -> str:
    """A label's class name; whole numbers stored as floats are integers (a column with gaps becomes one)."""
    if isinstance(label, float) and label.is_integer():
        label = int(label)
    name = str(label).strip()
    if label is None or not name or name.casefold() == "nan" or (isinstance(label, float) and math.isnan(label)):
        raise DataError(f"{source}: row {row} has no label (found {label!r}). Remove the row or fill it in.")
    if not isinstance(label, str | int):
        raise DataError(f"{source}: row {row} has the label {label!r}; labels are names or whole numbers.")
    return name


def _order(name: str) -> tuple[int, int, str]:
    """Whole numbers first, by value; then names."""
    return (0, int(name), name) if name.removeprefix("-").isdecimal() else (1, 0, name)
