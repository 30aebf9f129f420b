"""From the template's operators to those a runtime executes, for one member. Knows operators, widths; knows no files.

Each linear becomes one operator: MatMul and Add in fp32, DynamicQuantizeMatMul in 8 bits (what onnxruntime fuses the
graphs of `quantize_dynamic` into), MatMulNBits in 4. A residual addition becomes `Sum`: onnxruntime fuses `Add` and
the layer norm behind it into SkipLayerNormalization, whose CPU kernel was 12 % slower in int8 MiniLM-L6 (and its
MultiHeadAttention 7 %); where it is faster it is taken (graphs.py).
Where the head sees the first token only, so does everything behind the keys and values of the last attention block.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx

from evaluators.runtimes.onnxruntime.attending import Attending
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
    STATES,
    Lowered,
    Original,
    live_nodes,
    place,
)
from evaluators.runtimes.onnxruntime.selecting import Selecting
from evaluators.runtimes.onnxruntime.weights import Cut, Indices, Rare, Tensor
from spaces.axes.attention import Attention, AttentionKind
from spaces.axes.pruning import LayerUnits, Pruning
from spaces.axes.quantization import Quantization
from spaces.errors import DesignError, ModelError
from spaces.shape import ModelShape

CONTRIB = "com.microsoft"
SMALLEST_HEAD = 16  # outputs; a classifier of fewer stays in fp32: there is nothing to gain, and it decides
STATE = "state."
_INT8_COMPUTE = 4  # accuracy_level of MatMulNBits
_FIRST = np.zeros(1, np.int64)


class Lowering:
    """One pass over the original's nodes for one member.

    Args:
        original: the opened template; stays as it was.
        pruning: what stays.
        widths: bits of every part.
        tokens: rows of the word table that stay; a token's new id is its place among them.
        rare: words whose rows are put together from shared parts; None: none are.
        attention: how layers attend; None: all softly.
        selecting: which tokens of a row are read; None: all.
        shorten: whether tokens that the head does not see are left out where nothing reads them.
        fused: whether onnxruntime may fuse residual additions with the layer norms behind them.

    Raises:
        DesignError: the member was decoded for another model, or leaves a width open.
        ModelError: the graph does not show how its layers attend, and they shall do so in another way.
    """

    def __init__(
        self,
        original: Original,
        pruning: Pruning,
        widths: Quantization,
        tokens: Indices = None,
        rare: Rare | None = None,
        attention: Attention | None = None,
        selecting: Selecting | None = None,
        *,
        shorten: bool = True,
        fused: bool = False,
    ) -> None:
        _check(original.shape, pruning, widths)
        self._original = original
        self._units = pruning.layers
        self._widths = widths
        self._tokens = tokens
        self._rare = rare
        self._addition = "Add" if fused else "Sum"
        self._lowered = Lowered()
        attending = [index for index, units in enumerate(self._units) if units is not None and units.heads]
        self._short = attending[-1] if shorten and original.reads_first_token and attending else None
        self._first: dict[str, str] = {}
        self._stored: dict[tuple[Any, ...], str] = {}
        self._named: set[str] = set()
        self._kinds = _kinds(original, attention)
        self._attending = Attending(original.nodes, self._lowered)
        self._inputs = {} if selecting is None else selecting.write(self._lowered)
        self._ids = self._inputs.get(IDS, IDS)

    def run(self) -> Lowered:
        """The member's nodes and tensors."""
        return self._run(None, ["logits"])

    def run_from(self, start: int) -> Lowered:
        """The same from layer `start` on (0: the embeddings too).

        The states that enter it are read as `state_name(start)`, and those that enter the layers behind it come out
        beside the logits; they are those of the first token alone where no layer from there on attends.
        """
        enters = [_resolved(ends.enters, self._bypasses()) for ends in self._original.layers]
        if start:
            self._lowered.node("Identity", [state_name(start)], [enters[start]])
        behind = range(start + 1, len(enters))
        self._run(enters[start] if start else None, ["logits", *(enters[layer] for layer in behind)])
        for layer in behind:
            self._lowered.node("Identity", [enters[layer]], [state_name(layer)])
        return self._lowered

    def _run(self, given: str | None, wanted: Sequence[str]) -> Lowered:
        kinds = {"Linear": self._linear, "Residual": self._residual, "Table": self._table}
        for node in self._live(given, wanted):
            if node.domain == DOMAIN:
                kinds[node.op_type](node)
            elif node.output[0] in self._kinds:
                self._attending.write(node, self._kinds[node.output[0]])
            else:
                self._lowered.nodes.append(node)
                self._lowered.tensors |= self._constants(node.input)
        states = _resolved(STATES, self._bypasses())
        if states != STATES:  # the last layer is gone, and they come from an earlier one
            self._lowered.node("Identity", [states], [STATES])
        return self._lowered

    def _constants(self, names: Iterable[str]) -> dict[str, Tensor]:
        return {name: self._original.others[name] for name in names if name in self._original.others}

    def _live(self, given: str | None, wanted: Sequence[str]) -> list[onnx.NodeProto]:
        """Nodes that `wanted` needs once blocks and layers are gone, reading what stands for those; not what makes the
        tensor that is `given`."""
        stands_for = {**self._bypasses(), **self._inputs}
        nodes = []
        for node in self._original.nodes:
            if given in node.output:
                continue
            if any(name in stands_for for name in node.input):
                changed = onnx.NodeProto()
                changed.CopyFrom(node)
                del changed.input[:]
                changed.input.extend(_resolved(name, stands_for) for name in node.input)
                nodes.append(changed)
            else:
                nodes.append(node)
        return live_nodes(nodes, wanted)

    def _bypasses(self) -> dict[str, str]:
        """By tensor that is gone, the one that stands for it."""
        ends = zip(self._original.layers, self._units, strict=True)
        bypasses = {layer.leaves: layer.enters for layer, units in ends if units is None}
        for node in self._original.nodes:
            if node.op_type == "Residual" and node.domain == DOMAIN:
                layer, part = place(node)
                units = self._units[layer]
                if units is not None and not (units.heads if part == ATTENTION else units.neurons):
                    bypasses[node.output[0]] = node.input[1]
        return bypasses

    def _linear(self, node: onnx.NodeProto) -> None:
        layer, part = place(node)
        matrix, name = self._original.matrices[node.input[1]], self._name(node.input[1].removesuffix(MATRIX), layer)
        self._lowered.tensors |= self._constants(node.input[:1])
        narrow = part == HEAD and matrix.shape[1] < SMALLEST_HEAD
        bits = 32 if narrow else self._bits(layer, part)
        cut = matrix.cut(*self._kept(layer, part, len(node.output)))
        if layer == self._short and part == QUERY_KEY_VALUE:
            query, *others = node.output
            first, rest = cut.split(cut.outputs // 3)
            self._product(self._first_token(node.input[0]), first, bits, f"{name}.query", [query])
            self._product(node.input[0], rest, bits, f"{name}.key_value", others)
        else:
            self._product(node.input[0], cut, bits, name, node.output)

    def _name(self, module: str, layer: int) -> str:
        """The module's name for the first linear with its weights; the others have their layer in theirs."""
        name = f"{module}.{layer}" if module in self._named else module
        self._named.add(name)
        return name

    def _product(self, enters: str, cut: Cut, bits: int, name: str, leaves: Sequence[str]) -> None:
        whole = leaves[0] if len(leaves) == 1 else f"{name}.joined"
        products = {32: self._fp32, 8: self._int8, 4: self._int4}
        products[bits](enters, cut, self._stored.setdefault((cut.key, bits), name), name, whole)
        if len(leaves) > 1:
            self._lowered.node("Split", [whole], leaves, axis=-1, num_outputs=len(leaves))

    def _fp32(self, enters: str, cut: Cut, stored: str, name: str, leaves: str) -> None:
        add = self._lowered.tensor
        self._lowered.node("MatMul", [enters, add(f"{stored}{MATRIX}", cut.full())], [f"{name}.product"])
        self._lowered.node("Add", [f"{name}.product", add(f"{stored}.bias", cut.bias())], [leaves])

    def _int8(self, enters: str, cut: Cut, stored: str, name: str, leaves: str) -> None:
        add, (values, scales), smoothing = self._lowered.tensor, cut.eight(), cut.smoothing()
        if smoothing is not None:
            smooth = f"{name}.smooth"
            self._lowered.node("Mul", [enters, add(f"{stored}.smoothing", smoothing)], [smooth])
            enters = smooth
        inputs = [add(f"{stored}.int8", values), add(f"{stored}.scales", scales), "", add(f"{stored}.bias", cut.bias())]
        self._lowered.node("DynamicQuantizeMatMul", [enters, *inputs], [leaves], CONTRIB)

    def _int4(self, enters: str, cut: Cut, stored: str, _: str, leaves: str) -> None:
        add, (codes, scales, block) = self._lowered.tensor, cut.four()
        weights = [add(f"{stored}.int4", codes), add(f"{stored}.scales", scales)]
        inputs = [*weights, "", "", add(f"{stored}.bias", cut.bias())]
        sizes = {"K": cut.inputs, "N": cut.outputs, "bits": 4, "block_size": block, "accuracy_level": _INT8_COMPUTE}
        self._lowered.node("MatMulNBits", [enters, *inputs], [leaves], CONTRIB, **sizes)

    def _residual(self, node: onnx.NodeProto) -> None:
        branch, skip = node.input
        if place(node) == (self._short, ATTENTION):
            skip = self._first_token(skip)
        self._lowered.node(self._addition, [branch, skip], node.output)

    def _table(self, node: onnx.NodeProto) -> None:
        name, ids = node.input
        if ids == self._ids and self._rare is not None:
            self._rare_words(name, ids, self._rare, node.output[0])
        else:
            self._looked_up(name, ids, self._tokens if ids == self._ids else None, node.output[0])

    def _looked_up(self, name: str, ids: str, rows: Indices, leaves: str) -> None:
        table, bits, add = self._original.tables[name], self._widths.embeddings, self._lowered.tensor
        if bits == 32:
            self._lowered.node("Gather", [add(name, table.full(rows)), ids], [leaves])
            return
        codes, scales, block = table.rounded(bits, rows)
        inputs = [add(f"{name}.int{bits}", codes), ids, add(f"{name}.scales", scales)]
        attributes = {"bits": bits, "block_size": block, "gather_axis": 0, "quantize_axis": 1}
        self._lowered.node("GatherBlockQuantized", inputs, [leaves], CONTRIB, **attributes)

    def _rare_words(self, name: str, ids: str, rare: Rare, leaves: str) -> None:
        """Every token in both ways; a token of the other kind reads any row, which is thrown away."""
        width = rare.book.parts.shape[0] * rare.book.parts.shape[2]

        def node(kind: str, inputs: Sequence[str], result: str, **attributes: int) -> str:
            self._lowered.node(kind, inputs, [f"{name}.{result}"], "", **attributes)
            return f"{name}.{result}"

        def tensor(what: str, values: Tensor) -> str:
            return self._lowered.tensor(f"{name}.{what}", values)

        count = tensor("exact", _integers(np.int32, len(rare.exact)))
        place = node("Gather", [tensor("places", rare.places()), ids], "place")  # (B, T)
        last = tensor("last_exact", _integers(np.int32, len(rare.exact) - 1))
        self._looked_up(name, node("Min", [place, last], "exact_place"), rare.exact, f"{name}.exact_rows")
        behind = node("Sub", [place, count], "behind")
        other = node("Max", [behind, tensor("first_other", _integers(np.int32, 0))], "other_place")
        codes = node("Gather", [tensor("codes", rare.codes()), other], "byte_codes")  # (B, T, M)
        codes = node("Cast", [codes], "integer_codes", to=onnx.TensorProto.INT32)
        part = node("Add", [codes, tensor("offsets", rare.offsets())], "part")
        parts = node("Cast", [tensor("half_parts", rare.parts())], "parts", to=onnx.TensorProto.FLOAT)
        found = node("Gather", [parts, part], "found")  # (B, T, M, D / M)
        joined = node("Reshape", [found, tensor("joined_shape", _integers(np.int64, 0, 0, width))], "joined")
        exact = node("Less", [place, count], "is_exact")
        exact = node("Unsqueeze", [exact, tensor("last_axis", _integers(np.int64, -1))], "takes_exact")
        self._lowered.node("Where", [exact, f"{name}.exact_rows", joined], [leaves])

    def _first_token(self, tensor: str) -> str:
        """(B, T, D) -> (B, 1, D)"""
        if tensor not in self._first:
            index = self._lowered.tensor("first_token", Tensor(np.int64, (1,), lambda: _FIRST))
            self._first[tensor] = f"{tensor}.first"
            self._lowered.node("Gather", [tensor, index], [self._first[tensor]], axis=1)
        return self._first[tensor]

    def _kept(self, layer: int, part: str, outputs: int) -> tuple[Indices, Indices]:
        """Rows and columns that stay of a matrix of so many linears side by side."""
        units, shape = (self._units[layer] if layer >= 0 else None), self._original.shape
        if units is None:
            return None, None
        if part == QUERY_KEY_VALUE:
            return None, _of_heads(units, shape, copies=outputs)
        if part == ATTENTION_OUTPUT:
            return _of_heads(units, shape, copies=1), None
        if part == FFN_OUT:
            return _of_neurons(units, shape, copies=1), None
        return None, _of_neurons(units, shape, copies=outputs)

    def _bits(self, layer: int, part: str) -> int:
        widths = self._widths.layers[layer] if layer >= 0 else None
        if widths is None:
            return self._widths.head
        bits = widths.ffn if part in (FFN_IN, FFN_OUT) else widths.attention
        assert bits is not None, f"layer {layer} has no width for {part}"
        return bits


def state_name(layer: int) -> str:
    """Of the hidden states that enter a layer, where they come from outside or go there."""
    return f"{STATE}{layer}"


def _kinds(original: Original, attention: Attention | None) -> dict[str, AttentionKind]:
    """By name of a softmax's result, the kind of its layer, where that keeps a number of keys."""
    layers = () if attention is None else attention.layers
    if not any(kind is not None and kind.k is not None for kind in layers):
        return {}
    made = [node.output[0] for node in original.nodes if node.op_type == "Softmax"]
    if not len(made) == len(layers) == original.shape.layers:
        raise ModelError(
            f"The design says how {len(layers)} layers attend, the graph has {original.shape.layers} layers and "
            f"{len(made)} softmax operators. Leave attention out of the space, or use an encoder such as BERT."
        )
    return {name: kind for name, kind in zip(made, layers, strict=True) if kind is not None and kind.k is not None}


def _of_heads(units: LayerUnits, shape: ModelShape, copies: int) -> Indices:
    """Indices of the heads that stay, in each of `copies` projections side by side; None if all stay."""
    if len(units.heads) == shape.heads:
        return None
    starts = [(copy * shape.heads + head) * shape.head_size for copy in range(copies) for head in units.heads]
    return [start + offset for start in starts for offset in range(shape.head_size)]


def _of_neurons(units: LayerUnits, shape: ModelShape, copies: int) -> Indices:
    """Indices of the neurons that stay, in each of `copies` linears side by side; None if all stay."""
    if len(units.neurons) == shape.ffn:
        return None
    return [copy * shape.ffn + neuron for copy in range(copies) for neuron in units.neurons]


def _integers(dtype: type[np.signedinteger[Any]], *values: int) -> Tensor:
    return Tensor(dtype, (len(values),), lambda: np.array(values, dtype))


def _resolved(name: str, stands_for: Mapping[str, str]) -> str:
    while name in stands_for:
        name = stands_for[name]
    return name


def _check(shape: ModelShape, pruning: Pruning, widths: Quantization) -> None:
    if not len(pruning.layers) == len(widths.layers) == shape.layers:
        raise DesignError(
            f"The design prunes {len(pruning.layers)} layers and quantizes {len(widths.layers)}, "
            f"the model has {shape.layers}. Decode it for this model."
        )
    _check_width("the embeddings", widths.embeddings)
    _check_width("the head", widths.head)
    for index, (units, bits) in enumerate(zip(pruning.layers, widths.layers, strict=True)):
        if units is not None and units.heads:
            _check_width(f"the {ATTENTION} block of layer {index}", None if bits is None else bits.attention)
        if units is not None and units.neurons:
            _check_width(f"the {FFN} block of layer {index}", None if bits is None else bits.ffn)


def _check_width(what: str, bits: int | None) -> None:
    if bits not in (32, 8, 4):
        raise DesignError(f"The design gives {what} {bits} bits, expected 32, 8 or 4. Give it one of these.")
