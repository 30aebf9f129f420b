"""From an exported graph to the template's own operators. Knows the exporter's patterns; knows no designs or bits."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from evaluators.anatomy import Anatomy, LayerParts
from evaluators.runtimes.onnxruntime.export import ROOT
from evaluators.runtimes.onnxruntime.graph import (
    ATTENTION,
    ATTENTION_OUTPUT,
    DOMAIN,
    FFN,
    FFN_IN,
    FFN_OUT,
    HEAD,
    IDS,
    MATRIX,
    QUERY_KEY_VALUE,
    LayerEnds,
    live_nodes,
)
from evaluators.runtimes.onnxruntime.quantize import Floats
from spaces.errors import ModelError


@dataclass(frozen=True)
class _Found:
    """An exported linear: the tensor that enters, matrix, bias, the tensor that leaves, and its nodes."""

    enters: str
    matrix: Floats
    bias: Floats
    leaves: str
    nodes: tuple[onnx.NodeProto, ...]


class _Editor:
    """A graph under construction: nodes by module name, by output and by consumer."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.weights = {tensor.name: tensor for tensor in model.graph.initializer}
        self.same: dict[str, str] = {}  # by weight the first that is equal, where the exporter says so
        self._once: dict[tuple[str, tuple[int, ...]], tuple[str, str]] = {}
        self.nodes = []
        for node in model.graph.node:
            if node.op_type == "Constant":
                self.weights[node.output[0]] = _named(node.attribute[0].t, node.output[0])
            elif node.op_type == "Identity" and node.input[0] in self.weights:  # how equal weights are written
                self.weights[node.output[0]] = _named(self.weights[node.input[0]], node.output[0])
                self.same[node.output[0]] = self.same.get(node.input[0], node.input[0])
            else:
                self.nodes.append(node)
        self.by_name = {node.name.strip("/").replace("/", "."): node for node in self.nodes}
        self.producer = {output: node for node in self.nodes for output in node.output}

    def consumers(self, tensor: str) -> list[onnx.NodeProto]:
        return [node for node in self.nodes if tensor in node.input]

    def replace(self, old: Sequence[onnx.NodeProto], new: onnx.NodeProto) -> None:
        """`new` at the place of the first of `old`."""
        names = {node.output[0] for node in old}
        place = next(i for i, node in enumerate(self.nodes) if node.output[0] in names)
        self.nodes = [node for node in self.nodes if node.output[0] not in names]
        self.nodes.insert(place, new)

    def read_instead(self, old: str, new: str) -> None:
        """Whatever reads the tensor `old` reads `new`."""
        for node in self.consumers(old):
            inputs = [new if name == old else name for name in node.input]
            del node.input[:]
            node.input.extend(inputs)

    def add(self, name: str, values: NDArray[Any]) -> str:
        self.weights[name] = numpy_helper.from_array(np.ascontiguousarray(values), name)
        return name

    def linear(self, module: str, call: str = "") -> _Found:
        """The nodes of an `nn.Linear`; `call` stands behind its name where it is called again.

        Raises:
            ModelError: the exporter wrote something else for it.
        """
        gemm, product = (self.by_name.get(f"{ROOT}.{module}{call}.{kind}") for kind in ("Gemm", "MatMul"))
        if gemm is not None:
            matrix, bias = self._values(gemm.input[1]).T, self._values(gemm.input[2])
            return _Found(gemm.input[0], matrix, bias, gemm.output[0], (gemm,))
        if product is None:
            raise ModelError(
                f"{module} is no MatMul or Gemm in the exported graph. Use an encoder of nn.Linear, such as BERT."
            )
        matrix, plus = self._values(product.input[1]), self.by_name.get(f"{ROOT}.{module}{call}.Add")
        if plus is None:
            zeros = np.zeros(matrix.shape[1], np.float32)
            return _Found(product.input[0], matrix, zeros, product.output[0], (product,))
        bias = self._values(next(name for name in plus.input if name != product.output[0]))
        return _Found(product.input[0], matrix, bias, plus.output[0], (product, plus))

    def once(self, module: str, matrix: Floats, bias: Floats) -> tuple[str, str]:
        """Names of a linear's weights; layers that share theirs (ALBERT) have those of the first."""
        content = hashlib.blake2b(np.ascontiguousarray(matrix).data)
        content.update(np.ascontiguousarray(bias).data)
        key = content.hexdigest(), matrix.shape
        if key not in self._once:
            self._once[key] = self.add(f"{module}{MATRIX}", matrix), self.add(f"{module}.bias", bias)
        return self._once[key]

    def _values(self, name: str) -> Floats:
        return numpy_helper.to_array(self.weights[name]).astype(np.float32, copy=False)


