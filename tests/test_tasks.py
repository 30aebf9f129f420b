"""Files and data sets as tasks: what is read, and every kind of bad input."""

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from evaluators.cache import cache_folder
from evaluators.tasks import hub
from evaluators.tasks.base import Encoded, Rows, Task, encode
from evaluators.tasks.columns import Reading
from evaluators.tasks.files import FileTask
from evaluators.tasks.hub import HubTask
from evaluators.tasks.movie_reviews import MovieReviews, read_snippets
from evaluators.tasks.splits import SplitSizes
from spaces.errors import DataError

WORDS = [f"text, number {i}" for i in range(60)]
NAMES = ["spam" if i % 3 else "ham" for i in range(60)]


def write_csv(path: Path, labels: Sequence[Any], texts: Sequence[str] = WORDS, header: str = "text,label") -> Path:
    path.write_text("\n".join([header, *(f'"{text}",{label}' for text, label in zip(texts, labels, strict=True))]))
    return path


def write_jsonl(path: Path, labels: Sequence[Any], texts: Sequence[str] = WORDS) -> Path:
    path.write_text("\n".join(json.dumps({"text": t, "label": y}) for t, y in zip(texts, labels, strict=True)))
    return path


def write_parquet(path: Path, labels: Sequence[Any], texts: Sequence[str] = WORDS) -> Path:
    pyarrow.parquet.write_table(pa.table({"text": texts, "label": labels}), path)
    return path


WRITERS: dict[str, Callable[..., Path]] = {".csv": write_csv, ".jsonl": write_jsonl, ".parquet": write_parquet}


def labelled(task: Task) -> dict[str, str]:
    """Class name by text, over all splits."""
    splits = task.splits(0)
    return {
        text: task.classes[label]
        for name in ("train", "calibration", "search", "confirm", "test")
        for text, label in zip(getattr(splits, name).texts, getattr(splits, name).labels, strict=True)
    }


@pytest.mark.parametrize("suffix", WRITERS)
def test_file_formats_agree(tmp_path: Path, suffix: str) -> None:
    task = FileTask(WRITERS[suffix](tmp_path / f"mails{suffix}", NAMES))
    assert (task.name, task.classes, task.metric.name) == ("mails", ("ham", "spam"), "accuracy")
    assert labelled(task) == dict(zip(WORDS, NAMES, strict=True))


@pytest.mark.parametrize("suffix", WRITERS)
def test_integer_labels_are_sorted_as_numbers(tmp_path: Path, suffix: str) -> None:
    labels = [(10, 9, -1)[i % 3] for i in range(60)]
    task = FileTask(WRITERS[suffix](tmp_path / f"x{suffix}", labels))
    assert task.classes == ("-1", "9", "10")
    assert labelled(task) == {text: str(label) for text, label in zip(WORDS, labels, strict=True)}


def test_tsv_other_columns_and_sizes(tmp_path: Path) -> None:
    path = tmp_path / "x.tsv"
    path.write_text(
        "id\tsentence\tmood\n" + "\n".join(f"{i}\t{t}\t{y}" for i, (t, y) in enumerate(zip(WORDS, NAMES, strict=True)))
    )
    reading = Reading(text="sentence", label="mood", metric="f1", sizes=SplitSizes(search=20))
    task = FileTask(path, reading)
    assert task.metric.name == "f1"
    assert len(task.splits(0).search) == 20


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.csv", "", "is empty"),
        ("x.csv", "text,label\n", "0 rows"),
        ("x.csv", "txt,label\na,b\n", "no column 'text'; it has 'txt', 'label'. Did you mean 'txt'"),
        ("x.csv", "text,label\na,b,c\n", "row 1 has more fields"),
        ("x.csv", b"text,label\n\xff,b\n", "Cannot read"),
        ("x.jsonl", '{"text": "a"}\nnonsense\n', "line 2 is not JSON"),
        ("x.jsonl", "[1]\n", "line 1 is not a JSON object"),
        ("x.parquet", "no parquet", "Cannot read"),
        ("x.xlsx", "x", "'.xlsx'; known are .csv, .tsv, .jsonl, .parquet"),
    ],
)
def test_unreadable_files_are_refused_in_one_line(
    tmp_path: Path, name: str, content: str | bytes, message: str
) -> None:
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DataError, match=message) as caught:
        FileTask(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="There is no file"):
        FileTask(tmp_path / "nowhere.csv")


@pytest.mark.parametrize(
    ("labels", "texts", "message"),
    [
        ([*NAMES[:59], ""], WORDS, "row 60 has no label"),
        ([*NAMES[:59], "NaN"], WORDS, "row 60 has no label"),
        (NAMES, [*WORDS[:9], "  ", *WORDS[10:]], "row 10 has no text"),
        (NAMES[:49], WORDS[:49], "49 rows; at least 50"),
        (["one"] * 60, WORDS, "every row has the label 'one'"),
        ([f"0.{i}" for i in range(60)], WORDS, "a class needs at least 5"),
    ],
)
def test_unusable_rows_are_refused(tmp_path: Path, labels: Sequence[Any], texts: Sequence[str], message: str) -> None:
    with pytest.raises(DataError, match=message):
        FileTask(write_csv(tmp_path / "x.csv", labels, texts))


