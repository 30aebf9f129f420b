"""Which tokens of a row stay, as operators in front of a graph. Knows grades and counts; knows nothing behind the ids.

Definition: spaces/axes/compression.py. Everything is integers, so that torch and onnxruntime choose the same tokens.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from onnx import TensorProto

from evaluators.grades import SPECIAL
from evaluators.runtimes.onnxruntime.graph import IDS, MASK, Lowered
from evaluators.runtimes.onnxruntime.weights import Tensor


@dataclass(frozen=True)
class Selecting:
    """Writes the selection.

    Args:
        percent: of the tokens that stay.
        grades: by token id, (V,).
        padding: id of places that have no token; some models count positions by it.
    """

    percent: int
    grades: Tensor
    padding: int

    def write(self, lowered: Lowered) -> Mapping[str, str]:
        """By input of the graph, (B, T), what stands for it: (B, K), K the most tokens that stay of a row."""
        write = _Writer(lowered)
        node, number = write.node, write.number
        looked_up = node("Gather", [lowered.tensor("selecting.grades", self.grades), IDS], "small")
        grade = node("Mul", [node("Cast", [looked_up], "wide", to=TensorProto.INT64), MASK], "grade")  # padding: 0
        count, most = self._counts(write, grade)
        length = node("Shape", [IDS], "length", start=1)  # (1,)
        # No two of a row are alike: the earlier of two tokens of one grade comes first.
        place = node("CumSum", [MASK, number(1, ())], "place")
        order = node("Sub", [node("Mul", [grade, length], "spread"), place], "order")
        size = node("Unsqueeze", [most, number(0)], "size")  # (1,)
        best = write.first(order, size, "best", largest=1)  # most significant first
        valid = node("Less", [node("Range", [number(0, ()), most, number(1, ())], "ranks"), count], "valid")
        last = node("Sub", [length, number(1)], "last")
        # Places that a row does not fill are sorted behind those that it does.
        kept = write.first(node("Where", [valid, best, last], "chosen"), size, "kept", largest=0)
        ids = node("GatherElements", [IDS, kept], "found", axis=1)
        return {
            IDS: node("Where", [valid, ids, number(self.padding)], "ids"),
            MASK: node("Cast", [valid], "mask", to=TensorProto.INT64),
        }

    def _counts(self, write: "_Writer", grade: str) -> tuple[str, str]:
        """How many tokens of each row stay, (B, 1), and the most of any row, ()."""
        node, number = write.node, write.number
        tokens = node("ReduceSum", [MASK, number(1)], "tokens")
        parts = node("Mul", [tokens, number(self.percent)], "parts")
        share = node("Div", [node("Add", [parts, number(99)], "rounded_up"), number(100)], "share")
        # The highest grade divided by itself is 1, every other one 0.
        special = node("ReduceSum", [node("Div", [grade, number(SPECIAL)], "always"), number(1)], "special")
        count = node("Max", [share, special], "count")
        return count, node("ReduceMax", [count], "most", keepdims=0)


class _Writer:
    """Nodes and constants under names of their own."""

    def __init__(self, lowered: Lowered) -> None:
        self._lowered = lowered

    def node(self, kind: str, inputs: Sequence[str], output: str, **attributes: int) -> str:
        self._lowered.node(kind, inputs, [f"selecting.{output}"], "", **attributes)
        return f"selecting.{output}"

    def number(self, value: int, shape: tuple[int, ...] = (1,)) -> str:
        name = f"selecting.{value}{'' if shape else '.scalar'}"
        return self._lowered.tensor(name, Tensor(np.int64, shape, lambda: np.full(shape, value)))

    def first(self, values: str, count: str, output: str, *, largest: int) -> str:
        """Of each row (B, T) the places of the largest values, or the smallest values themselves, in order, (B, K)."""
        found = [f"selecting.{output}.{part}" for part in ("values", "places")]
        self._lowered.node("TopK", [values, count], found, axis=1, largest=largest, sorted=1)
        return found[1] if largest else found[0]