def _named(tensor: onnx.TensorProto, name: str) -> onnx.TensorProto:
    copy = onnx.TensorProto()
    copy.CopyFrom(tensor)
    copy.name = name
    return copy


def canonical(model: onnx.ModelProto, anatomy: Anatomy) -> tuple[onnx.ModelProto, tuple[LayerEnds, ...]]:
    """The exported `model` in named operators, and where its layers begin and end; `model` is used up."""
    editor = _Editor(model)
    ends = tuple(_layer(editor, index, parts, anatomy.shape.head_size) for index, parts in enumerate(anatomy.layers))
    for module in anatomy.head:
        _linear(editor, [editor.linear(module)], module, -1, HEAD)
    for module in anatomy.embeddings:
        gather = editor.by_name.get(f"{ROOT}.{module}.Gather")
        if gather is not None:
            rows, ids = gather.input
            reshaped = editor.producer.get(ids)
            if reshaped is not None and reshaped.op_type == "Reshape" and reshaped.input[0] == IDS:
                ids = IDS  # to the shape that they have (GPT-2)
            editor.replace([gather], helper.make_node("Table", [rows, ids], gather.output, domain=DOMAIN))
    return _finished(model, editor), ends


def _layer(editor: _Editor, index: int, parts: LayerParts, head_size: int) -> LayerEnds:
    projections = [editor.linear(module) for module in (parts.query, parts.key, parts.value)]
    into = [editor.linear(module) for module in parts.of_neurons]
    output, ffn_out = editor.linear(parts.attention_output), editor.linear(parts.ffn_out)
    _apart(editor, projections)
    _apart(editor, into)
    _free_head_count(editor, projections, output, head_size)
    _linear(editor, projections, f"{parts.attention}.qkv", index, QUERY_KEY_VALUE)
    if parts.positions:
        _distances(editor, parts, projections, index, head_size)
    _linear(editor, [output], parts.attention_output, index, ATTENTION_OUTPUT)
    _linear(editor, into, parts.ffn_in, index, FFN_IN)
    _linear(editor, [ffn_out], parts.ffn_out, index, FFN_OUT)
    first = _residual(editor, output.leaves, index, ATTENTION)
    _residual(editor, ffn_out.leaves, index, FFN)
    return LayerEnds(enters=first, leaves=_leaving(editor, f"{ROOT}.{parts.name}.", first))


def _linear(editor: _Editor, found: Sequence[_Found], name: str, layer: int, part: str) -> None:
    assert len({one.enters for one in found}) == 1, f"{name} has several inputs"
    matrix, bias = editor.once(
        name, np.concatenate([one.matrix for one in found], axis=1), np.concatenate([one.bias for one in found])
    )
    enters = editor.same.get(found[0].enters, found[0].enters)  # distances are embedded by weights alone (DeBERTa)
    node = helper.make_node(
        "Linear", [enters, matrix, bias], [one.leaves for one in found], domain=DOMAIN, layer=layer, part=part
    )
    editor.replace([node for one in found for node in one.nodes], node)


def _apart(editor: _Editor, found: Sequence[_Found]) -> None:
    """Linears that are joined only to be taken apart again (conforming.py) are read one by one instead."""
    joined = [node for node in editor.consumers(found[0].leaves) if node.op_type == "Concat"]
    if len(found) == 1 or not joined:
        return
    readers = [node for node in editor.consumers(joined[0].output[0]) if node.op_type != "Shape"]
    if [node.op_type for node in readers] == ["Reshape"]:  # (B, T, linears, heads, head_size)
        (split,) = editor.consumers(readers[0].output[0])
        for one, part in zip(found, split.output, strict=True):
            (squeeze,) = editor.consumers(part)
            reshape = helper.make_node("Reshape", [one.leaves, readers[0].input[1]], squeeze.output, squeeze.name)
            editor.replace([squeeze], reshape)
        return
    parts = [name for node in readers for name in node.output]  # of one Split, or of a Slice for each
    for one, part in zip(found, parts, strict=True):
        editor.read_instead(part, one.leaves)


