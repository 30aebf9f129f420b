"""Timing a machine so that models elsewhere can be judged for it. Knows probes and the measuring protocol.

Needs onnxruntime alone: the probes are encoders with random weights, of sizes and widths such as searches visit.
"""

import random
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from evaluators.cores import usable_instances
from evaluators.device_profile import DeviceProfile, fit_costs
from evaluators.device_terms import NAMES, Call
from evaluators.latency_model import HeldOut
from evaluators.latency_probes import probes
from evaluators.latency_terms import Vector
from evaluators.metrics.host import describe_host
from evaluators.metrics.latency import Contender, Progress, measure
from evaluators.runtimes.onnxruntime.random_encoder import random_encoder
from evaluators.runtimes.onnxruntime.runtime import OnnxRuntime
from evaluators.tasks.base import Inputs
from spaces.axes.pruning import Pruning
from spaces.axes.quantization import Quantization
from spaces.design import Member
from spaces.shape import ModelShape
from spaces.target import Target

TIMINGS = 50
# Sizes of published encoders: hidden width, heads, and the most layers of a probe (wide ones take long).
_SIZES = ((128, 2, 6), (256, 4, 6), (312, 12, 6), (384, 12, 6), (384, 6, 6), (512, 8, 4), (768, 12, 3), (1024, 16, 2))
_LENGTHS = (8, 16, 32, 64, 128)
_VOCABULARY = 2000
_FFN = 4  # times the hidden width
# Probes that take turns with one copy of the reference.
_GROUP = 10
_HELD_OUT = 12
# Members of a shape that one is drawn from: its ends among them, random ones for the most part.
_CHOICE = 20
_ROUNDS, _PROCESSES = 9, 3
# Calls of a probe at each length in every round; one where the reference takes longer than this.
_CALLS, _SLOW_MS = 4, 15.0
_REFERENCE = ModelShape(4, 12, 32, 1536, 384, _VOCABULARY)


@dataclass(frozen=True)
class Probe:
    """A model to be timed."""

    member: Member
    shape: ModelShape

    def call(self, tokens: int, batch_size: int = 1) -> Call:
        """One call of it."""
        return Call(self.member, self.shape, tokens, batch_size)

    def artefact(self, seed: int) -> bytes:
        """Its file."""
        return random_encoder(self.shape, seed).assemble(self.member)


