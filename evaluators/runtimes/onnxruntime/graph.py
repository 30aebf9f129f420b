"""Graphs before and after lowering. Knows nodes, tensors and the template's own operators; knows nothing of designs.

A template's graph has operators of the domain `paretoformer`, which no runtime executes:

- `Linear(x, matrix (K, N), bias (N,)) -> one output, or several side by side (query, key and value; neurons and their
  gates)`, with `layer` (-1: head) and `part`;
- `Residual(branch, skip) -> branch + skip`, with `layer` and `part` (`attention` or `ffn`);
- `Table(rows (V, D), ids) -> embeddings`.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import onnx
from onnx import helper

from evaluators.runtimes.onnxruntime.weights import Matrix, Table, Tensor
from spaces.errors import ModelError
from spaces.shape import ModelShape

OPSET = 21  # has Gelu as one operator
DOMAIN = "paretoformer"
STATES = "last_hidden_state"  # the output that loaders which pool by themselves ask for
IDS = "input_ids"  # the input by which the word table is read
MASK = "attention_mask"  # the input that is 1 at tokens and 0 at padding
MATRIX = ".matrix"  # behind a module's name: the name of its weight
QUERY_KEY_VALUE = "query_key_value"
ATTENTION_OUTPUT = "attention_output"
FFN_IN = "ffn_in"
FFN_OUT = "ffn_out"
HEAD = "head"
ATTENTION, FFN = "attention", "ffn"


@dataclass(frozen=True)
class LayerEnds:
    """Names of the tensors that enter and leave a layer; where the layer is gone, the first stands for the second."""

    enters: str
    leaves: str


@dataclass(frozen=True)
class Original:
    """A template's graph, opened.

    Args:
        nodes: in topological order, the template's own operators among them.
        matrices: by name of a Linear's matrix.
        tables: by name of a Table's rows.
        others: the remaining initializers.
        layers: where layers begin and end.
        shape: the model's sizes.
        reads_first_token: whether the head sees the first token only.
    """

    nodes: tuple[onnx.NodeProto, ...]
    matrices: Mapping[str, Matrix]
    tables: Mapping[str, Table]
    others: Mapping[str, Tensor]
    layers: tuple[LayerEnds, ...]
    shape: ModelShape
    reads_first_token: bool


@dataclass
class Lowered:
    """What a runtime executes: nodes and their initializers."""

    nodes: list[onnx.NodeProto] = field(default_factory=list)
    tensors: dict[str, Tensor] = field(default_factory=dict)

    def node(
        self, kind: str, inputs: Sequence[str], outputs: Sequence[str], domain: str = "", **attributes: int
    ) -> None:
        node = onnx.NodeProto(op_type=kind, domain=domain, input=inputs, output=outputs)
        node.attribute.extend(helper.make_attribute(name, value) for name, value in attributes.items())
        self.nodes.append(node)

    def tensor(self, name: str, tensor: Tensor) -> str:
        self.tensors[name] = tensor
        return name


def place(node: onnx.NodeProto) -> tuple[int, str]:
    """Layer and part of one of the template's own operators."""
    attributes = {attribute.name: attribute for attribute in node.attribute}
    return int(attributes["layer"].i), str(attributes["part"].s.decode())


def fixed_ids(original: Original) -> tuple[int, ...]:
    """Token ids that the graph itself knows: RoBERTa counts positions of tokens other than the padding.

    Raises:
        ModelError: tokens cannot get other ids, because they are not just looked up in one table.
    """
    readers = [node for node in original.nodes if IDS in node.input and node.op_type != "Shape"]
    tables = [node for node in readers if node.domain == DOMAIN and node.op_type == "Table"]
    constants = [name for node in readers if node.op_type == "Equal" for name in node.input if name in original.others]
    if len(tables) != 1 or len(tables) + len(constants) != len(readers):
        found = sorted(node.op_type for node in readers)
        raise ModelError(
            f"Token ids are read by {found}, expected one table of words and comparisons with constants. "
            "Keep the whole vocabulary, or use a text model such as BERT or RoBERTa."
        )
    return tuple(int(original.others[name].values().item()) for name in constants)


def live_nodes(nodes: Sequence[onnx.NodeProto], outputs: Iterable[str]) -> list[onnx.NodeProto]:
    """Those of `nodes` (in topological order) on which `outputs` depend, in the same order."""
    wanted, live = set(outputs), []
    for node in reversed(nodes):
        if wanted.intersection(node.output):
            wanted.update(node.input)
            live.append(node)
    return live[::-1]
