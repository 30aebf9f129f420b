"""Columns of a table made into labelled rows. Knows what a usable row is; knows no file formats."""

import difflib
import math
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import repeat
from typing import Literal

from evaluators.answers import SEPARATOR
from evaluators.metrics.accuracy import Metric
from evaluators.problems.base import Label, Problem
from evaluators.problems.classes import CLASSIFICATION
from evaluators.problems.embeddings import EMBEDDINGS
from evaluators.problems.labels import MULTI_LABEL
from evaluators.problems.value import Regression
from evaluators.problems.words import IGNORED, OF_WORDS, TokenClassification, order
from evaluators.tasks.base import Splits, Text
from evaluators.tasks.splits import DEFAULT_SIZES, FEWEST_ROWS, SplitSizes, split
from spaces.errors import ConfigError, DataError

_FEWEST_PER_CLASS = 5  # one for each split
_STRATA = 5
# Combinations of labels that fewer rows have are put together when rows are shared out.
_RARE = 25
PROBLEMS = ("classification", "multi-label", "regression", OF_WORDS, "embeddings")


@dataclass(frozen=True)
class Reading:
    """How a table is read.

    Args:
        text: column of the texts.
        pair: column of second texts, where rows are pairs.
        label: column of the labels.
        problem: one of PROBLEMS.
        metric: see metrics/accuracy.py; None: the problem's first.
        goal: of the metric.
        sizes: of the splits.
        slice: column of the groups that rows belong to; rows with nothing there are a group of their own.
    """

    text: str = "text"
    pair: str | None = None
    label: str = "label"
    problem: str = PROBLEMS[0]
    metric: str | None = None
    goal: Literal["max", "min"] = "max"
    sizes: SplitSizes = DEFAULT_SIZES
    slice: str | None = None

    @property
    def columns(self) -> dict[str, str]:
        """By configuration key, the columns that there must be."""
        pair = {} if self.pair is None else {"pair": self.pair}
        label = {} if self.problem == EMBEDDINGS.name else {"label": self.label}
        slices = {} if self.slice is None else {"slice": self.slice}
        return {"text": self.text, **pair, **label, **slices}

    def of(
        self, columns: Mapping[str, Sequence[object]], source: str, names: Sequence[str] | None = None
    ) -> "LabelledTexts":
        """The rows of a table that has all `columns` (see `labelled_texts`)."""
        seconds = None if self.pair is None else columns[self.pair]
        texts, labels = columns[self.text], columns[self.label] if "label" in self.columns else ()
        found = labelled_texts(texts, labels, source, names, seconds=seconds, problem=self.problem)
        if self.slice is None:
            return found
        slices = ("" if value is None else str(value).strip() for value in columns[self.slice])
        return replace(found, slices=tuple(name or "none" for name in slices))

    def judged(self, problem: Problem) -> Metric:
        """The metric that is asked for.

        Raises:
            ConfigError: no such metric, or a function that cannot be imported.
        """
        return Metric.named(self.metric or next(iter(problem.metrics)), problem, self.goal)


DEFAULT = Reading()


@dataclass(frozen=True)
class LabelledTexts:
    """Texts with their labels, and how they are judged.

    Args:
        texts: one per row.
        labels: in plain numbers, as `problem` means them; empty where there are none.
        classes: names of the classes or labels; of a number what it is called; none of vectors.
        problem: what is to be said of each row.
        strata: groups that every split has its share of; None: the classes.
        slices: see Rows.
    """

    texts: tuple[Text, ...]
    labels: tuple[Label, ...]
    classes: tuple[str, ...]
    problem: Problem = CLASSIFICATION
    strata: tuple[int, ...] | None = None
    slices: tuple[str, ...] = ()

    def splits(self, seed: int, sizes: SplitSizes) -> Splits:
        """Stratified, de-duplicated, disjoint; the same for the same seed.

        Raises:
            DataError: too few distinct rows, or splits too large.
        """
        return split(self.texts, self.labels, seed, sizes, problem=self.problem, strata=self.strata, slices=self.slices)


