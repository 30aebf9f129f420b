"""An ONNX file, its large tensors copied once. Knows protobuf's wire format; knows nothing of what a graph computes.

A message in protobuf is a sequence of fields; those used here are a tag, a length and that many bytes.
"""

from collections.abc import Mapping

import numpy as np
import onnx
from onnx import helper

from evaluators.runtimes.onnxruntime.weights import Tensor

_GRAPH = onnx.ModelProto.GRAPH_FIELD_NUMBER
_INITIALIZER = onnx.GraphProto.INITIALIZER_FIELD_NUMBER
_RAW_DATA = onnx.TensorProto.RAW_DATA_FIELD_NUMBER


def onnx_file(model: onnx.ModelProto, tensors: Mapping[str, Tensor]) -> bytes:
    """`model` with `tensors` as its graph's initializers, serialised."""
    before, heads = _heads(model, tensors)
    pieces: list[bytes | memoryview] = [before]
    for (name, tensor), head in zip(tensors.items(), heads, strict=True):
        values = np.ascontiguousarray(tensor.values(), tensor.dtype).reshape(tensor.shape)
        pieces += [head, values.reshape(-1).view(np.uint8).data]
        assert values.nbytes == tensor.nbytes, f"{name} has {values.nbytes} bytes, expected {tensor.nbytes}"
    return b"".join(pieces)


def onnx_file_bytes(model: onnx.ModelProto, tensors: Mapping[str, Tensor]) -> int:
    """The length of that file; no values are computed."""
    before, heads = _heads(model, tensors)
    return len(before) + sum(map(len, heads)) + sum(tensor.nbytes for tensor in tensors.values())


def _heads(model: onnx.ModelProto, tensors: Mapping[str, Tensor]) -> tuple[bytes, list[bytes]]:
    """What precedes the tensors, and what precedes each one's values."""
    heads = [_head(name, tensor) for name, tensor in tensors.items()]
    rest = onnx.ModelProto()
    rest.CopyFrom(model)
    rest.ClearField("graph")
    graph = model.graph.SerializeToString()
    length = len(graph) + sum(map(len, heads)) + sum(tensor.nbytes for tensor in tensors.values())
    return bytes(rest.SerializeToString()) + _field(_GRAPH, length) + graph, heads


def _head(name: str, tensor: Tensor) -> bytes:
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(tensor.dtype))
    proto = onnx.TensorProto(name=name, dims=tensor.shape, data_type=kind)
    content = bytes(proto.SerializeToString()) + _field(_RAW_DATA, tensor.nbytes)
    return _field(_INITIALIZER, len(content) + tensor.nbytes) + content


def _field(number: int, length: int) -> bytes:
    """Tag and length of a field of bytes; 2 is protobuf's code for that kind."""
    return _varint(number << 3 | 2) + _varint(length)


def _varint(value: int) -> bytes:
    """Seven bits to a byte, the lowest first; a set top bit says that more follow."""
    encoded = bytearray()
    while value > 127:
        encoded.append(value & 127 | 128)
        value >>= 7
    return bytes([*encoded, value])
