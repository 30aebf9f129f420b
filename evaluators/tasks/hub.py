"""A data set of the Hugging Face Hub, or a folder of files, as a task. Knows the loader; knows nothing of models."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import datasets

from evaluators.tasks.base import Splits
from evaluators.tasks.columns import check_columns, labelled_texts
from evaluators.tasks.splits import DEFAULT_SIZES, SplitSizes, split
from spaces.errors import DataError


class HubTask:
    """One text and one label column of one labelled part (`split`) of a data set; its own classes in their order."""

    max_length = 128

    def __init__(
        self,
        dataset: str,
        config: str | None = None,
        text: str = "text",
        label: str = "label",
        metric: str = "accuracy",
        *,
        split: str = "train",
        sizes: SplitSizes = DEFAULT_SIZES,
    ) -> None:
        """Download and check the data.

        Raises:
            DataError: the data set cannot be had, a column is missing, or rows cannot be used.
        """
        source = f"{dataset}/{config}" if config else dataset
        table = _load(dataset, config, split)
        check_columns({"text": text, "label": label}, table.column_names, source)
        feature, labels = table.features[label], list(table[label])
        names = feature.names if isinstance(feature, datasets.ClassLabel) else None
        if names:
            labels = [None if value is None or value < 0 else value for value in labels]  # -1: withheld
        self._rows = labelled_texts(list(table[text]), labels, source, names)
        self._sizes = sizes
        self.name = source.strip("/").replace("/", "-")
        self.classes = self._rows.classes
        self.metric = metric

    def splits(self, seed: int) -> Splits:
        """Stratified, de-duplicated, disjoint; the same for the same seed.

        Raises:
            DataError: too few distinct rows, or splits too large.
        """
        return split(self._rows.texts, self._rows.labels, seed, self._sizes)


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