def labelled_texts(
    texts: Sequence[object],
    labels: Sequence[object],
    source: str,
    names: Sequence[str] | None = None,
    *,
    seconds: Sequence[object] | None = None,
    problem: str = PROBLEMS[0],
) -> LabelledTexts:
    """Check every row and bring its label into plain numbers.

    Args:
        texts: one per row; must be strings or, where words are labelled, lists of them.
        labels: classes as strings, integers or booleans, which are sorted, as numbers if all are integers; several
            labels of a row as a list, or as a text that parts them by `|`; one for each word as a list, or as a text
            that parts them by blanks; numbers.
        source: what the messages call the rows' origin.
        names: classes of integer labels, where the source knows them.
        seconds: second texts, where rows are pairs.
        problem: one of PROBLEMS.

    Raises:
        DataError: an empty text, a missing label, fewer than 50 rows, labels that are all the same, a class with hardly
            any rows.
        ConfigError: no such problem.
    """
    if problem == OF_WORDS:
        texts = [_sentence(words, row, source) for row, words in enumerate(texts, start=1)]
    for column in (texts, *([] if seconds is None else [seconds])):
        for row, text in enumerate(column, start=1):
            if not isinstance(text, str) or not text.strip():
                raise DataError(f"{source}: row {row} has no text (found {text!r}). Remove the row or fill it in.")
    if len(texts) < FEWEST_ROWS:
        raise DataError(f"{source} has {len(texts)} rows; at least {FEWEST_ROWS} are needed. Add rows.")
    read: tuple[Text, ...] = tuple(map(str, texts))
    if seconds is not None:
        read = tuple(zip(map(str, texts), map(str, seconds), strict=True))
    if problem == EMBEDDINGS.name:
        return LabelledTexts(read, (), (), EMBEDDINGS)
    if problem == "regression":
        return _numbers(read, labels, source)
    if problem == OF_WORDS:
        return _of_words(read, labels, source, names)
    if problem == "multi-label":
        return _several(read, labels, source, names)
    if problem not in PROBLEMS:
        near = difflib.get_close_matches(problem, PROBLEMS, n=1, cutoff=0.0)
        raise ConfigError(f"task.problem: no {problem!r}; known are {', '.join(PROBLEMS)}. Did you mean {near[0]!r}?")
    return _one_each(read, labels, source, names)


def _one_each(
    texts: tuple[Text, ...], labels: Sequence[object], source: str, names: Sequence[str] | None
) -> LabelledTexts:
    keys = [class_of(label, row, source) for row, label in enumerate(labels, start=1)]
    classes = sorted(set(keys), key=_order)
    if len(classes) < 2:
        raise DataError(f"{source}: every row has the label {classes[0]!r}. A classifier needs at least two classes.")
    rarest, count = min(Counter(keys).items(), key=lambda item: item[1])
    if count < _FEWEST_PER_CLASS:
        raise DataError(
            f"{source}: label {rarest!r} has {count} rows, a class needs at least {_FEWEST_PER_CLASS}. "
            "Add rows or merge classes; if labels are numbers to be predicted, set task.problem to regression."
        )
    indices = {key: index for index, key in enumerate(classes)}
    return LabelledTexts(texts, tuple(indices[key] for key in keys), _shown(classes, names))


def _several(
    texts: tuple[Text, ...], labels: Sequence[object], source: str, names: Sequence[str] | None
) -> LabelledTexts:
    rows = [_labels_of(label, row, source) for row, label in enumerate(labels, start=1)]
    counts = Counter(label for row in rows for label in row)
    classes = sorted(counts, key=_order)
    if not classes:
        raise DataError(f"{source}: no row has any label. Give lists of labels, or texts that part them by '|'.")
    rarest = min(classes, key=counts.__getitem__)
    if counts[rarest] < _FEWEST_PER_CLASS:
        raise DataError(
            f"{source}: label {rarest!r} is on {counts[rarest]} rows, a label needs at least {_FEWEST_PER_CLASS}. "
            "Add rows, or leave the label out."
        )
    there = tuple(tuple(int(label in row) for label in classes) for row in rows)
    common = {each: place for place, (each, n) in enumerate(Counter(there).most_common(), start=1) if n >= _RARE}
    strata = tuple(common.get(each, 0) for each in there)
    return LabelledTexts(texts, there, _shown(classes, names), MULTI_LABEL, strata)


