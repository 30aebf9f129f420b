"""Which files of an exported folder count."""

from pathlib import Path

import pytest

from evaluators.metrics.size import inference_bytes, tokenizer_bytes
from spaces.errors import ModelError


def test_model_and_configuration_count_tokenizer_and_documents_stand_apart(tmp_path: Path) -> None:
    sizes = {"model.onnx": 1000, "model.onnx.data": 500, "config.json": 20, "tokenizer.json": 7, "vocab.txt": 3}
    for name, size in {**sizes, "design.json": 99, "metrics.json": 99, "README.md": 99}.items():
        (tmp_path / name).write_bytes(b"x" * size)
    assert inference_bytes(tmp_path) == 1520
    assert tokenizer_bytes(tmp_path) == 10


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("nothing here")
    with pytest.raises(ModelError, match="holds no model file"):
        inference_bytes(tmp_path)
