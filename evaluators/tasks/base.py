"""Rows, splits and the contract of a data source. Knows texts and labels; knows no models."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Inputs = Mapping[str, NDArray[np.int64]]
# Stands for the class of a row that nobody labelled.
UNLABELED = -1


@dataclass(frozen=True)
class Rows:
    """Texts with their class indices, in a fixed order."""

    texts: tuple[str, ...]
    labels: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.texts)

    def first(self, n: int | None) -> "Rows":
        return Rows(self.texts[:n], self.labels[:n])

    def take(self, indices: Sequence[int]) -> "Rows":
        """The rows at `indices`, in that order."""
        return Rows(tuple(self.texts[i] for i in indices), tuple(self.labels[i] for i in indices))

    @cached_property
    def sha256(self) -> str:
        """Hash of the rows and their order; recorded with every figure."""
        digest = hashlib.sha256()
        for text, label in zip(self.texts, self.labels, strict=True):
            digest.update(f"{label}\t{text}\n".encode())
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
        classes: names of the classes, in the order of their indices.
        metric: name of the metric (see metrics/accuracy.py), or a dotted path to the user's own.
        max_length: tokens beyond it are cut, unless the user asks for another length.
    """

    name: str
    classes: tuple[str, ...]
    metric: str
    max_length: int

    def splits(self, seed: int) -> Splits:
        """Stratified, de-duplicated, disjoint; the same for the same seed."""
        ...


@dataclass(frozen=True)
class Encoded:
    """Tokenised rows: per row the model's inputs, each of shape (length,), unpadded; `pad_id` fills up input_ids."""

    inputs: tuple[Inputs, ...]
    labels: tuple[int, ...]
    pad_id: int = 0

    def __len__(self) -> int:
        return len(self.inputs)

    def first(self, n: int | None) -> "Encoded":
        return Encoded(self.inputs[:n], self.labels[:n], self.pad_id)

    def take(self, indices: Sequence[int]) -> "Encoded":
        """The rows at `indices`, in that order."""
        return Encoded(tuple(self.inputs[i] for i in indices), tuple(self.labels[i] for i in indices), self.pad_id)

    @cached_property
    def lengths(self) -> tuple[int, ...]:
        """Tokens per row."""
        return tuple(len(row["attention_mask"]) for row in self.inputs)

    def batches(self, size: int) -> list[dict[str, NDArray[np.int64]]]:
        """Rows in order as padded batches: per input (B, T) with T the longest row; padding is masked."""
        return [_pad(self.inputs[start : start + size], self.pad_id) for start in range(0, len(self.inputs), size)]


def encode(
    rows: Rows, tokenizer: Any, max_length: int, names: tuple[str, ...] = ("input_ids", "attention_mask")
) -> Encoded:
    """Tokenise at real lengths.

    Args:
        rows: texts and labels.
        tokenizer: of `transformers`.
        max_length: tokens beyond it are cut.
        names: the model's inputs to keep; `token_type_ids` only on request, because models fill in the same zeros.
    """
    columns = tokenizer(list(rows.texts), truncation=True, max_length=max_length, padding=False)
    inputs = tuple({name: np.asarray(columns[name][row], dtype=np.int64) for name in names} for row in range(len(rows)))
    return Encoded(inputs, rows.labels, tokenizer.pad_token_id or 0)


def _pad(rows: Sequence[Inputs], pad_id: int) -> dict[str, NDArray[np.int64]]:
    if len(rows) == 1:
        return {name: values[None] for name, values in rows[0].items()}  # (1, T)
    longest = max(len(row["attention_mask"]) for row in rows)
    fill = {"input_ids": pad_id}
    return {
        name: np.stack(
            [np.pad(row[name], (0, longest - len(row[name])), constant_values=fill.get(name, 0)) for row in rows]
        )
        for name in rows[0]
    }
