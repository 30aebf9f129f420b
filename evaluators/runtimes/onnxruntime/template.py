"""The original as a graph ready to be cut. Knows how to open, lower and write it; knows nothing of torch."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from evaluators.codebook import Codebook
from evaluators.compensation import InverseMoments
from evaluators.grades import UNGRADED, Grades
from evaluators.runtimes.base import PLAIN, Spreads
from evaluators.runtimes.onnxruntime.graph import (
    DOMAIN,
    MATRIX,
    OPSET,
    QUERY_KEY_VALUE,
    LayerEnds,
    Lowered,
    Original,
    fixed_ids,
    place,
)
from evaluators.runtimes.onnxruntime.lowering import CONTRIB, Lowering, state_name
from evaluators.runtimes.onnxruntime.selecting import Selecting
from evaluators.runtimes.onnxruntime.smoothing import spreads
from evaluators.runtimes.onnxruntime.weights import Indices, Matrix, Rare, Table, Tensor
from evaluators.runtimes.onnxruntime.writing import onnx_file, onnx_file_bytes
from evaluators.tasks.base import Encoded
from spaces.axes.attention import Attention
from spaces.axes.compression import WHOLE, compression
from spaces.axes.pruning import Pruning
from spaces.axes.quantization import Quantization
from spaces.axes.rare import RareTokens
from spaces.axes.vocabulary import Vocabulary
from spaces.design import Member
from spaces.errors import DesignError
from spaces.shape import ModelShape

FUSED = "fused"
FLOAT = onnx.TensorProto.FLOAT
_IR_VERSION = 10  # the first with opset 21; older runtimes refuse newer files


@dataclass(frozen=True)
class OnnxTemplate:
    """A canonical graph with its weights. Pickles as those bytes; each process opens it once, at first use.

    Args:
        graph: a serialised ONNX model in the operators of graph.py.
        layers: where its layers begin and end.
        shape: the model's sizes.
        inverse_moments: by module name, of linears whose remaining inputs stand in for those that go; empty: none does.
        spreads: by a linear's name, the root mean square of each of its inputs, which are smoothed where 8 bits round
            them; empty: none are.
        ranking: ids of tokens, most needed first; empty: every member has the whole vocabulary.
        book: what rows of rare words are put together from; None: all rows are exact.
        grades: of tokens, by which rows are compressed; None: no member compresses.
    """

    graph: bytes
    layers: tuple[LayerEnds, ...]
    shape: ModelShape
    inverse_moments: InverseMoments = field(default_factory=dict, repr=False, compare=False)
    spreads: Spreads = field(default_factory=dict, repr=False, compare=False)
    ranking: tuple[int, ...] = field(default=(), repr=False)
    book: Codebook | None = field(default=None, repr=False, compare=False)
    grades: Grades | None = field(default=None, repr=False)

    @property
    def graphs(self) -> tuple[str, ...]:
        """As written, or with residual additions that onnxruntime fuses with the layer norms behind them."""
        return PLAIN, FUSED

    @property
    def reads_first_token(self) -> bool:
        """Whether the head sees the first token alone."""
        return self._original.reads_first_token

    def compensating(self, inverse_moments: InverseMoments) -> "OnnxTemplate":
        """The same template, in whose members what stays stands in for what goes."""
        return replace(self, inverse_moments=inverse_moments)

    def smoothing(self, spreads: Spreads) -> "OnnxTemplate":
        """The same template, in whose members wide inputs are narrowed where 8 bits round them."""
        return replace(self, spreads=spreads)

    def with_vocabulary(self, ranking: Sequence[int], book: Codebook | None = None) -> "OnnxTemplate":
        """The same template, whose members may keep, or keep exactly, only the first tokens of `ranking`."""
        return replace(self, ranking=tuple(ranking), book=book)

    def with_grades(self, grades: Grades) -> "OnnxTemplate":
        """The same template, whose members may read the most significant tokens alone."""
        return replace(self, grades=grades)

    def assemble(self, member: Member, graph: str = PLAIN) -> bytes:
        """The member's ONNX file, cut and in its widths; families that a member leaves out are the identity.

        Raises:
            DesignError: the member was decoded for another model, or keeps tokens that nobody ranked or graded.
            ModelError: the member drops tokens of a model whose words cannot be renumbered.
        """
        return self._written(self._lowering(member, fused=graph == FUSED).run())

    def assemble_from(self, member: Member, start: int) -> bytes:
        """The member's graph from layer `start` on, for whoever keeps the states that enter it (runtimes/base.py)."""
        lowered = self._lowering(member).run_from(start)
        model, behind = self._model(lowered), range(start + 1, self.shape.layers)
        states = [helper.make_tensor_value_info(state_name(layer), FLOAT, None) for layer in behind]
        model.graph.output.extend(states)
        if start:
            model.graph.input.append(helper.make_tensor_value_info(state_name(start), FLOAT, ["batch", "tokens", None]))
        return onnx_file(model, lowered.tensors)

    def size(self, member: Member) -> int:
        """Bytes of that file, exactly, from shapes alone."""
        lowered = self._lowering(member).run()
        return onnx_file_bytes(self._model(lowered), lowered.tensors)

    def untouched(self) -> bytes:
        """The original in fp32, every token in every layer; node by node the exported graph's values."""
        return self._written(self._whole())

    def spreads_on(self, rows: Encoded, progress: Callable[[int, int], None]) -> Spreads:
        """Root mean squares of what enters each linear of the untouched original."""
        lowered, entering = self._whole(), dict[str, list[str]]()
        for node in self._original.nodes:
            if node.domain == DOMAIN and node.op_type == "Linear":
                entering.setdefault(node.input[1].removesuffix(MATRIX), []).append(node.input[0])
        model = self._model(lowered)
        names = sorted({name for names in entering.values() for name in names})
        model.graph.output.extend(helper.make_tensor_value_info(name, FLOAT, None) for name in names)
        return spreads(onnx_file(model, lowered.tensors), entering, rows, progress)

    def _whole(self) -> Lowered:
        pruning, widths = Pruning.identity(self.shape), Quantization.uniform(self.shape)
        return Lowering(self._original, pruning, widths, shorten=False).run()

    def _lowering(self, member: Member, *, fused: bool = False) -> Lowering:
        configs = {type(config): config for config in member.configs}
        pruning = configs.get(Pruning, Pruning.identity(self.shape))
        widths = configs.get(Quantization, Quantization.uniform(self.shape))
        assert isinstance(pruning, Pruning)
        vocabulary, attention = configs.get(Vocabulary, Vocabulary.whole()), configs.get(Attention)
        assert isinstance(widths, Quantization)
        assert isinstance(vocabulary, Vocabulary)
        assert attention is None or isinstance(attention, Attention)
        fixed = fixed_ids(self._original) if vocabulary.size is not None else ()
        tokens, rare = vocabulary.kept(self.ranking, fixed), self._rare(member)
        if tokens is not None and rare is not None:
            raise DesignError("A design leaves words out or puts rare ones together, not both. Choose one.")
        selecting = self._selecting(member, tokens)
        return Lowering(self._original, pruning, widths, tokens, rare, attention, selecting, fused=fused)

    def _selecting(self, member: Member, tokens: Indices) -> Selecting | None:
        """Which tokens of a row are read, in the numbers of the vocabulary that is left; None: all."""
        config, known = compression(member), self.grades
        if config.level == WHOLE:
            return None
        if known is None:
            raise DesignError(f"The design reads {config.percent} % of the tokens, {UNGRADED}")
        kept = range(self.shape.vocab) if tokens is None else tokens
        grades = Tensor(np.uint8, (len(kept),), lambda: np.array(known.grades, np.uint8)[list(kept)])
        return Selecting(config.percent, grades, next(iter(fixed_ids(self._original)), 0))

    def _rare(self, member: Member) -> Rare | None:
        config = next((config for config in member.configs if isinstance(config, RareTokens)), RareTokens.none())
        split = config.split(self.ranking, self.shape.vocab)
        if split is None:
            return None
        if self.book is None:
            raise DesignError("The template has no codebook for rare words. Give it one (with_vocabulary).")
        fixed_ids(self._original)  # words are looked up in one table
        return Rare(*split, self.book)

    def _written(self, lowered: Lowered) -> bytes:
        return onnx_file(self._model(lowered), lowered.tensors)

    def _model(self, lowered: Lowered) -> onnx.ModelProto:
        """All but the initializers."""
        model = onnx.ModelProto(ir_version=_IR_VERSION)
        model.opset_import.extend([helper.make_opsetid("", OPSET), helper.make_opsetid(CONTRIB, 1)])
        model.graph.name = "paretoformer"
        model.graph.input.extend(self._opened.graph.input)
        model.graph.output.extend(self._opened.graph.output)
        model.graph.node.extend(lowered.nodes)
        return model

    @cached_property
    def _opened(self) -> onnx.ModelProto:
        return onnx.load_from_string(self.graph)

    @cached_property
    def _original(self) -> Original:
        nodes = tuple(self._opened.graph.node)
        arrays = {tensor.name: numpy_helper.to_array(tensor) for tensor in self._opened.graph.initializer}
        linears = [node for node in nodes if node.domain == DOMAIN and node.op_type == "Linear"]
        tables = [node for node in nodes if node.domain == DOMAIN and node.op_type == "Table"]
        return Original(
            nodes=nodes,
            matrices={node.input[1]: self._matrix(node, arrays) for node in linears},
            tables={node.input[0]: Table(arrays[node.input[0]]) for node in tables},
            others={name: _constant(array) for name, array in arrays.items()},
            layers=self.layers,
            shape=self.shape,
            reads_first_token=self._reads_first_token(nodes, arrays),
        )

    def _matrix(self, node: onnx.NodeProto, arrays: dict[str, NDArray[Any]]) -> Matrix:
        module = (name := node.input[1]).removesuffix(MATRIX)
        return Matrix(arrays[name], arrays[node.input[2]], self.inverse_moments.get(module), self.spreads.get(module))

    def _reads_first_token(self, nodes: tuple[onnx.NodeProto, ...], arrays: dict[str, NDArray[Any]]) -> bool:
        """Whether all that follows the last layer, but for layer norms, is one selection of token 0, and no query is
        combined with anything of its place (rotations, relative positions, windows)."""
        if not _queries_know_no_places(nodes, arrays):
            return False
        tensor = self.layers[-1].leaves
        while True:
            readers = [node for node in nodes if tensor in node.input]
            if len(readers) != 1 or readers[0].op_type != "LayerNormalization":
                return len(readers) == 1 and _selects_first(readers[0], arrays)
            tensor = readers[0].output[0]

    def __getstate__(self) -> dict[str, Any]:
        return {each.name: getattr(self, each.name) for each in fields(self)}


def _constant(array: NDArray[Any]) -> Tensor:
    return Tensor(array.dtype.type, array.shape, lambda: array)


def _queries_know_no_places(nodes: tuple[onnx.NodeProto, ...], arrays: dict[str, NDArray[Any]]) -> bool:
    """Whether queries reach their product with the keys as they are, but for their shape and a constant factor."""
    for node in nodes:
        if node.domain != DOMAIN or node.op_type != "Linear" or place(node)[1] != QUERY_KEY_VALUE:
            continue
        tensor = node.output[0]
        while True:
            readers = [reader for reader in nodes if tensor in reader.input]
            if [reader.op_type for reader in readers] == ["MatMul"]:
                break
            if len(readers) != 1 or not all(name == tensor or name in arrays for name in readers[0].input):
                return False
            tensor = readers[0].output[0]
    return True


def _selects_first(node: onnx.NodeProto, arrays: dict[str, NDArray[Any]]) -> bool:
    index = arrays.get(node.input[1]) if node.op_type == "Gather" else None
    return (
        index is not None
        and index.shape == ()
        and index == 0
        and [a.i for a in node.attribute if a.name == "axis"] == [1]
    )
