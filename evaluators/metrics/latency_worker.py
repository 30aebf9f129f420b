"""The timing process: loads contenders, times rounds, writes them down. Knows every kind; draws no conclusions.

Started by launch.py as `python -m evaluators.metrics.latency_worker PLAN.json`. Libraries are imported by the loader
that needs them, so that a process holds only what its contenders use.
"""

import json
import random
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from evaluators.metrics.rounds import Clock, Contestant, Protocol, time_round
from evaluators.runtimes.base import Runtime
from evaluators.tasks.base import Encoded
from spaces.target import Target

Call: TypeAlias = Callable[[Any], object]


def main(plan_file: Path) -> None:
    """Carry out the plan in `plan_file` and write the rounds, one mapping from name to Round each, to its `out`."""
    plan = json.loads(plan_file.read_text())
    target, protocol = Target(**plan["target"]), Protocol(**plan["protocol"])
    arguments = _arguments(plan, target.batch_size)
    contestants = {}
    for contender in plan["contenders"]:
        _say("loading", contender["name"])
        call = LOADERS[contender["kind"]](Path(contender["path"]), target)
        contestants[contender["name"]] = Contestant(
            call, arguments["texts" if contender["kind"] == "linear" else "inputs"]
        )
    _warm_up(contestants)
    Path(plan["out"]).write_text(json.dumps(_rounds(contestants, protocol, f"{plan['seed']}:{plan['process']}")))


def _arguments(plan: Mapping[str, Any], batch_size: int) -> dict[str, Sequence[Any]]:
    """What contenders are called with, per call: padded inputs (B, T), or B texts."""
    rows = Encoded(tuple({name: _int64(values) for name, values in row.items()} for row in plan["inputs"]), ())
    texts = plan["texts"] or []
    return {
        "inputs": rows.batches(batch_size),
        "texts": [texts[start : start + batch_size] for start in range(0, len(texts), batch_size)],
    }


def _int64(values: Any) -> NDArray[np.int64]:
    return np.asarray(values, dtype=np.int64)


def _warm_up(contestants: Mapping[str, Contestant]) -> None:
    """One call each on the longest input: memory that a runtime keeps is then taken before anything is timed."""
    for name, contestant in contestants.items():
        _say("warming up", name)
        contestant.call(max(contestant.arguments, key=_extent))


def _extent(argument: Any) -> int:
    """Elements of padded inputs, or letters of texts."""
    return sum(part.size for part in argument.values()) if isinstance(argument, dict) else sum(map(len, argument))


def _rounds(contestants: Mapping[str, Contestant], protocol: Protocol, seed: str) -> list[dict[str, Any]]:
    """Every round as JSON, announcing each contender's block as one step."""
    rng = random.Random(seed)
    calls = len(next(iter(contestants.values())).arguments)
    total = protocol.rounds * protocol.blocks(calls) * len(contestants)
    steps = iter(range(total))

    def announce(name: str) -> None:
        _say("timing", name, next(steps), total)

    timed = [time_round(contestants, protocol, rng, Clock(), announce) for _ in range(protocol.rounds)]
    return [{name: asdict(part) for name, part in parts.items()} for parts in timed]


def _say(doing: str, contender: str, done: int = 0, total: int = 0) -> None:
    print(json.dumps({"doing": doing, "contender": contender, "done": done, "total": total}), flush=True)


def _onnxruntime(path: Path, target: Target) -> Call:
    from evaluators.runtimes.onnxruntime.runtime import OnnxRuntime

    return _in_runtime(OnnxRuntime(), path, target)


def _torch(path: Path, target: Target) -> Call:
    from evaluators.runtimes.torch import TorchRuntime

    return _in_runtime(TorchRuntime(), path, target)


def _in_runtime(runtime: Runtime, path: Path, target: Target) -> Call:
    return runtime.load(path, threads=target.threads, device=target.device)


def _pipeline(path: Path, target: Target) -> Call:
    """A checkpoint as a Hugging Face pipeline runs it: eager, fp32, no padding, inference mode."""
    import torch
    from transformers import AutoModelForSequenceClassification

    torch.set_num_threads(target.threads)
    model = AutoModelForSequenceClassification.from_pretrained(path, dtype=torch.float32, use_safetensors=True)
    model = model.to(target.device).eval()

    def call(inputs: Mapping[str, NDArray[np.int64]]) -> object:
        tensors = {name: torch.from_numpy(values).to(target.device) for name, values in inputs.items()}
        with torch.inference_mode():
            return model(**tensors).logits.cpu()  # (B, C); the copy waits for an accelerator

    return call


def _linear(path: Path, target: Target) -> Call:
    from evaluators.tasks.linear import LinearBaseline

    baseline = LinearBaseline.load(path)
    return lambda texts: [baseline.predict_one(text) for text in texts]


LOADERS: Mapping[str, Callable[[Path, Target], Call]] = {
    "onnxruntime": _onnxruntime,
    "torch": _torch,
    "pipeline": _pipeline,
    "linear": _linear,
}

if __name__ == "__main__":
    main(Path(sys.argv[1]))
