"""One contender in a process of its own: loads it, then times or answers inputs as told. Draws no conclusions.

    python peer_worker.py KIND PATH INPUTS

INPUTS is a JSON file of texts and the same rows tokenised. Commands come as lines of JSON on standard input, and every
one is answered by one line on standard output: `["time", START, STOP]` by the Block of those inputs (rounds.py),
`["answer"]` by the logits of all of them; the end of the input ends the process. What is timed is one input in the form
that the library takes, made beforehand, to its logits as numpy has them.

Runs in the peer's own environment, so it imports of this project only what needs the standard library.
"""

import gc
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from evaluators.metrics.rounds import Clock, Contestant, Protocol, time_block

Rows: TypeAlias = Sequence[Mapping[str, list[int]]]


def main(kind: str, path: Path, inputs_file: Path) -> None:
    """Load the contender and answer commands until there are no more."""
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # libraries print; what they print must not look like a reply
    given = json.loads(inputs_file.read_text())
    contestant = LOADERS[kind](path, given["inputs"], given["texts"])
    for argument in contestant.arguments:  # some libraries compile for every length that they meet
        contestant.call(argument)
    gc.collect()
    gc.disable()
    print(json.dumps("ready"), file=replies, flush=True)
    for line in sys.stdin:
        print(json.dumps(_reply(contestant, *json.loads(line))), file=replies, flush=True)


def _reply(contestant: Contestant, command: str, start: int = 0, stop: int = 0) -> Any:
    if command == "time":
        return asdict(time_block(contestant, slice(start, stop), Protocol(), Clock()))
    # A library may hand out its own memory, which the next call writes over: each answer is copied at once.
    return [np.array(contestant.call(argument))[0].tolist() for argument in contestant.arguments]


def _onnxruntime(path: Path, rows: Rows, texts: Sequence[str]) -> Contestant:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path / "model.onnx"), options, providers=["CPUExecutionProvider"])
    feeds = _feeds(rows, [entry.name for entry in session.get_inputs()])
    return Contestant(lambda feed: session.run(None, feed)[0], feeds)


def _openvino(path: Path, rows: Rows, texts: Sequence[str]) -> Contestant:
    import openvino  # type: ignore[import-not-found]

    one_thread = {"PERFORMANCE_HINT": "LATENCY", "NUM_STREAMS": 1, "INFERENCE_NUM_THREADS": 1}
    compiled = openvino.Core().compile_model(path / "model.xml", "CPU", one_thread)
    request = compiled.create_infer_request()

    def call(feed: Mapping[str, Any]) -> Any:
        request.infer(feed, share_inputs=True, share_outputs=True)
        return request.get_output_tensor(0).data

    return Contestant(call, _feeds(rows, [entry.any_name for entry in compiled.inputs]))


def _ctranslate2(path: Path, rows: Rows, texts: Sequence[str]) -> Contestant:
    import ctranslate2  # type: ignore[import-not-found]

    encoder = ctranslate2.Encoder(str(path), device="cpu", compute_type="int8", inter_threads=1, intra_threads=1)
    head = np.load(path / "classifier.npz", allow_pickle=False)
    weight, bias = head["weight"].T.copy(), head["bias"]  # (H, C), (C,)

    def call(arrays: tuple[Any, Any]) -> Any:
        tokens, lengths = map(ctranslate2.StorageView.from_array, arrays)
        pooled = np.asarray(encoder.forward_batch(tokens, lengths).pooler_output)  # (1, H)
        return pooled @ weight + bias

    ids = [np.asarray([row["input_ids"]], dtype=np.int32) for row in rows]
    return Contestant(call, [(tokens, np.asarray(tokens.shape[1:], dtype=np.int32)) for tokens in ids])


def _cascade(path: Path, rows: Rows, texts: Sequence[str]) -> Contestant:
    from evaluators.cascade import Cascade

    cascade = Cascade.open(path, threads=1)
    return Contestant(lambda row: cascade.logits(*row)[0], [([text], cascade.encode([text])) for text in texts])


def _feeds(rows: Rows, names: Sequence[str]) -> list[dict[str, Any]]:
    """Per row its arrays (1, T) under the names that a model asks for; segment ids, where asked for, are zeros."""
    known = [{"token_type_ids": [0] * len(row["input_ids"]), **row} for row in rows]
    return [{name: np.asarray([row[name]], dtype=np.int64) for name in names} for row in known]


LOADERS: Mapping[str, Callable[[Path, Rows, Sequence[str]], Contestant]] = {
    "onnxruntime": _onnxruntime,
    "openvino": _openvino,
    "ctranslate2": _ctranslate2,
    "cascade": _cascade,
}

if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