@pytest.mark.parametrize(
    ("suffix", "bad", "message"),
    [
        (".jsonl", None, "row 60 has no label"),
        (".jsonl", [1], "names or whole numbers"),
        (".parquet", float("nan"), "row 60 has no label"),
        (".parquet", 0.5, "names or whole numbers"),
    ],
)
def test_labels_of_wrong_type_are_refused(tmp_path: Path, suffix: str, bad: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        FileTask(WRITERS[suffix](tmp_path / f"x{suffix}", [*([0.0, 1.0] * 30)[:59], bad]))


def test_hub_loader_reads_a_local_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    folder = tmp_path / "mails"
    folder.mkdir()
    write_csv(folder / "train.csv", NAMES, header="sentence,label")
    task = HubTask(str(folder), reading=Reading(text="sentence", metric="f1"))
    assert (task.classes, task.metric.name) == (("ham", "spam"), "f1")
    assert labelled(task) == dict(zip(WORDS, NAMES, strict=True))
    with pytest.raises(DataError, match="no column 'text'"):
        HubTask(str(folder))


def test_hub_classes_keep_their_order_and_withheld_labels_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["yes", "no"])})
    rows = {"text": WORDS, "label": [i % 2 for i in range(60)]}
    table = datasets.Dataset.from_dict(rows, features=features)
    monkeypatch.setattr(hub.datasets, "load_dataset", lambda *args, **options: table)
    assert HubTask("some/data").classes == ("yes", "no")
    withheld = datasets.Dataset.from_dict({**rows, "label": [-1] * 60}, features=features)
    monkeypatch.setattr(hub.datasets, "load_dataset", lambda *args, **options: withheld)
    with pytest.raises(DataError, match="row 1 has no label"):
        HubTask("some/data")


def test_unreachable_data_set_names_the_local_alternatives(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*args: Any, **options: Any) -> None:
        raise ConnectionError("Couldn't reach 'nyu-mll/glue' on the Hub")

    monkeypatch.setattr(hub.datasets, "load_dataset", unreachable)
    with pytest.raises(DataError, match=r"Couldn't reach .* movie-reviews .* CSV"):
        HubTask("nyu-mll/glue", "sst2")


def test_snippets_with_weak_ratings_are_left_out() -> None:
    content = "1\t2.3\tgood \n2\t-0.4\tso so\n3\t-0.5\tbad\twith a tab\n"
    assert read_snippets(content) == (["good", "bad\twith a tab"], [1, 0])


@pytest.mark.data
def test_movie_reviews() -> None:
    splits = MovieReviews().splits(0)
    assert [len(s) for s in (splits.calibration, splits.search, splits.confirm, splits.test)] == [
        1007,
        1500,
        1500,
        1500,
    ]
    assert len(splits.train) == 10_070 - 4 * 1500 + 1500 - 1007
    assert abs(np.mean(splits.train.labels) - 0.496) < 0.001


class WordTokenizer:
    """One token per word: its length."""

    pad_token_id = 7

    def __call__(
        self, texts: list[str], truncation: bool, max_length: int, padding: bool
    ) -> dict[str, list[list[int]]]:
        assert truncation
        assert not padding
        ids = [[len(word) for word in text.split()][:max_length] for text in texts]
        return {name: [[fill(i) for i in row] for row in ids] for name, fill in FILLS.items()}


FILLS: dict[str, Callable[[int], int]] = {
    "input_ids": int,
    "attention_mask": lambda _: 1,
    "token_type_ids": lambda _: 0,
}


def test_encoded_rows_keep_their_lengths_and_pad_with_the_models_token() -> None:
    encoded = encode(Rows(("a bb", "ccc", "a b c d"), (0, 1, 0)), WordTokenizer(), max_length=3)
    assert encoded.lengths == (2, 1, 3)
    first, second = encoded.batches(2)
    assert first["input_ids"].tolist() == [[1, 2], [3, 7]]
    assert first["attention_mask"].tolist() == [[1, 1], [1, 0]]
    assert second["input_ids"].tolist() == [[1, 1, 1]]
    assert first["input_ids"].dtype == np.int64
    assert set(first) == {"input_ids", "attention_mask"}


def test_taken_rows_keep_what_they_need() -> None:
    encoded = encode(Rows(("a bb", "ccc"), (0, 1)), WordTokenizer(), max_length=3)
    assert encoded.take([1, 0]) == Encoded(encoded.inputs[::-1], (1, 0), 7)
    assert encoded.first(1).pad_id == 7
    assert not encoded.pairs


def test_cache_folder_follows_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PARETOFORMER_CACHE", str(tmp_path / "here"))
    assert cache_folder() == tmp_path / "here"
    monkeypatch.delenv("PARETOFORMER_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "paretoformer"
    assert os.access(cache_folder(), os.W_OK)
