"""How wide the inputs of linears are on real rows. Knows a graph and onnxruntime; knows no members."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import onnxruntime

from evaluators.metrics.host import usable_cores
from evaluators.runtimes.base import Spreads
from evaluators.tasks.base import Encoded


def spreads(
    graph: bytes, entering: Mapping[str, Sequence[str]], rows: Encoded, progress: Callable[[int, int], None]
) -> Spreads:
    """Root mean squares over all tokens, row by row, so that nothing is padded.

    Args:
        graph: an ONNX file.
        entering: by a linear's name, which outputs of it enter the linear: several where layers share weights.
        rows: from calibration; no labels are needed.
        progress: called with (rows done, rows in all) after each row.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = usable_cores()
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    inputs = [entry.name for entry in session.get_inputs()]
    outputs = sorted({name for names in entering.values() for name in names})
    squares, tokens = dict.fromkeys(outputs, np.zeros(())), dict.fromkeys(outputs, 0)
    for done, batch in enumerate(rows.batches(1), 1):
        found = session.run(outputs, {name: batch[name] for name in inputs})
        for name, values in zip(outputs, found, strict=True):
            each = values.reshape(-1, values.shape[-1]).astype(np.float64)  # (T, K)
            squares[name] = squares[name] + np.square(each).sum(0)
            tokens[name] += len(each)
        progress(done, len(rows))
    return {
        linear: np.sqrt(sum(squares[name] for name in names) / sum(tokens[name] for name in names)).astype(np.float32)
        for linear, names in entering.items()
    }
