"""Exported folders: whole or absent, open without a network, and run without this project."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from evaluators import artifact
from evaluators.artifact import Artifact
from evaluators.runtimes.base import Runtime
from evaluators.runtimes.onnxruntime.runtime import OnnxRuntime
from evaluators.runtimes.torch import TorchRuntime
from evaluators.tasks.base import Rows
from spaces.errors import ModelError
from tests.tiny_export import CLASSES, TEXTS, design, export
from tests.tiny_models import tiny


@pytest.mark.parametrize("runtime", [OnnxRuntime(), TorchRuntime()], ids=lambda runtime: runtime.name)
def test_predictions_are_those_of_the_model(runtime: Runtime, tmp_path: Path) -> None:
    model, _ = tiny("bert")
    opened = Artifact.open(export(runtime, tmp_path / "model"))
    predictions = opened.predict(TEXTS)
    for text, prediction in zip(TEXTS, predictions, strict=True):
        inputs = opened.tokenizer(text, truncation=True, max_length=8, return_tensors="pt")
        scores = model(**inputs).logits.detach().softmax(-1)[0]
        assert prediction.index == int(scores.argmax())
        assert prediction.label == CLASSES[prediction.index]
        assert prediction.score == pytest.approx(float(scores.max()), abs=1e-5)


def test_order_and_answers_do_not_depend_on_the_batch_in_fp32(tmp_path: Path) -> None:
    opened = Artifact.open(export(OnnxRuntime(), tmp_path / "model"))
    singly, together = opened.predict(TEXTS), opened.predict(TEXTS, batch_size=3)
    assert [one.label for one in singly] == [one.label for one in together]
    np.testing.assert_allclose([one.score for one in singly], [one.score for one in together], atol=1e-5)
    assert opened.predict([]) == []
    rows = Rows(tuple(TEXTS), (0,) * len(TEXTS))
    assert opened.logits(opened.encode(rows)).shape == (len(TEXTS), len(CLASSES))


def test_batches_are_of_like_length_and_bounded() -> None:
    lengths = [7, 3, 5, 3, 1]
    assert list(artifact.batched(lengths, 1)) == [[0], [1], [2], [3], [4]]
    assert list(artifact.batched(lengths, 2)) == [[4, 1], [3, 2], [0]]
    assert list(artifact.batched([], 2)) == []
    batches = list(artifact.batched([512, 3] * 500, 400))
    assert sorted(row for batch in batches for row in batch) == list(range(1000))
    assert all(len(batch) <= 400 and len(batch) * 512 <= 2**13 for batch in batches if batch[-1] % 2 == 0)


@pytest.mark.parametrize("bits", [32, 8, 4])
def test_the_example_gives_the_same_predictions_without_this_project(bits: int, tmp_path: Path) -> None:
    folder = export(OnnxRuntime(), tmp_path / "model", bits)
    example = folder / "example.py"
    assert len(example.read_text().splitlines()) == 15
    assert not {"paretoformer", "evaluators", "spaces"} & set(example.read_text().split())
    done = subprocess.run(
        [sys.executable, str(example), *TEXTS], cwd=tmp_path, capture_output=True, text=True, check=True, timeout=120
    )
    expected = [f"{one.label} {one.score:.4f}" for one in Artifact.open(folder).predict(TEXTS)]
    assert done.stdout.splitlines() == expected


def test_sizes_are_those_of_the_files(tmp_path: Path) -> None:
    folder = export(OnnxRuntime(), tmp_path / "model", metrics={"accuracy": 0.9}, card="# A model\n")
    files = {path.name: path.stat().st_size for path in folder.iterdir()}
    assert {"model.onnx", "config.json", "design.json", "metrics.json", "README.md", "tokenizer.json"} <= files.keys()
    bytes_, tokenizer_bytes = artifact.sizes(folder)
    assert bytes_ == files["model.onnx"] + files["config.json"]
    assert tokenizer_bytes == sum(size for name, size in files.items() if name.startswith(("tokenizer", "vocab")))


def test_an_older_export_is_replaced_whole(tmp_path: Path) -> None:
    folder = export(OnnxRuntime(), tmp_path / "model", card="old")
    export(OnnxRuntime(), folder, bits=8)
    assert not (folder / "README.md").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "vocab.txt"]


def test_what_fails_leaves_the_older_export(tmp_path: Path) -> None:
    folder = export(OnnxRuntime(), tmp_path / "model", card="old")
    with pytest.raises(ValueError, match="not JSON compliant"):
        export(OnnxRuntime(), folder, metrics={"accuracy": float("nan")})
    assert (folder / "README.md").read_text() == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "vocab.txt"]


def test_other_people_s_files_are_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "thesis.tex").write_text("years of work")
    with pytest.raises(ModelError, match="not an exported model"):
        export(OnnxRuntime(), tmp_path / "model")
    assert (tmp_path / "model" / "thesis.tex").read_text() == "years of work"


def test_folders_that_are_no_exported_model_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no design\.json"):
        Artifact.open(tmp_path)
    (tmp_path / "design.json").write_text("{")
    with pytest.raises(ModelError, match="not JSON"):
        Artifact.open(tmp_path)
    (tmp_path / "design.json").write_text(json.dumps({"filename": "model.onnx"}))
    with pytest.raises(ModelError, match="classes, max_length"):
        Artifact.open(tmp_path)
    (tmp_path / "design.json").write_text(json.dumps(design(OnnxRuntime())))
    with pytest.raises(ModelError, match=r"model\.onnx is missing"):
        Artifact.open(tmp_path)
    (tmp_path / "design.json").write_text(json.dumps({**design(OnnxRuntime()), "filename": "weights.bin"}))
    (tmp_path / "weights.bin").write_bytes(b"")
    with pytest.raises(ModelError, match=r"expected model\.onnx or"):
        Artifact.open(tmp_path)