def _distances(editor: _Editor, parts: LayerParts, projections: Sequence[_Found], layer: int, head_size: int) -> None:
    """Projections of distances: linears of their own, or those of tokens, called again and then written once."""
    own = (parts.query, parts.key, parts.value)
    again = {module: editor.linear(module, "_1") for module in parts.positions if module in own}
    found = {module: again.get(module) or editor.linear(module) for module in parts.positions}
    for one in found.values():
        _heads_apart(editor, one, head_size)
    if not again:
        _linear(editor, list(found.values()), f"{parts.attention}.distances", layer, QUERY_KEY_VALUE)
        return
    (enters,) = {one.enters for one in found.values()}
    unused = (f"{parts.attention}.distances.{module}" for module in own)
    whole = [
        replace(one, enters=enters, leaves=found[module].leaves if module in found else next(unused), nodes=())
        for module, one in zip(own, projections, strict=True)
    ]
    whole[0] = replace(whole[0], nodes=tuple(node for one in found.values() for node in one.nodes))
    _linear(editor, whole, f"{parts.attention}.qkv", layer, QUERY_KEY_VALUE)


def _heads_apart(editor: _Editor, one: _Found, head_size: int) -> None:
    """A constant shape (B, T, heads, head_size) for any number of heads."""
    split = editor.add("split_heads", np.array([0, 0, -1, head_size]))
    for node in editor.consumers(one.leaves):
        if node.op_type == "Reshape":
            node.input[1] = split


def _free_head_count(editor: _Editor, projections: Iterable[_Found], output: _Found, head_size: int) -> None:
    """Constant shapes that hold for any number of heads, in place of ones computed at every call."""
    split = editor.add("split_heads", np.array([0, 0, -1, head_size]))  # (B, T, heads, head_size)
    join = editor.add("join_heads", np.array([0, 0, -1]))  # (B, T, heads * head_size)
    reshapes = [node for one in projections for node in editor.consumers(one.leaves) if node.op_type == "Reshape"]
    joined = editor.producer[output.enters]
    if len(reshapes) != 3 or joined.op_type != "Reshape":
        raise ModelError(
            f"Attention around {output.nodes[0].name} is not reshaped into heads and back as expected "
            f"(found {len(reshapes)} reshapes in, {joined.op_type} out). Use an encoder with standard attention."
        )
    for node in reshapes:
        node.input[1] = split
    joined.input[1] = join


def _residual(editor: _Editor, branch: str, layer: int, part: str) -> str:
    """Name the addition behind a block; returns the skipping tensor."""
    consumers = editor.consumers(branch)
    if len(consumers) != 1 or consumers[0].op_type != "Add":
        found = [node.op_type for node in consumers]
        raise ModelError(
            f"The {part} block of layer {layer} is followed by {found}, expected one addition to the residual stream."
        )
    plus = consumers[0]
    skip = str(next(name for name in plus.input if name != branch))
    node = helper.make_node("Residual", [branch, skip], plus.output, domain=DOMAIN, layer=layer, part=part)
    editor.replace([plus], node)
    return skip


def _leaving(editor: _Editor, scope: str, enters: str) -> str:
    """The one tensor that modules in `scope` make of what enters and hand to others."""
    inside = {name for name, node in editor.by_name.items() if name.startswith(scope)}
    made = {str(output) for name in inside for output in editor.by_name[name].output} & _made_of(editor, enters)
    rest = [node for node in editor.nodes if not node.name.strip("/").replace("/", ".").startswith(scope)]
    leaving = sorted({tensor for node in rest if node.domain != DOMAIN for tensor in node.input} & made)
    assert len(leaving) == 1, f"{leaving} leave {scope}"
    return str(leaving[0])


def _made_of(editor: _Editor, tensor: str) -> set[str]:
    """All tensors that depend on the values of `tensor`."""
    made = {tensor}
    for node in editor.nodes:
        if node.op_type != "Shape" and made.intersection(node.input):
            made.update(node.output)
    return made


def _finished(model: onnx.ModelProto, editor: _Editor) -> onnx.ModelProto:
    graph = model.graph
    live = live_nodes(editor.nodes, [output.name for output in graph.output])
    used = {name for node in live for name in node.input}
    for node in live:
        node.ClearField("name")
        node.ClearField("doc_string")
    del graph.node[:], graph.initializer[:], graph.value_info[:]
    graph.node.extend(live)
    graph.initializer.extend(tensor for name, tensor in editor.weights.items() if name in used)
    graph.ClearField("doc_string")
    return model
