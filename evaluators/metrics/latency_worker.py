"""The timing process: loads contenders, times rounds, writes them down. Knows every kind; draws no conclusions.

Started by launch.py as `python -m evaluators.metrics.latency_worker PLAN.json`. Libraries are imported by the loader
that needs them, so that a process holds only what its contenders use.
"""

import json
import math
import random
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from evaluators.metrics.latency import inputs_from_json, timed_inputs
from evaluators.metrics.rounds import Clock, Contestant, Protocol, time_round
from evaluators.runtimes.base import Runtime
from evaluators.tasks.base import Encoded, Inputs, Text, parted
from spaces.target import Target


@dataclass(frozen=True)
class Questions:
    """What a contender can be called with, per call: padded inputs, each (B, T), and the same B rows as texts."""

    inputs: Sequence[Inputs]
    texts: Sequence[Sequence[Text]]


def main(plan_file: Path) -> None:
    """Carry out the plan in `plan_file` and write the rounds, one mapping from name to Round each, to its `out`."""
    plan = json.loads(plan_file.read_text())
    target, protocol = Target(**plan["target"]), Protocol(**plan["protocol"])
    contestants = {}
    for contender in plan["contenders"]:
        _say("loading", contender["name"])
        questions = _questions(contender["inputs"] or plan["inputs"], plan["texts"] or [], target.batch_size)
        contestant = LOADERS[contender["kind"]](Path(contender["path"]), target, questions)
        if contender["after"]:
            contestant = replace(contestant, before=_stage(Path(contender["after"]), target, questions))
        contestants[contender["name"]] = contestant
    _warm_up(contestants)
    Path(plan["out"]).write_text(json.dumps(_rounds(contestants, protocol, f"{plan['seed']}:{plan['process']}")))


def _questions(inputs: Sequence[Mapping[str, Any]], texts: Sequence[Text], batch_size: int) -> Questions:
    rows = Encoded(inputs_from_json(inputs), ())
    batches = [texts[start : start + batch_size] for start in range(0, len(texts), batch_size)]
    return Questions(list(rows.batches(batch_size)), batches)


def _warm_up(contestants: Mapping[str, Contestant]) -> None:
    """One call each on the longest input: memory that a runtime keeps is then taken before anything is timed."""
    for name, contestant in contestants.items():
        _say("warming up", name)
        (contestant.warm or contestant.call)(max(contestant.arguments, key=_extent))


def _extent(argument: Any) -> int:
    """Elements of padded inputs, or letters of texts."""
    if isinstance(argument, dict):
        return sum(part.size for part in argument.values())
    texts = argument[0] if isinstance(argument, tuple) else argument
    return sum(len(part) for text in texts for part in parted(text))


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


def _onnxruntime(path: Path, target: Target, questions: Questions) -> Contestant:
    from evaluators.runtimes.onnxruntime.runtime import OnnxRuntime

    return _in_runtime(OnnxRuntime(), path, target, questions)


def _torch(path: Path, target: Target, questions: Questions) -> Contestant:
    from evaluators.runtimes.torch import TorchRuntime

    return _in_runtime(TorchRuntime(), path, target, questions)


def _in_runtime(runtime: Runtime, path: Path, target: Target, questions: Questions) -> Contestant:
    return Contestant(runtime.load(path, threads=target.threads, device=target.device), questions.inputs)


def _pipeline(path: Path, target: Target, questions: Questions) -> Contestant:
    """A checkpoint as a Hugging Face pipeline runs it: eager, fp32, no padding, inference mode."""
    import torch

    from evaluators.models import as_it_comes

    torch.set_num_threads(target.threads)
    model = as_it_comes(path).to(target.device)

    def call(inputs: Inputs) -> object:
        tensors = {name: torch.from_numpy(values).to(target.device) for name, values in inputs.items()}
        with torch.inference_mode():
            return model(**tensors).logits.cpu()  # (B, C); the copy waits for an accelerator

    return Contestant(call, questions.inputs)


def _linear(path: Path, target: Target, questions: Questions) -> Contestant:
    from evaluators.tasks.linear import LinearBaseline

    baseline = LinearBaseline.load(path)
    return Contestant(lambda texts: [baseline.predict_one(text) for text in texts], questions.texts)


def _cascade(path: Path, target: Target, questions: Questions) -> Contestant:
    """A cascade; before each block a row goes through every stage, whatever the first ones think of it."""
    from evaluators.cascade import Cascade

    cascade = Cascade.open(path, threads=target.threads, device=target.device)
    first = (replace(stage, threshold=math.inf) for stage in cascade.stages[:-1])
    doubting = _cascaded(replace(cascade, stages=(*first, cascade.stages[-1])), target, questions)
    return replace(_cascaded(cascade, target, questions), warm=doubting.call)


def _stage(path: Path, target: Target, questions: Questions) -> Contestant:
    """A single model with all that a cascade does to ask it and to read its answer: a cascade of it alone."""
    from evaluators.cascade import Cascade, Stage, logits_of

    model = _opened(path, target.threads, target.device)
    classes = logits_of(model, questions.texts[0], None, target.batch_size).shape[-1]
    stage = Stage(path.name, temperature=1.0, threshold=math.inf)
    return _cascaded(Cascade((stage,), (model,), tuple(map(str, range(classes))), 0, {}), target, questions)


def _cascaded(cascade: Any, target: Target, questions: Questions) -> Contestant:
    """Called on texts and on each stage's token ids, which are made here: tokenising is timed for nobody."""
    arguments = [(texts, [_sized(tokens, target) for tokens in cascade.encode(texts)]) for texts in questions.texts]
    return Contestant(lambda asked: cascade.logits(asked[0], asked[1], target.batch_size), arguments)


@cache
def _opened(path: Path, threads: int, device: str) -> Any:
    """One copy of a model, however many of the stages are called after it."""
    from evaluators.cascade import open_stage

    return open_stage(path, threads=threads, device=device)


def _sized(tokens: Encoded | None, target: Target) -> Encoded | None:
    """Token ids of the lengths that are timed."""
    if tokens is None:
        return None
    return replace(tokens, inputs=tuple(timed_inputs(tokens, range(len(tokens)), target)))


LOADERS: Mapping[str, Callable[[Path, Target, Questions], Contestant]] = {
    "onnxruntime": _onnxruntime,
    "torch": _torch,
    "pipeline": _pipeline,
    "linear": _linear,
    "cascade": _cascade,
    "stage": _stage,
}

if __name__ == "__main__":
    main(Path(sys.argv[1]))