def _of_words(
    texts: tuple[Text, ...], labels: Sequence[object], source: str, names: Sequence[str] | None
) -> LabelledTexts:
    rows = [
        _labels_of_words(label, str(text), row, source)
        for row, (text, label) in enumerate(zip(texts, labels, strict=True), start=1)
    ]
    counts = Counter(label for row in rows for label in set(row))
    shown = {key: _shown([key], names)[0] for key in counts}
    keys = sorted(counts, key=lambda key: order(shown[key]))
    if len(keys) < 2:
        raise DataError(f"{source}: every word has the label {keys[0]!r}. There must be at least two to tell apart.")
    numbers, longest = {key: place for place, key in enumerate(keys)}, max(map(len, rows))
    classes = tuple(shown[key] for key in keys)
    found = tuple((*(numbers[key] for key in row), *[IGNORED] * (longest - len(row))) for row in rows)
    there = [frozenset(row) for row in rows]
    common = {each: place for place, (each, n) in enumerate(Counter(there).most_common(), start=1) if n >= _RARE}
    strata = tuple(common.get(each, 0) for each in there)
    return LabelledTexts(texts, found, classes, TokenClassification(classes, longest), strata)


def _numbers(texts: tuple[Text, ...], labels: Sequence[object], source: str) -> LabelledTexts:
    values = tuple(_number_of(label, row, source) for row, label in enumerate(labels, start=1))
    if min(values) == max(values):
        raise DataError(f"{source}: every row has the number {values[0]:g}. There is nothing to predict.")
    order = sorted(range(len(values)), key=values.__getitem__)
    strata = dict(zip(order, (_STRATA * place // len(order) for place in range(len(order))), strict=True))
    scale = statistics.pstdev(values)
    return LabelledTexts(texts, values, ("value",), Regression(scale), tuple(strata[row] for row in range(len(values))))


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


def _shown(classes: Sequence[str], names: Sequence[str] | None) -> tuple[str, ...]:
    return tuple(names[int(key)] if names else key for key in classes)


def _sentence(words: object, row: int, source: str) -> object:
    """A row's words as a text that white space parts into just them; whatever is no list stays as it is."""
    if not isinstance(words, list | tuple):
        return words
    for word in words:
        if not isinstance(word, str) or len(word.split()) != 1:
            raise DataError(f"{source}: row {row} has the word {word!r}; words are texts without blanks.")
    return " ".join(words)


def _labels_of_words(labels: object, text: str, row: int, source: str) -> list[str]:
    """The names of the labels of a row's words, in their order."""
    given = labels.split() if isinstance(labels, str) else labels
    if not isinstance(given, list | tuple):
        raise DataError(
            f"{source}: row {row} has the labels {labels!r}; write a list, or a text that parts them by blanks."
        )
    if len(given) != len(text.split()):
        raise DataError(
            f"{source}: row {row} has {len(text.split())} words and {len(given)} labels; give one for each."
        )
    return [class_of(label, row, source) for label in given]


def _labels_of(label: object, row: int, source: str) -> frozenset[str]:
    """The names of a row's labels; an empty list or text has none."""
    if isinstance(label, str):
        return frozenset(part.strip() for part in label.split(SEPARATOR) if part.strip())
    if not isinstance(label, list | tuple):
        raise DataError(
            f"{source}: row {row} has the labels {label!r}; write a list, or a text that parts them by '{SEPARATOR}'."
        )
    return frozenset(map(class_of, label, repeat(row), repeat(source)))


def _number_of(label: object, row: int, source: str) -> float:
    try:
        value = float(label)  # type: ignore[arg-type]  # what is no number raises
    except (TypeError, ValueError):
        value = math.nan
    if not math.isfinite(value):
        raise DataError(f"{source}: row {row} has no number (found {label!r}). Remove the row or fill it in.")
    return value


def class_of(label: object, row: int, source: str) -> str:
    """A label's class name; whole numbers stored as floats are integers (a column with gaps becomes one)."""
    if isinstance(label, float) and label.is_integer():
        label = int(label)
    name = str(label).strip()
    if label is None or not name or name.casefold() == "nan" or (isinstance(label, float) and math.isnan(label)):
        raise DataError(f"{source}: row {row} has no label (found {label!r}). Remove the row or fill it in.")
    if not isinstance(label, str | int):
        raise DataError(
            f"{source}: row {row} has the label {label!r}; labels are names or whole numbers. "
            "Set task.problem to multi-label or regression if that is what they are."
        )
    return name


def _order(name: str) -> tuple[int, int, str]:
    """Whole numbers first, by value; then names."""
    return (0, int(name), name) if name.removeprefix("-").isdecimal() else (1, 0, name)
