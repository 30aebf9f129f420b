"""A fine-tuned checkpoint through each peer's own documented route to int8. Knows peers; knows nothing of this project.

    python peer_conversions.py ROUTE CHECKPOINT ROWS OUT

Runs in the peer's environment (peer_environments.py): CHECKPOINT is a `save_pretrained` folder, ROWS a JSON list of
tokenised calibration rows, OUT the empty folder that then holds what inference needs.
"""

import json
import shutil
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

Route: TypeAlias = Callable[[Path, Path, Path], None]


def _olive(checkpoint: Path, rows: Path, out: Path) -> None:
    """Microsoft Olive's workflow of three passes: conversion, transformer optimisation, dynamic int8 quantization."""
    from olive.workflows import run  # type: ignore[import-not-found]

    with tempfile.TemporaryDirectory() as scratch:
        workflow = {
            "input_model": {"type": "HfModel", "model_path": str(checkpoint), "task": "text-classification"},
            "passes": {
                "conversion": {"type": "OnnxConversion"},
                "optimization": {"type": "OrtTransformersOptimization"},
                "quantization": {"type": "OnnxDynamicQuantization"},
            },
            "cache_dir": f"{scratch}/cache",
            "output_dir": f"{scratch}/output",
        }
        run(workflow)
        (found,) = Path(scratch, "output").rglob("*.onnx")
        shutil.move(found, out / "model.onnx")


def _ctranslate2(checkpoint: Path, rows: Path, out: Path) -> None:
    """CTranslate2's converter, which takes encoder and pooler; the classifier stays beside them as it is."""
    import torch
    from ctranslate2.converters import TransformersConverter  # type: ignore[import-not-found]
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    model = AutoModelForSequenceClassification.from_pretrained(checkpoint, dtype=torch.float32)
    with tempfile.TemporaryDirectory() as encoder:
        model.base_model.save_pretrained(encoder)
        AutoTokenizer.from_pretrained(checkpoint).save_pretrained(encoder)
        TransformersConverter(encoder).convert(str(out), quantization="int8", force=True)
    head = {name: tensor.numpy() for name, tensor in model.classifier.state_dict().items()}
    np.savez(out / "classifier.npz", allow_pickle=False, **head)


def _openvino_nncf(checkpoint: Path, rows: Path, out: Path) -> None:
    """OpenVINO with NNCF's post-training quantization of weights and activations, calibrated on real rows."""
    import nncf  # type: ignore[import-not-found]
    import openvino  # type: ignore[import-not-found]

    dataset = nncf.Dataset([_batch_of_one(row) for row in json.loads(rows.read_text())])
    quantized = nncf.quantize(_openvino_model(checkpoint), dataset, model_type=nncf.ModelType.TRANSFORMER)
    openvino.save_model(quantized, out / "model.xml")


def _openvino_weights(checkpoint: Path, rows: Path, out: Path) -> None:
    """OpenVINO with int8 weights; its CPU plug-in decides how it calculates with them."""
    import nncf
    import openvino

    compressed = nncf.compress_weights(_openvino_model(checkpoint))
    openvino.save_model(compressed, out / "model.xml")


def _openvino_model(checkpoint: Path) -> Any:
    import openvino
    import torch
    from transformers import AutoModelForSequenceClassification

    model = AutoModelForSequenceClassification.from_pretrained(checkpoint, dtype=torch.float32).eval()
    example = {name: torch.ones((1, 16), dtype=torch.int64) for name in ("input_ids", "attention_mask")}
    return openvino.convert_model(model, example_input=example)


def _batch_of_one(row: Mapping[str, list[int]]) -> dict[str, Any]:
    return {name: np.asarray([values], dtype=np.int64) for name, values in row.items()}  # (1, T)


ROUTES: Mapping[str, Route] = {
    "olive": _olive,
    "ctranslate2": _ctranslate2,
    "openvino_nncf": _openvino_nncf,
    "openvino_weights": _openvino_weights,
}

if __name__ == "__main__":
    ROUTES[sys.argv[1]](*map(Path, sys.argv[2:]))
