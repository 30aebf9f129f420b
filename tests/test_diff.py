"""`diff`: which rows it takes, what it prints and writes, and when it refuses a release."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from evaluators import diff as comparing
from evaluators.runtimes.onnxruntime.runtime import OnnxRuntime
from evaluators.runtimes.torch import TorchRuntime
from evaluators.tasks.files import FileTask
from evaluators.tasks.linear import LinearBaseline
from tests.test_cli import call, refused
from tests.tiny_export import CLASSES, export
from tests.tiny_task import write_rows

WORDS = ("warm", "funny", "wise", "dull", "boredom", "film", "two", "hours")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(OnnxRuntime(), tmp_path_factory.mktemp("base") / "model")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same classifier in 4 bits, so that some answers differ."""
    return export(OnnxRuntime(), tmp_path_factory.mktemp("model") / "model", bits=4)


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    """A file of 120 texts that are labelled by turns and of two sources."""
    rng = np.random.default_rng(0)
    lines = [
        (" ".join(rng.choice(WORDS, rng.integers(1, 9))) + f" {number}", CLASSES[number % 3], f"s{number % 2}")
        for number in range(120)
    ]
    with (tmp_path / "rows.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("text", "label", "source"), *lines])
    return tmp_path / "rows.csv"


def test_flips_and_figures_are_those_of_both_models_answers(
    capsys: pytest.CaptureFixture[str], base: Path, model: Path, rows: Path, tmp_path: Path
) -> None:
    out = tmp_path / "flips" / "all.csv"
    code, printed, _ = call(capsys, "diff", base, model, "--task", rows, "--format", "json", "--out", out)
    assert code == 0
    found = json.loads(printed)
    whole = found["whole"]
    assert found["rows"] == f"all 120 rows of {rows}"
    flips = found["flips"]
    assert whole["disagreement"]["rows"] == len(flips) > 0
    kinds = [flip["kind"] for flip in flips]
    judged = whole["judged"]
    assert (judged["negative"]["rows"], judged["positive"]["rows"]) == (
        kinds.count("negative"),
        kinds.count("positive"),
    )
    lost = kinds.count("negative") - kinds.count("positive")
    assert judged["drop"][0] == pytest.approx(lost / 120)
    for flip in flips:
        assert flip["base"] != flip["model"]
        assert (flip["kind"] == "negative") == (flip["label"] == flip["base"])
    with out.open() as file:
        written = list(csv.DictReader(file))
    assert [row["text"] for row in written] == [flip["text"] for flip in flips]
    known = {row["text"]: row["label"] for row in csv.DictReader(rows.read_text().splitlines())}
    assert all(known[row["text"]] == row["label"] for row in written)


def test_the_table_names_rows_slices_and_what_flipped(
    capsys: pytest.CaptureFixture[str], base: Path, model: Path, rows: Path
) -> None:
    code, printed, _ = call(capsys, "diff", base, model, "--task", rows)
    assert code == 0
    for said in ("120 rows", "negative flips", "class good", "words", "% sure", "rows flipped"):
        assert said in printed
    _, printed, _ = call(capsys, "diff", base, model, "--task", rows, "--slice", "source")
    assert "source=s0" in printed
    assert "class good" not in printed
    _, printed, _ = call(capsys, "diff", base, model, "--task", rows, "--format", "csv", "--rows", "60")
    assert printed.splitlines()[0].startswith("row,kind,label,base")
    assert all(int(line.split(",")[0]) < 60 for line in printed.splitlines()[1:])


def test_rows_without_labels_say_how_much_agrees(
    capsys: pytest.CaptureFixture[str], base: Path, model: Path, rows: Path, tmp_path: Path
) -> None:
    texts = [row["text"] for row in csv.DictReader(rows.read_text().splitlines())]
    (tmp_path / "texts.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    (tmp_path / "texts.txt").write_text("\n".join(texts))
    found = {}
    for name in ("texts.jsonl", "texts.txt"):
        code, printed, _ = call(capsys, "diff", base, model, "--data", tmp_path / name, "--format", "json")
        assert code == 0
        found[name] = json.loads(printed)
        assert found[name]["whole"]["judged"] is None
    assert found["texts.jsonl"]["flips"] == found["texts.txt"]["flips"]
    code, printed, _ = call(capsys, "diff", base, model, "--data", tmp_path / "texts.txt")
    assert "answers that differ" in printed
    assert "negative" not in printed
    assert "labels" in refused(capsys, "diff", base, model, "--data", tmp_path / "texts.txt", "--max-drop", "1pt")


@pytest.mark.parametrize("limit", ["--max-disagreement", "--max-negative-flips", "--max-drop"])
def test_a_release_is_refused_beyond_a_limit_and_passes_within(
    capsys: pytest.CaptureFixture[str], base: Path, model: Path, rows: Path, limit: str
) -> None:
    lines = rows.read_text().splitlines()
    _, printed, _ = call(capsys, "diff", base, model, "--task", rows, "--format", "json")
    flips = json.loads(printed)["flips"]
    right = {flip["text"]: flip["base"] for flip in flips}  # labels with which every flip is negative
    edited = [",".join((text, right.get(text, label), source)) for text, label, source in (x.split(",") for x in lines)]
    rows.write_text("\n".join(edited) + "\n")
    share = 100 * len(flips) / 120
    code, printed, err = call(capsys, "diff", base, model, "--task", rows, limit, f"{share - 0.1:.3f}pt")
    assert code == 3
    assert "rows flipped" in printed
    assert f"{limit} {share - 0.1:.3f}pt: {share:.2f} points, 0.10 more than asked" in err
    assert len(err.strip().splitlines()) == 3  # of progress two
    assert call(capsys, "diff", base, model, "--task", rows, limit, f"{share + 0.1:.3f}pt")[0] == 0
    assert call(capsys, "diff", base, base, "--task", rows, limit, "0%")[0] == 0


def test_models_of_any_kind_can_be_compared(
    capsys: pytest.CaptureFixture[str], base: Path, rows: Path, tmp_path: Path
) -> None:
    task = FileTask(rows)
    LinearBaseline.fit(task.splits(0).train).save(tmp_path / "linear")
    other = export(TorchRuntime(), tmp_path / "torch")
    code, printed, _ = call(capsys, "diff", base, other, "--task", rows, "--format", "json")
    assert code == 0
    assert json.loads(printed)["whole"]["disagreement"]["rows"] == 0
    assert call(capsys, "diff", tmp_path / "linear", base, "--task", rows)[0] == 0


def test_a_split_is_meant_where_one_is_asked_for_or_the_models_know_the_file(
    capsys: pytest.CaptureFixture[str], base: Path, rows: Path, tmp_path: Path
) -> None:
    def what(model: Path, *further: object) -> str:
        code, printed, _ = call(capsys, "diff", base, model, "--task", rows, "--format", "json", *further)
        assert code == 0
        return str(json.loads(printed)["rows"])

    assert what(base, "--split", "confirm") == "18 confirm rows of rows (splits of seed 0)"
    assert what(base, "--seed", "2") == "18 test rows of rows (splits of seed 2)"
    own = export(OnnxRuntime(), tmp_path / "own")
    design = json.loads((own / "design.json").read_text())
    (own / "design.json").write_text(
        json.dumps({**design, "rows": {"seed": 5, "metric": "f1", "test": FileTask(rows).splits(5).test.sha256}})
    )
    assert what(own) == "18 test rows of rows (splits of seed 5)"
    other = write_rows(tmp_path / "other.csv", rows=60)
    assert comparing._drawn(comparing.Asked(lambda: FileTask(other), other), {"seed": 5, "test": "of others"}) is False


def test_what_cannot_be_compared_is_refused(
    capsys: pytest.CaptureFixture[str], base: Path, rows: Path, tmp_path: Path
) -> None:
    def error(*arguments: object) -> str:
        return refused(capsys, "diff", base, *arguments)

    assert "holds no model" in error(tmp_path, "--task", rows)
    assert "one of --task and --data" in error(base)
    assert "one of --task and --data" in error(base, "--task", rows, "--data", rows)
    assert "--data is about all rows" in error(base, "--data", rows, "--split", "test")
    assert "has no column 'sauce'" in error(base, "--task", rows, "--slice", "sauce")
    assert "by name" in error(base, "--task", "movie-reviews", "--slice", "source")
    assert "'x' is no limit" in error(base, "--task", rows, "--max-negative-flips", "x")
    assert ".csv or .jsonl" in error(base, "--task", rows, "--out", tmp_path / "flips.xlsx")
    assert "answer bad, fair, good" in error(base, "--task", write_rows(tmp_path / "two.csv"), "--split", "test")
    labels = rows.with_name("labels.csv")
    labels.write_text(rows.read_text().replace(",good,", ",grand,"))
    assert "row 3 has the label 'grand'" in error(base, "--task", labels)
    other = export(OnnxRuntime(), tmp_path / "turned")
    design = json.loads((other / "design.json").read_text())
    (other / "design.json").write_text(json.dumps({**design, "classes": ["good", "fair", "bad"]}))
    assert "one task's classes in one order" in error(other, "--task", rows)


def test_models_that_say_something_else_than_a_class_are_refused(
    capsys: pytest.CaptureFixture[str], base: Path, rows: Path, tmp_path: Path
) -> None:
    other = export(OnnxRuntime(), tmp_path / "several")
    design = json.loads((other / "design.json").read_text())
    (other / "design.json").write_text(json.dumps({**design, "problem": "multi-label"}))
    assert "is of multi-label; diff compares models" in refused(capsys, "diff", base, other, "--task", rows)
