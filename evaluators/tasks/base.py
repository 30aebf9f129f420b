"""Rows, splits and the contract of a data source. Knows texts and labels; knows no models."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Inputs = Mapping[str, NDArray[np.int64]]


@dataclass(frozen=True)
class Rows:
    """Texts with their class indices, in a fixed order."""

    texts: tuple[str, ...]
    labels: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.texts)

    def first(self, n: int | None) -> "Rows":
        return Rows(self.texts[:n], self.labels[:n])

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
    """

    name: str
    classes: tuple[str, ...]
    metric: str

    def splits(self, seed: int) -> Splits:
        """Stratified, de-duplicated, disjoint; the same for the same seed."""
        ...


@dataclass(frozen=True)
class Encoded:
    """Tokenised rows: per row the model's inputs, each of shape (length,), unpadded."""

    inputs: tuple[Inputs, ...]
    labels: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.inputs)

    def first(self, n: int | None) -> "Encoded":
        return Encoded(self.inputs[:n], self.labels[:n])

    def batches(self, size: int) -> list[dict[str, NDArray[np.int64]]]:
        """Rows in order as padded batches: per input (B, T) with T the longest row; padding is 0 and masked."""
        return [_pad(self.inputs[start : start + size]) for start in range(0, len(self.inputs), size)]


def _pad(rows: Sequence[Inputs]) -> dict[str, NDArray[np.int64]]:
    longest = max(len(row["attention_mask"]) for row in rows)
    return {name: np.stack([np.pad(row[name], (0, longest - len(row[name]))) for row in rows]) for name in rows[0]}
