"""The baseline `one_liner`: what a user would do first. Knows onnxruntime's own quantizer; knows nothing of designs."""

import logging
import tempfile
from pathlib import Path

import onnx
from onnxruntime.quantization import QuantType, quantize_dynamic


def one_liner(model: bytes) -> bytes:
    """An fp32 ONNX file through `onnxruntime.quantization.quantize_dynamic`: int8 weights, every operator it takes.

    Args:
        model: the file's bytes. Its graph carries no shapes, so the quantizer is told that tensors are fp32.
    """
    logging.disable(logging.WARNING)  # it reports its progress, and advice on another route, to the root logger
    try:
        with tempfile.TemporaryDirectory() as folder:
            source, target = Path(folder) / "fp32.onnx", Path(folder) / "int8.onnx"
            source.write_bytes(model)
            options = {"DefaultTensorType": onnx.TensorProto.FLOAT}
            quantize_dynamic(source, target, weight_type=QuantType.QInt8, extra_options=options)
            return target.read_bytes()
    finally:
        logging.disable(logging.NOTSET)
