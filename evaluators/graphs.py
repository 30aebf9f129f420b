"""Which of several graphs of one model is fastest here. Knows artefacts and a clock; knows not how they differ."""

import statistics
import time
from collections.abc import Mapping, Sequence

from evaluators.runtimes.base import Predictor, Runtime
from evaluators.tasks.base import Inputs
from spaces.target import Target

_INPUTS, _ROUNDS = 30, 9
# A graph other than the first must be faster by this factor, and in most turns: what differs less is noise. The ratio
# of two graphs of MiniLM members, repeated on a shared machine, came out between 0.97 and 1.07.
_CLEARLY, _MOSTLY = 1.05, 0.8


def fastest(graphs: Mapping[str, bytes], runtime: Runtime, inputs: Sequence[Inputs], target: Target) -> str:
    """The name of the graph with the least time, which take turns on the same inputs; the first unless one is clearly
    faster.

    Args:
        graphs: artefacts that answer alike, by name.
        runtime: runs them.
        inputs: of calls, each (B, T).
        target: threads and device.
    """
    usual, *others = graphs
    if not others:
        return usual
    predictors = {
        name: runtime.load(artefact, threads=target.threads, device=target.device) for name, artefact in graphs.items()
    }
    turns = [{name: _seconds(one, inputs[:_INPUTS]) for name, one in predictors.items()} for _ in range(1 + _ROUNDS)]
    gains = {name: [turn[usual] / turn[name] for turn in turns[1:]] for name in others}  # one turn to warm up
    best = max(gains, key=lambda name: statistics.median(gains[name]))
    mostly = sum(gain > 1 for gain in gains[best]) >= _MOSTLY * _ROUNDS
    return best if mostly and statistics.median(gains[best]) > _CLEARLY else usual


def _seconds(predictor: Predictor, inputs: Sequence[Inputs]) -> float:
    started = time.perf_counter()
    for call in inputs:
        predictor(call)
    return time.perf_counter() - started
