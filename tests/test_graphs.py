"""Of several graphs of one model the fastest is named, and the usual one where they hardly differ."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from evaluators.graphs import fastest
from evaluators.runtimes.base import Predictor
from spaces.target import Target

INPUTS = [{"input_ids": np.ones((1, 4), np.int64)}] * 3


@dataclass
class Waiting:
    """A runtime whose artefacts say how many milliseconds a call takes."""

    loaded: int = 0
    name: str = "waiting"
    version: str = "1"
    bits: tuple[int, ...] = (32,)
    filename: str = "model.txt"

    def template(self, model: Any) -> Any:
        raise NotImplementedError

    def load(self, artefact: bytes | Path, *, threads: int, device: str = "cpu") -> Predictor:
        assert isinstance(artefact, bytes)
        self.loaded += 1

        def predict(inputs: Mapping[str, NDArray[np.int64]]) -> NDArray[np.float32]:
            time.sleep(float(artefact) / 1000)
            return np.zeros((1, 2), np.float32)

        return predict


@pytest.mark.parametrize(
    ("graphs", "expected"),
    [
        ({"plain": b"4", "fused": b"1"}, "fused"),
        ({"plain": b"1", "fused": b"4", "other": b"8"}, "plain"),
        ({"plain": b"8", "fused": b"4", "other": b"1"}, "other"),
        ({"plain": b"20", "fused": b"20"}, "plain"),
    ],
)
def test_the_fastest_is_named(graphs: dict[str, bytes], expected: str) -> None:
    assert fastest(graphs, Waiting(), INPUTS, Target()) == expected


def test_a_single_graph_is_not_timed() -> None:
    runtime = Waiting()
    assert fastest({"plain": b"1"}, runtime, INPUTS, Target()) == "plain"
    assert runtime.loaded == 0
