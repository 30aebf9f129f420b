"""Rows, splits and the contract of a data source. Knows texts, files and labels; knows no models."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import groupby
from typing import Any, Protocol, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from evaluators.media import FileReader, Files, longest_side
from evaluators.metrics.accuracy import Metric
from evaluators.problems.base import Label, Labels, Outputs, Problem
from evaluators.problems.classes import CLASSIFICATION
from spaces.medium import Medium

_T = TypeVar("_T")
Inputs = Mapping[str, NDArray[Any]]  # of one row, by what a model calls them: token ids, pixels, ...
# What a model is told of pairs: which tokens belong to the second text.
TYPES = "token_type_ids"
MASK = "attention_mask"
_ALWAYS = ("input_ids", MASK)
Text: TypeAlias = str | tuple[str, str]  # or a pair of texts


@dataclass(frozen=True)
class Rows:
    """Texts, pairs of texts, or files, with their labels, in a fixed order.

    Args:
        texts: what is read; of files their paths.
        labels: as `problem` means them, in plain numbers; none at all where nobody labelled any row.
        problem: what is to be said of each row.
        slices: groups that rows belong to, by name; none at all where nobody named any.
        contents: of files, hashes of what is in them; none at all of texts.
    """

    texts: tuple[Text, ...]
    labels: tuple[Label, ...]
    problem: Problem = CLASSIFICATION
    slices: tuple[str, ...] = ()
    contents: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.texts)

    def first(self, n: int | None) -> "Rows":
        return self.take(range(len(self))[:n])

    def take(self, indices: Sequence[int]) -> "Rows":
        """The rows at `indices`, in that order."""
        return replace(
            self,
            texts=tuple(self.texts[i] for i in indices),
            labels=_taken(self.labels, indices),
            slices=_taken(self.slices, indices),
            contents=_taken(self.contents, indices),
        )

    def joined(self, texts: Sequence[Text]) -> "Rows":
        """With further texts behind, which have no labels; none belongs to a slice then."""
        added = tuple(self.problem.unlabelled(self.labels[0]) for _ in texts) if self.labels else ()
        return replace(self, texts=(*self.texts, *texts), labels=(*self.labels, *added), slices=())

    @cached_property
    def sha256(self) -> str:
        """Hash of the rows and their order, wherever files lie; recorded with every figure."""
        digest = hashlib.sha256()
        for text, label in zip(self.contents or self.texts, self.labels or ("",) * len(self), strict=True):
            shown = "\t".join(map(str, (label, *parted(text))))
            digest.update(f"{shown}\n".encode())
        return digest.hexdigest()


@dataclass(frozen=True)
class Splits:
    """Disjoint rows: weights from train; ranges, rankings and thresholds from calibration; search ranks designs;
    confirm decides picks; test is read once, last."""

    train: Rows
    calibration: Rows
    search: Rows
    confirm: Rows
    test: Rows


class Task(Protocol):
    """A data source.

    Attributes:
        name: as in `--task`, or the file's stem.
        problem: what is to be said of each row.
        medium: what rows are of.
        pairs: whether a row is a pair of texts.
        classes: names of the classes or labels, in the order of the model's outputs; of a number, its name.
        metric: of the task, larger is better.
        max_length: tokens beyond it are cut, unless the user asks for another length.
    """

    name: str
    problem: Problem
    medium: Medium
    pairs: bool
    classes: tuple[str, ...]
    metric: Metric
    max_length: int

    def splits(self, seed: int) -> Splits:
        """Stratified, de-duplicated, disjoint; the same for the same seed."""
        ...


@dataclass(frozen=True)
class Encoded:
    """Rows as a model reads them: per row its inputs by name. Of texts each is of shape (length,), unpadded, and
    `pad_id` fills up input_ids; of files they are read when they are wanted, and no mask tells padding in them apart.
    `words`, where a problem speaks of them, are the places of their first tokens, (words,) per row, -1 where there is
    no such word or it was cut off. The rest is as in Rows."""

    inputs: Sequence[Inputs]
    labels: tuple[Label, ...]
    pad_id: int = 0
    problem: Problem = CLASSIFICATION
    slices: tuple[str, ...] = ()
    words: tuple[NDArray[np.int64], ...] = ()

    def __len__(self) -> int:
        return len(self.inputs)

    def first(self, n: int | None) -> "Encoded":
        return self.take(range(len(self))[:n])

    def take(self, indices: Sequence[int]) -> "Encoded":
        """The rows at `indices`, in that order."""
        return replace(
            self,
            inputs=self.inputs.take(indices)
            if isinstance(self.inputs, Files)
            else tuple(self.inputs[i] for i in indices),
            labels=_taken(self.labels, indices),
            slices=_taken(self.slices, indices),
            words=_taken(self.words, indices),
        )

    def labelled(self) -> "Encoded":
        """The rows that have a label."""
        return self.take(np.flatnonzero(self.problem.labelled(self.truth)).tolist())

    @cached_property
    def truth(self) -> Labels:
        """The labels as an array, (rows, ...)."""
        return np.asarray(self.labels)

    def truth_or(self, original: Outputs) -> Labels:
        """What answers are held against: the labels or, where nobody labelled any row, what the original says."""
        return self.truth if self.labels else self.problem.predictions(original)

    @property
    def pairs(self) -> bool:
        """Whether models are told which tokens belong to a second text."""
        return bool(self.inputs) and TYPES in self.inputs[0]

    @property
    def tokenised(self) -> bool:
        """Whether inputs are tokens with a mask, so that rows of unlike lengths go together in a batch."""
        return not isinstance(self.inputs, Files) and all(MASK in row for row in self.inputs[:1])

    @cached_property
    def lengths(self) -> tuple[int, ...]:
        """Tokens per row; of inputs that are no tokens the longest side, equal where shapes are."""
        return self.inputs.lengths if isinstance(self.inputs, Files) else tuple(map(length, self.inputs))

    def groups(self, size: int) -> list[list[int]]:
        """Which rows are together in a batch, in order: at most `size`, without a mask all of one length."""
        every = range(len(self))
        runs = [every] if self.tokenised else [list(run) for _, run in groupby(every, key=self.lengths.__getitem__)]
        return [list(run[start : start + size]) for run in runs for start in range(0, len(run), size)]

    def batches(self, size: int) -> Iterator[dict[str, NDArray[Any]]]:
        """Rows in order, group by group: tokens as (B, T) with T the longest row, padding masked."""
        return (_pad([self.inputs[row] for row in group], self.pad_id) for group in self.groups(size))

    def outputs(self, batches: Sequence[Outputs]) -> Outputs:
        """What a model says of the rows, from its answers to all their batches in order, each (B, ...). Where words are
        spoken of, these are (B, T, classes), and come out for words' first tokens, (rows, words, classes), else 0."""
        if not self.words:
            return np.concatenate(batches)
        words, tokens = np.stack(self.words), max(batch.shape[1] for batch in batches)
        found = np.concatenate([np.pad(batch, ((0, 0), (0, tokens - batch.shape[1]), (0, 0))) for batch in batches])
        return np.asarray(found[np.arange(len(words))[:, None], words.clip(min=0)] * (words >= 0)[..., None])


