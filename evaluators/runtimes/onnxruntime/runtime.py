"""Models run by onnxruntime, on CPU or CUDA. Knows sessions and devices; knows nothing of how a graph is cut."""

import logging
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from evaluators.runtimes.onnxruntime.lowering import STATE, state_name
from evaluators.runtimes.onnxruntime.template import OnnxTemplate
from spaces.errors import ModelError

logger = logging.getLogger(__name__)
_ERRORS = 3  # onnxruntime's severity; its warnings speak of its own graph rewriting


class OnnxRuntime:
    """onnxruntime in 32, 8 (dynamic, per column) and 4 bits (blocks of weights, int8 arithmetic).

    Args:
        device: where its models will run; only the CPU has the operator of 8 bits.
    """

    name: str = "onnxruntime"
    version: str = str(onnxruntime.__version__)
    steady: tuple[int, ...] = (32,)
    filename: str = "model.onnx"

    def __init__(self, device: str = "cpu") -> None:
        self.bits: tuple[int, ...] = (32, 4) if device.startswith("cuda") else (32, 8, 4)

    def template(self, model: Any, *, pairs: bool = False) -> OnnxTemplate:
        """Export a copy of `model`, of `transformers`, once; with token types as an input where it reads pairs.

        Raises:
            ModelError: the model is not an encoder with standard attention.
        """
        from evaluators.anatomy import Anatomy
        from evaluators.runtimes.onnxruntime.canonical import canonical
        from evaluators.runtimes.onnxruntime.export import export

        anatomy = Anatomy.of(model)
        graph, layers = canonical(export(model, types=pairs), anatomy)
        return OnnxTemplate(graph.SerializeToString(), layers, anatomy.shape)

    def load(self, artefact: bytes | Path, *, threads: int, device: str = "cpu") -> "OnnxPredictor":
        """Open an artefact's file, or its bytes.

        Raises:
            ModelError: not a model that onnxruntime can open.
        """
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = _ERRORS
        source = artefact if isinstance(artefact, bytes) else str(artefact)
        try:
            session = onnxruntime.InferenceSession(source, options, providers=_providers(device))
        except Exception as error:  # onnxruntime's errors share no base class
            what = "These bytes are" if isinstance(artefact, bytes) else f"{artefact} is"
            raise ModelError(
                f"{what} not a model that onnxruntime {self.version} opens: {error}. Export it again."
            ) from error
        return OnnxPredictor(session)


class OnnxPredictor:
    """A loaded model: padded inputs, each (B, T), to logits (B, C) in float32; other inputs are ignored."""

    def __init__(self, session: onnxruntime.InferenceSession) -> None:
        self._session = session
        self._names = [entry.name for entry in session.get_inputs() if not entry.name.startswith(STATE)]

    def __call__(self, inputs: Mapping[str, NDArray[np.int64]]) -> NDArray[np.float32]:
        logits: NDArray[np.float32] = self._session.run(["logits"], {name: inputs[name] for name in self._names})[0]
        return logits

    def staged(
        self, inputs: Mapping[str, NDArray[np.int64]], states: Mapping[int, NDArray[np.float32]]
    ) -> tuple[NDArray[np.float32], dict[int, NDArray[np.float32]]]:
        """The same of a file of `OnnxTemplate.assemble_from`, and by layer the states that enter it."""
        given = {state_name(layer): values for layer, values in states.items()}
        names = [entry.name for entry in self._session.get_outputs()]
        found = dict(
            zip(names, self._session.run(names, {**{n: inputs[n] for n in self._names}, **given}), strict=True)
        )
        return found.pop("logits"), {int(name.removeprefix(STATE)): values for name, values in found.items()}


@cache
def _providers(device: str) -> list[str]:
    """What a session may use, first choice first; the CPU alone where there is nothing else, which is said once."""
    wanted = (
        ["CUDAExecutionProvider", "CPUExecutionProvider"] if device.startswith("cuda") else ["CPUExecutionProvider"]
    )
    missing = [provider for provider in wanted if provider not in onnxruntime.get_available_providers()]
    if missing:
        logger.warning(
            "Device %s asked for, but onnxruntime has no %s; running on the CPU.", device, ", ".join(missing)
        )
    return [provider for provider in wanted if provider not in missing]
