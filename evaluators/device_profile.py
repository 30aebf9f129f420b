"""A serving machine as it was timed there, and what that says of models elsewhere. Knows costs; knows no clock."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
from scipy.optimize import nnls

from evaluators.device_terms import NAMES, Call
from evaluators.latency_model import HeldOut, LatencyModel, fitted
from evaluators.latency_probes import probes
from evaluators.latency_terms import Vector
from spaces.axes.pruning import Pruning
from spaces.axes.quantization import Quantization
from spaces.design import Member
from spaces.errors import ConfigError
from spaces.shape import ModelShape
from spaces.target import Target
from spaces.whole import write_whole

FORMAT = "paretoformer device profile"
VERSION = 1
_RIDGE = 1e-3
# Members whose predicted latencies a run's own latency model is fitted to.
_MEMBERS = 200


@dataclass(frozen=True)
class DeviceProfile:
    """What calls cost on one machine in one setting.

    Args:
        target: the setting: device, runtime, threads.
        costs: ms by term of device_terms.py.
        held_out: models that were predicted before they were used, in ms.
        instances: processes with so many threads that fill the machine.
        bits: widths that the runtime executes there.
        host: the machine, for people.
        made: when, in ISO 8601.
    """

    target: Target
    costs: Mapping[str, float]
    held_out: tuple[HeldOut, ...]
    instances: int
    bits: tuple[int, ...]
    host: Mapping[str, Any]
    made: str

    def predict_ms(self, call: Call) -> float:
        """Latency of one call, in ms."""
        return float(call.counts() @ self._in_order)

    @cached_property
    def _in_order(self) -> Vector:
        """The costs in the order of NAMES, (terms,)."""
        return np.array([self.costs[name] for name in NAMES])

    def latency_model(self, shape: ModelShape, lengths: Sequence[int], *, first_token: bool, seed: int) -> LatencyModel:
        """The latency model of one original at this target, as search uses it.

        Args:
            shape: the original's sizes.
            lengths: tokens of the inputs over which latency is averaged, in the order in which they make batches.
            first_token: whether members leave out what the head does not read; the original as exported does not.
            seed: draws the members that the model is fitted to.
        """
        rows = self.target.batch_size
        padded = [max(lengths[start : start + rows]) for start in range(0, len(lengths), rows)]
        tokens, counts = np.unique(np.asarray(padded), return_counts=True)

        def mean_ms(member: Member, *, first_token: bool) -> float:
            calls = [Call(member, shape, int(length), rows, first_token) for length in tokens]
            return float(np.average([self.predict_ms(call) for call in calls], weights=counts))

        original = Member((Pruning.identity(shape), Quantization.uniform(shape)))
        fair_ms = mean_ms(original, first_token=False)
        members = probes(shape, self.bits, _MEMBERS, seed)
        ratios = [mean_ms(member, first_token=first_token) / fair_ms for member in members]
        timings = list(zip(members, ratios, strict=True))
        model = fitted(shape, self.bits, timings, held_out=0, fair_ms=fair_ms, target_key=self.target.key)
        # How well the machine is known, not how well one formula follows the other.
        return LatencyModel(model.terms, model.coefficients, fair_ms, self.target.key, self.held_out)

    @property
    def mean_error(self) -> float:
        """Mean relative error on held-out models."""
        return float(np.mean([abs(pair.predicted / pair.measured - 1) for pair in self.held_out]))

    def write(self, path: Path) -> None:
        """A JSON file that `--target` takes."""
        target = self.target.to_json()
        content = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "target"}
        content["held_out"] = [asdict(pair) for pair in self.held_out]
        write_whole(path, json.dumps({"format": FORMAT, "version": VERSION, **target, **content}, indent=1) + "\n")

    @classmethod
    def read(cls, path: Path) -> Self:
        """Raises ConfigError where the file is missing or no profile of this version."""
        cure = "Write one on the serving machine: paretoformer profile --out device.json"
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise ConfigError(f"Cannot read target {path}: {error.strerror}. {cure}") from None
        except ValueError as error:
            raise ConfigError(f"{path} is not JSON ({error}). {cure}") from None
        if not isinstance(content, dict) or content.get("format") != FORMAT:
            raise ConfigError(f"{path} is not a device profile. {cure}")
        if content.get("version") != VERSION:
            raise ConfigError(f"{path} has version {content.get('version')!r}, expected {VERSION}. {cure}")
        try:
            target = Target(**{field.name: content[field.name] for field in fields(Target)})
            known = {field.name: content[field.name] for field in fields(cls) if field.name != "target"}
            costs = {name: float(known["costs"][name]) for name in NAMES}
            held_out = tuple(HeldOut(**pair) for pair in known["held_out"])
            return cls(
                **{**known, "target": target, "costs": costs, "held_out": held_out, "bits": tuple(known["bits"])}
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ConfigError(f"{path} lacks {error} or has it wrong. {cure}") from None


def fit_costs(calls: Sequence[Call], measured_ms: Sequence[float]) -> Vector:
    """Costs of at least zero, (terms,), with the least squared relative error."""
    counts = np.stack([call.counts() for call in calls]) / np.asarray(measured_ms)[:, None]  # (calls, terms)
    # Terms differ by orders of magnitude; the ridge is to hold on to all of them alike.
    scale = np.maximum(counts.std(axis=0), 1e-12)
    ridge = np.sqrt(_RIDGE) * np.eye(counts.shape[1])
    goal = np.concatenate([np.ones(len(calls)), np.zeros(counts.shape[1])])
    found: Vector = nnls(np.concatenate([counts / scale, ridge]), goal, maxiter=100 * counts.shape[1])[0] / scale
    return found
