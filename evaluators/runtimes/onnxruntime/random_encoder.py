"""An encoder of any sizes with random weights, ready to be cut. Knows BERT's operators; knows nothing of torch.

What a machine needs to be timed by: the graph has the operators that a BERT of `transformers` has once exported, so
its members take the time that members of such a model take, and no model has to be there.
"""

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from evaluators.runtimes.onnxruntime.graph import (
    ATTENTION,
    ATTENTION_OUTPUT,
    DOMAIN,
    FFN,
    FFN_IN,
    FFN_OUT,
    HEAD,
    IDS,
    MASK,
    MATRIX,
    OPSET,
    QUERY_KEY_VALUE,
    LayerEnds,
)
from evaluators.runtimes.onnxruntime.template import OnnxTemplate
from spaces.shape import ModelShape

_POSITIONS, _CLASSES = 512, 2


def random_encoder(shape: ModelShape, seed: int) -> OnnxTemplate:
    """A template of these sizes; reads ids (B, T) and a mask (B, T), answers logits (B, 2)."""
    return _Writer(shape, np.random.default_rng(seed)).template()


class _Writer:
    """A graph under construction."""

    def __init__(self, shape: ModelShape, rng: np.random.Generator) -> None:
        self._shape = shape
        self._rng = rng
        self._nodes: list[onnx.NodeProto] = []
        self._weights: dict[str, onnx.TensorProto] = {}
        self._spreads: dict[str, NDArray[np.float32]] = {}

    def template(self) -> OnnxTemplate:
        mask, hidden = self._mask(), self._embeddings()
        layers = []
        for layer in range(self._shape.layers):
            left = self._ffn(layer, self._attention(layer, hidden, mask))
            layers.append(LayerEnds(enters=hidden, leaves=left))
            hidden = left
        self._head(hidden)
        inputs = [helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "sequence"]) for name in (IDS, MASK)]
        logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", _CLASSES])
        graph = helper.make_graph(self._nodes, "random_encoder", inputs, [logits], list(self._weights.values()))
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET), helper.make_opsetid(DOMAIN, 1)])
        return OnnxTemplate(model.SerializeToString(), tuple(layers), self._shape, spreads=self._spreads)

    def _mask(self) -> str:
        """(B, T) ones and zeros to (B, 1, 1, T) zeros and very small numbers."""
        rows = self._node("Unsqueeze", [MASK, self._integers("head_axis", 1)], "mask.rows")
        wide = self._node("Unsqueeze", [rows, self._integers("score_axis", 2)], "mask.wide")
        kept = self._node("Cast", [wide], "mask.kept", to=TensorProto.FLOAT)
        gone = self._node("Sub", [self._scalar("one", 1.0), kept], "mask.gone")
        return self._node("Mul", [gone, self._scalar("least", float(np.finfo(np.float32).min))], "mask.added")

    def _embeddings(self) -> str:
        words = self._node(
            "Table", [self._drawn("words", self._shape.vocab, self._shape.hidden), IDS], "embedded", DOMAIN
        )
        size = self._node("Shape", [IDS], "ids.shape")
        last = self._node("Gather", [size, self._tensor("last", np.array(1))], "tokens.count", axis=0)
        first, axis = self._integers("first", 0), self._integers("axis", 1)
        tokens = self._node("Unsqueeze", [last, first], "tokens")
        every = self._tensor("every_position", np.arange(_POSITIONS)[None])
        positions = self._node("Slice", [every, first, tokens, axis], "positions")
        placed = self._node(
            "Table", [self._drawn("places", _POSITIONS, self._shape.hidden), positions], "placed", DOMAIN
        )
        kinds = [self._drawn("kinds", 2, self._shape.hidden), self._tensor("kind", np.zeros((1, 1), np.int64))]
        kind = self._node("Gather", kinds, "kind.row")
        typed = self._node("Add", [words, kind], "embedded.typed")
        return self._norm(self._node("Add", [typed, placed], "embedded.sum"), "embedded.norm")

    def _attention(self, layer: int, hidden: str, mask: str) -> str:
        shape, name = self._shape, f"{layer}.attention"
        width = shape.heads * shape.head_size
        projected = [f"{name}.{part}" for part in ("query", "key", "value")]
        self._linear(hidden, 3 * width, f"{name}.qkv", layer, QUERY_KEY_VALUE, projected)
        split = self._integers("split_heads", 0, 0, -1, shape.head_size)
        query, key, value = (
            self._turned(self._node("Reshape", [each, split], f"{each}.heads"), order)
            for each, order in zip(projected, ((0, 2, 1, 3), (0, 2, 3, 1), (0, 2, 1, 3)), strict=True)
        )  # (B, H, T, S), key (B, H, S, T)
        scores = self._node("MatMul", [query, key], f"{name}.scores")  # (B, H, T, T)
        scaled = self._node("Mul", [scores, self._scalar("scale", shape.head_size**-0.5)], f"{name}.scaled")
        masked = self._node("Add", [scaled, mask], f"{name}.masked")
        shares = self._node("Softmax", [masked], f"{name}.shares", axis=-1)
        mixed = self._turned(self._node("MatMul", [shares, value], f"{name}.mixed"), (0, 2, 1, 3))
        joined = self._node("Reshape", [mixed, self._integers("join_heads", 0, 0, -1)], f"{name}.joined")
        self._linear(joined, shape.hidden, f"{name}.output", layer, ATTENTION_OUTPUT, [f"{name}.branch"])
        return self._added(f"{name}.branch", hidden, name, layer, ATTENTION)

    def _ffn(self, layer: int, hidden: str) -> str:
        shape, name = self._shape, f"{layer}.ffn"
        self._linear(hidden, shape.ffn, f"{name}.in", layer, FFN_IN, [f"{name}.wide"])
        active = self._node("Gelu", [f"{name}.wide"], f"{name}.active")
        self._linear(active, shape.hidden, f"{name}.out", layer, FFN_OUT, [f"{name}.branch"], inputs=shape.ffn)
        return self._added(f"{name}.branch", hidden, name, layer, FFN)

    def _head(self, hidden: str) -> None:
        first = self._node("Gather", [hidden, self._tensor("first_of_all", np.array(0))], "read", axis=1)
        self._linear(first, self._shape.hidden, "pooler", -1, HEAD, ["pooled"])
        self._linear(self._node("Tanh", ["pooled"], "pooled.active"), _CLASSES, "classifier", -1, HEAD, ["logits"])

    def _linear(
        self, enters: str, outputs: int, name: str, layer: int, part: str, leaves: list[str], inputs: int | None = None
    ) -> None:
        matrix = self._drawn(f"{name}{MATRIX}", count := inputs or self._inputs(part), outputs)
        self._spreads[name] = self._rng.uniform(0.1, 10.0, count).astype(np.float32)
        bias = self._drawn(f"{name}.bias", outputs)
        node = helper.make_node("Linear", [enters, matrix, bias], leaves, domain=DOMAIN, layer=layer, part=part)
        self._nodes.append(node)

    def _inputs(self, part: str) -> int:
        return self._shape.heads * self._shape.head_size if part == ATTENTION_OUTPUT else self._shape.hidden

    def _added(self, branch: str, skip: str, name: str, layer: int, part: str) -> str:
        node = helper.make_node("Residual", [branch, skip], [f"{name}.sum"], domain=DOMAIN, layer=layer, part=part)
        self._nodes.append(node)
        return self._norm(f"{name}.sum", f"{name}.norm")

    def _norm(self, enters: str, name: str) -> str:
        weights = [self._tensor(f"{name}.weight", np.ones(self._shape.hidden, np.float32))]
        weights.append(self._drawn(f"{name}.bias", self._shape.hidden))
        return self._node("LayerNormalization", [enters, *weights], name, axis=-1, epsilon=1e-12)

    def _turned(self, enters: str, order: tuple[int, ...]) -> str:
        return self._node("Transpose", [enters], f"{enters}.turned", perm=order)

    def _node(self, kind: str, inputs: list[str], leaves: str, domain: str = "", **attributes: Any) -> str:
        self._nodes.append(helper.make_node(kind, inputs, [leaves], domain=domain, **attributes))
        return leaves

    def _drawn(self, name: str, *sizes: int) -> str:
        return self._tensor(name, self._rng.normal(0, 0.02, sizes).astype(np.float32))

    def _scalar(self, name: str, value: float) -> str:
        return self._tensor(name, np.array(value, np.float32))

    def _integers(self, name: str, *values: int) -> str:
        return self._tensor(name, np.array(values, np.int64))

    def _tensor(self, name: str, values: NDArray[Any]) -> str:
        self._weights[name] = numpy_helper.from_array(np.ascontiguousarray(values).reshape(values.shape), name)
        return name
