"""A user's own file as a task. Knows CSV, TSV, JSON Lines and Parquet; knows nothing of models."""

import csv
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from evaluators.tasks.base import Splits
from evaluators.tasks.columns import DEFAULT, Reading, check_columns
from spaces.errors import DataError
from spaces.medium import TEXT

Columns = Mapping[str, Sequence[object]]


class FileTask:
    """Columns of a file; classes are sorted."""

    medium = TEXT
    max_length = 128

    def __init__(self, path: str | Path, reading: Reading = DEFAULT) -> None:
        """Read and check the whole file.

        Raises:
            DataError: no such file, an unknown or damaged format, a missing column, or rows that cannot be used.
            ConfigError: no such problem or metric.
        """
        columns = read_columns(Path(path))
        check_columns(reading.columns, list(columns), str(path))
        self._rows = reading.of(columns, str(path))
        self._sizes = reading.sizes
        self.name = Path(path).stem
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


def read_columns(path: Path) -> Columns:
    """A file's columns by name, values as the format gives them.

    Raises:
        DataError: no such file, empty, an unknown extension, or content that is not what the extension says.
    """
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise DataError(f"{path} ends in {path.suffix!r}; known are {', '.join(_READERS)}. Convert or rename the file.")
    if not path.is_file():
        raise DataError(f"There is no file {path}. Give the path of a CSV, TSV, JSONL or Parquet file.")
    if path.stat().st_size == 0:
        raise DataError(f"{path} is empty. Give a file with a text and a label per row.")
    try:
        return reader(path)
    except (OSError, ValueError, csv.Error) as error:
        raise DataError(f"Cannot read {path}: {' '.join(str(error).split())}. Is it really {path.suffix}?") from None


def unlabeled_texts(path: Path, column: str = "text") -> tuple[str, ...]:
    """The texts of a file without labels: the lines of a .txt file, or one column of the others; empty ones left out.

    Raises:
        DataError: no such file, an unknown or damaged format, no such column, or no text.
    """
    if path.suffix.lower() == ".txt" and path.is_file():
        found: Sequence[object] = path.read_text(encoding="utf-8-sig").splitlines()
    else:
        columns = read_columns(path)
        check_columns({"text": column}, list(columns), str(path))
        found = columns[column]
    texts = tuple(text for text in found if isinstance(text, str) and text.strip())
    if not texts:
        raise DataError(f"{path} has no text. Give a file with a text per line, or a column {column!r}.")
    return texts


def _read_csv(path: Path, delimiter: str = ",") -> Columns:
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file, delimiter=delimiter, strict=True)
        rows = list(reader)
        header = list(reader.fieldnames or ())
    for number, row in enumerate(rows, start=1):
        if None in row:
            raise ValueError(
                f"row {number} has more fields than the header ({len(header)}); quote texts that hold {delimiter!r}"
            )
    return {name: [row[name] for row in rows] for name in header}


def _read_tsv(path: Path) -> Columns:
    return _read_csv(path, delimiter="\t")


def _read_jsonl(path: Path) -> Columns:
    rows: list[dict[str, object]] = []
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except json.JSONDecodeError as error:
                raise ValueError(f"line {number} is not JSON ({error.msg})") from None
            if not isinstance(row, dict):
                raise ValueError(f"line {number} is not a JSON object")
            rows.append(row)
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: [row.get(name) for row in rows] for name in names}


def _read_parquet(path: Path) -> Columns:
    import pyarrow.parquet  # loads slowly, and only this format needs it

    columns: dict[str, list[object]] = pyarrow.parquet.read_table(path).to_pydict()
    return columns


_READERS: Mapping[str, Callable[[Path], Columns]] = {
    ".csv": _read_csv,
    ".tsv": _read_tsv,
    ".jsonl": _read_jsonl,
    ".parquet": _read_parquet,
}