def parted(text: Text) -> tuple[str, ...]:
    """A text alone, or both of a pair."""
    return (text,) if isinstance(text, str) else tuple(text)


def length(inputs: Inputs) -> int:
    """Tokens of a row; of inputs that are no tokens the longest side."""
    return len(inputs[MASK]) if MASK in inputs else longest_side(inputs)


def encode(rows: Rows, tokenizer: Any, max_length: int) -> Encoded:
    """Tokenise at real lengths; files are only listed, with what will read them.

    Token types are kept where rows are pairs and the tokenizer tells the two apart: else models fill in the same zeros.
    Words, where the problem speaks of them, are what white space parts.

    Args:
        rows: texts and labels.
        tokenizer: of `transformers`, or what reads files.
        max_length: tokens beyond it are cut.
    """
    if isinstance(tokenizer, FileReader):
        files = Files.of(tokenizer, [str(text) for text in rows.texts])
        return Encoded(files, rows.labels, problem=rows.problem, slices=rows.slices)
    parts: list[list[Any]] = [list(part) for part in zip(*map(parted, rows.texts), strict=True)] or [[]]
    split = rows.problem.words > 0
    options = {"is_split_into_words": True} if split else {}
    if split:
        parts = [[text.split() for text in part] for part in parts]
    columns = tokenizer(*parts, truncation=True, max_length=max_length, padding=False, **options)
    names = [*_ALWAYS, *([TYPES] if len(parts) > 1 and TYPES in columns else [])]
    inputs = tuple({name: np.asarray(columns[name][row], dtype=np.int64) for name in names} for row in range(len(rows)))
    words = tuple(_first_tokens(columns.word_ids(row), rows.problem.words) for row in range(len(rows) if split else 0))
    return Encoded(inputs, rows.labels, tokenizer.pad_token_id or 0, rows.problem, rows.slices, words)


def _first_tokens(word_ids: Sequence[int | None], words: int) -> NDArray[np.int64]:
    """From the word of each token, the first token of each word; -1: it has none."""
    found = np.full(words, -1)
    for token, word in reversed(list(enumerate(word_ids))):
        if word is not None and word < words:
            found[word] = token
    return found


def _taken(values: tuple[_T, ...], indices: Sequence[int]) -> tuple[_T, ...]:
    return tuple(values[i] for i in indices) if values else ()


def _pad(rows: Sequence[Inputs], pad_id: int) -> dict[str, NDArray[Any]]:
    if len(rows) == 1 or MASK not in rows[0]:
        return {name: np.stack([row[name] for row in rows]) for name in rows[0]}
    longest = max(map(length, rows))
    fill = {"input_ids": pad_id}
    return {
        name: np.stack(
            [np.pad(row[name], (0, longest - len(row[name])), constant_values=fill.get(name, 0)) for row in rows]
        )
        for name in rows[0]
    }
