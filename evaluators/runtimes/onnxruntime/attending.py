"""Attention kinds as operators around a layer's softmax. Knows operators; knows no designs but a layer's kind.

Definitions: spaces/axes/attention.py. The k-th largest comes from TopK, whose k is the number of keys where that is
smaller; what reaches it stays. Comparing costs less than scattering what TopK found.
"""

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import onnx

from evaluators.runtimes.onnxruntime.graph import Lowered
from evaluators.runtimes.onnxruntime.weights import Tensor
from spaces.axes.attention import HARD, AttentionKind
from spaces.errors import ModelError


class Attending:
    """Writes the softmax of layers that do not attend to all keys.

    Args:
        nodes: of the template.
        lowered: where operators go; what several layers need is written once.
    """

    def __init__(self, nodes: Sequence[onnx.NodeProto], lowered: Lowered) -> None:
        self._nodes = nodes
        self._lowered = lowered
        self._shared: set[str] = set()

    @cached_property
    def _producers(self) -> dict[str, onnx.NodeProto]:
        """By tensor the node that makes it; most members never ask."""
        return {name: node for node in self._nodes for name in node.output}

    def write(self, softmax: onnx.NodeProto, kind: AttentionKind) -> None:
        """Probabilities (B, H, Q, K) from scores of that shape.

        Raises:
            ModelError: scores are made in another way than as products to which a mask may be added.
        """
        assert kind.k is not None, f"{kind} has no k"
        scores, probabilities = softmax.input[0], softmax.output[0]
        if kind.name == HARD:
            soft = self._node("Softmax", [scores], f"{probabilities}.soft", axis=-1)
            kept = self._kept(soft, soft, kind.k)
            self._node("Where", [kept, soft, self._constant("zero", 0.0)], probabilities)
        else:
            matches = self._matches(scores)
            kept = self._kept(matches, scores, kind.k)
            lowest = self._constant("lowest", float(np.finfo(np.float32).min))
            self._node(
                "Softmax", [self._node("Where", [kept, scores, lowest], f"{scores}.kept")], probabilities, axis=-1
            )

    def _kept(self, values: str, like: str, k: int) -> str:
        """Which of `values` are at least the k-th largest of their row."""
        largest, indices = f"{values}.largest", f"{values}.indices"
        self._lowered.node("TopK", [values, self._count(like, k)], [largest, indices], axis=-1, largest=1, sorted=0)
        axes = self._lowered.tensor("attending.last_axis", _integers(-1))
        least = self._node("ReduceMin", [largest, axes], f"{values}.least", keepdims=1)
        return self._node("GreaterOrEqual", [values, least], f"{values}.is_kept")

    def _matches(self, scores: str) -> str:
        """Signs in common times keys, less the key's place: no two of a row are equal but for hidden keys."""
        query, key, mask = self._made_of(scores)
        minus, plus, zero = self._constant("minus_one", -1.0), self._constant("one", 1.0), self._constant("zero", 0.0)
        signs = [
            self._node(
                "Where", [self._node("Less", [side, zero], f"{scores}.{name}_below"), minus, plus], f"{scores}.{name}"
            )
            for name, side in (("query_signs", query), ("key_signs", key))
        ]
        product = self._node("MatMul", signs, f"{scores}.signs")
        keys, places = self._keys(scores)
        spread = self._node("Mul", [product, keys], f"{scores}.spread")
        matches = self._node("Sub", [spread, places], f"{scores}.matches")
        return matches if mask is None else self._node("Add", [matches, mask], f"{scores}.seen_matches")

    def _made_of(self, scores: str) -> tuple[str, str, str | None]:
        """Queries (B, H, Q, D), keys (B, H, D, K), and the mask that is added to their scaled product."""
        mask, tensor = None, scores
        while (node := self._producers.get(tensor)) is not None and node.op_type != "MatMul":
            within = [name for name in node.input if self._leads_to_product(name)]
            others = [name for name in node.input if name not in within]
            if node.op_type not in ("Add", "Mul", "Div") or len(within) != 1 or (node.op_type == "Add" and mask):
                break
            mask = others[0] if node.op_type == "Add" else mask
            tensor = within[0]
        if node is None or node.op_type != "MatMul":
            raise ModelError(
                f"Scores {scores} are not a product with a mask added, so signs cannot be matched. "
                "Leave `sign` out of the attention kinds, or use an encoder with standard attention."
            )
        return node.input[0], node.input[1], mask

    def _leads_to_product(self, tensor: str) -> bool:
        """Whether a tensor is a product of two others, perhaps scaled or masked."""
        node = self._producers.get(tensor)
        if node is None:
            return False
        return node.op_type == "MatMul" or (
            node.op_type in ("Add", "Mul", "Div") and any(map(self._leads_to_product, node.input))
        )

    def _keys(self, scores: str) -> tuple[str, str]:
        """The number of keys, and the place of each, (K,), in float32."""
        if "keys" not in self._shared:
            self._shared.add("keys")
            axes = self._lowered.tensor("attending.only_axis", _integers(0))
            count = self._node("Squeeze", [self._length(scores), axes], "attending.count")
            limits = [
                self._lowered.tensor(f"attending.integer_{number}", _scalar(np.int64, number)) for number in (0, 1)
            ]
            places = self._node("Range", [limits[0], count, limits[1]], "attending.places")
            for name in (count, places):
                self._node("Cast", [name], f"{name}.float", to=onnx.TensorProto.FLOAT)
        return "attending.count.float", "attending.places.float"

    def _count(self, scores: str, k: int) -> str:
        """k, or the number of keys where that is smaller, (1,)."""
        name = f"attending.at_most_{k}"
        if name not in self._shared:
            self._shared.add(name)
            self._node("Min", [self._length(scores), self._lowered.tensor(f"{name}.k", _integers(k))], name)
        return name

    def _length(self, scores: str) -> str:
        """The number of keys, (1,)."""
        if "length" not in self._shared:
            self._shared.add("length")
            self._node("Shape", [scores], "attending.length", start=-1)
        return "attending.length"

    def _node(self, kind: str, inputs: Sequence[str], output: str, **attributes: int) -> str:
        self._lowered.node(kind, inputs, [output], "", **attributes)
        return output

    def _constant(self, name: str, value: float) -> str:
        return self._lowered.tensor(f"attending.{name}", _scalar(np.float32, value))


def _integers(*values: int) -> Tensor:
    return Tensor(np.int64, (len(values),), lambda: np.array(values, np.int64))


def _scalar(dtype: type[np.generic], value: Any) -> Tensor:
    return Tensor(dtype, (), lambda: np.array(value, dtype))