def profile_here(
    target: Target, *, seed: int, timings: int = TIMINGS, progress: Progress | None = None
) -> DeviceProfile:
    """What calls cost on this machine. Nothing else should be busy meanwhile; takes a minute or two.

    Args:
        target: this machine in the setting that models will be served in.
        seed: draws the probes.
        timings: probes to time.
        progress: told after each group how many are timed.

    Raises:
        ParetoformerError: a probe cannot be timed.
    """
    runtime, batch_size = OnnxRuntime(target.device), target.batch_size
    drawn = draw(runtime.bits, timings, seed)
    measured = _measured(drawn, runtime, target, seed, progress)
    seen = len(drawn) - min(_HELD_OUT, len(drawn) // 2)
    costs = _costs(drawn[:seen], measured[:seen], batch_size)
    held_out = tuple(
        HeldOut(
            float(found.mean()),
            float(np.mean([probe.call(tokens, batch_size).counts() @ costs for tokens in _LENGTHS])),
        )
        for probe, found in zip(drawn[seen:], measured[seen:], strict=True)
    )
    return DeviceProfile(
        target=target,
        costs=dict(zip(NAMES, _costs(drawn, measured, batch_size).tolist(), strict=True)),
        held_out=held_out,
        instances=usable_instances(target.threads),
        bits=runtime.bits,
        host=describe_host(),
        made=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def draw(bits: Sequence[int], n: int, seed: int) -> list[Probe]:
    """`n` models: every size whole and in the widest and the next width, then random members of the sizes in turn.

    Whole models are what all others are compared with, and only they fill the caches as an original does.
    """
    rng = random.Random(seed)
    found = [
        Probe(Member((Pruning.identity(shape), Quantization.uniform(shape, width))), shape)
        for width in bits[:2]
        for shape in (_shape(size, size[2]) for size in _SIZES)
    ]
    for number in range(n - len(found)):
        size = _SIZES[number % len(_SIZES)]
        shape = _shape(size, rng.randint(1, size[2]))
        found.append(Probe(rng.choice(probes(shape, bits, _CHOICE, rng.randrange(2**32))), shape))
    return found[:n]


def _shape(size: tuple[int, int, int], layers: int) -> ModelShape:
    hidden, heads, _ = size
    return ModelShape(layers, heads, hidden // heads, _FFN * hidden, hidden, _VOCABULARY)


def _measured(
    drawn: Sequence[Probe], runtime: OnnxRuntime, target: Target, seed: int, progress: Progress | None
) -> Vector:
    """Milliseconds of every probe at each of the lengths, (probes, lengths), as if all ran at the same speed.

    Groups run minutes apart, and a machine that is shared is faster at one time than at another: the reference, which
    is in all groups, says how much.
    """
    # Narrow weights stay in the caches, so what others on a shared machine do to its memory moves them little.
    width = runtime.bits[1] if len(runtime.bits) > 1 else runtime.bits[0]
    reference = Probe(Member((Pruning.identity(_REFERENCE), Quantization.uniform(_REFERENCE, width))), _REFERENCE)
    calls = _CALLS if _fast(reference, runtime, target) else 1
    # Rows of one call are of one length, so nothing is padded.
    rows = [
        _row(tokens, seed + number) for number in range(calls) for tokens in _LENGTHS for _ in range(target.batch_size)
    ]
    found, references = [], []
    for start in range(0, len(drawn), _GROUP):
        group = [*drawn[start : start + _GROUP], reference]
        times = (
            _timed(group, runtime, target, rows, seed + start).reshape(len(group), calls, len(_LENGTHS)).mean(axis=1)
        )
        found.append(times[:-1] / times[-1].mean())
        references.append(times[-1].mean())
        if progress is not None:
            progress(min(start + _GROUP, len(drawn)), len(drawn))
    measured: Vector = np.concatenate(found) * np.median(references)
    return measured


def _timed(group: Sequence[Probe], runtime: OnnxRuntime, target: Target, rows: Sequence[Inputs], seed: int) -> Vector:
    """Milliseconds of each probe for each call, (probes, calls)."""
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / f"{number}-{runtime.filename}" for number in range(len(group))]
        for number, (probe, path) in enumerate(zip(group, paths, strict=True)):
            path.write_bytes(probe.artefact(seed + number))
        contenders = [Contender(path.name, "onnxruntime", path) for path in paths]
        latencies = measure(contenders, rows, target=target, rounds=_ROUNDS, processes=_PROCESSES, seed=seed)
    return np.stack([latencies[path.name].per_input for path in paths])


def _fast(probe: Probe, runtime: OnnxRuntime, target: Target) -> bool:
    """Whether there is time for several calls at each length."""
    predictor = runtime.load(probe.artefact(0), threads=target.threads, device=target.device)
    batch = {name: values[None] for name, values in _row(max(_LENGTHS), 0).items()}
    predictor(batch)
    begin = time.perf_counter()
    predictor(batch)
    return (time.perf_counter() - begin) * 1e3 < _SLOW_MS


def _row(tokens: int, seed: int) -> Inputs:
    ids = np.random.default_rng(seed).integers(_VOCABULARY, size=tokens)
    return {"input_ids": ids, "attention_mask": np.ones(tokens, np.int64)}


def _costs(drawn: Sequence[Probe], measured: Vector, batch_size: int) -> Vector:
    calls = [probe.call(tokens, batch_size) for probe in drawn for tokens in _LENGTHS]
    return fit_costs(calls, measured.ravel().tolist())
