"""Latency as a value, and how it is measured. Knows contenders by name and file; knows no framework (the worker does).

The protocol is architecture.md's, section 5: fresh processes one after the other, in each of them rounds in which all
contenders take turns (rounds.py), raw samples kept, figures and intervals derived from them.
"""

import csv
from base64 import b64decode, b64encode
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from evaluators.metrics.lane import Lane, LocalLane
from evaluators.metrics.rounds import Protocol
from evaluators.tasks.base import MASK, Encoded, Inputs, Text, length
from spaces.target import Target

TIMINGS = "timings.csv"
Kind: TypeAlias = Literal["onnxruntime", "torch", "pipeline", "linear", "cascade", "stage"]
CALLED_ON_TEXTS: tuple[Kind, ...] = ("linear", "cascade", "stage")
Samples: TypeAlias = tuple[tuple[tuple[float, ...], ...], ...]
Progress: TypeAlias = Callable[[int, int], None]  # steps done, steps in all


@dataclass(frozen=True)
class Contender:
    """Something to be timed.

    Args:
        name: names it in the measurement.
        kind: `onnxruntime` and `torch`: an artefact in that runtime; `pipeline`: a fine-tuned `transformers` checkpoint
            called as it comes, in eager fp32 on tokenised inputs; `linear`: the TF-IDF baseline, called on texts;
            `cascade`: called on texts and on what each stage's tokenizer made of them beforehand; `stage`: one model
            of a cascade, called in the same way.
        path: the artefact's file, or the folder of a checkpoint, baseline or cascade.
        inputs: the rows as its own tokenizer writes them; None: it shares the others'.
        after: folder of a model that is called, untimed, on the same row before every call.
    """

    name: str
    kind: Kind
    path: Path
    inputs: tuple[Inputs, ...] | None = field(default=None, repr=False, compare=False)
    after: Path | None = None


@dataclass(frozen=True)
class Latency:
    """Measured latency of one contender.

    Args:
        target: where and how it ran.
        warmup: untimed calls before each block.
        samples: milliseconds per call, by process, round and input.
        lengths: per input its tokens, as the shared tokenizer writes it; of a batch, those of its longest row; none
            where inputs are no tokens.
    """

    target: Target
    warmup: int
    samples: Samples = field(repr=False)
    lengths: tuple[int, ...] = field(default=(), repr=False)

    @cached_property
    def array(self) -> NDArray[np.float64]:
        """The samples as (processes, rounds in each, inputs), read-only."""
        array = np.asarray(self.samples, dtype=np.float64)
        array.setflags(write=False)
        return array

    @property
    def per_input(self) -> NDArray[np.float64]:
        """Each input's median over all rounds of all processes, (inputs,)."""
        medians: NDArray[np.float64] = np.median(self.array.reshape(self.rounds, -1), axis=0)
        return medians

    @property
    def mean_ms(self) -> float:
        """Mean over the inputs of `per_input`: the cost of the mix of lengths."""
        return float(self.per_input.mean())

    @property
    def p50_ms(self) -> float:
        return float(np.percentile(self.per_input, 50))

    @property
    def p95_ms(self) -> float:
        return float(np.percentile(self.per_input, 95))

    @property
    def processes(self) -> int:
        return int(self.array.shape[0])

    @property
    def rounds(self) -> int:
        """Rounds over all processes."""
        return int(self.array.shape[0] * self.array.shape[1])

    def speedup(self, base: "Latency", seed: int, resamples: int = 2000) -> tuple[float, float, float]:
        """How many times faster than `base` this is, with a 95 % percentile bootstrap interval.

        Processes are drawn with replacement, then rounds within each. Both contenders ran in the same rounds, so both
        take the same draws, and what slowed a whole round cancels out of the ratio.

        Raises:
            ValueError: `base` was not timed in the same rounds on the same inputs.
        """
        (found,) = self.speedups(base, [range(self.array.shape[-1])], seed, resamples)
        return found

    def speedups(
        self, base: "Latency", groups: Sequence[Sequence[int]], seed: int, resamples: int = 2000
    ) -> list[tuple[float, float, float]]:
        """The same on each of these groups of inputs, from one draw."""
        if base.array.shape != self.array.shape:
            raise ValueError(
                f"Latencies of shapes {self.array.shape} and {base.array.shape} do not pair. Measure both together."
            )
        rng = np.random.default_rng(seed)
        processes, rounds, inputs = self.array.shape
        process = rng.integers(processes, size=(resamples, processes, 1))
        chosen = rng.integers(rounds, size=(resamples, processes, rounds))

        def resampled(array: NDArray[np.float64]) -> NDArray[np.float64]:
            drawn = array[process, chosen].reshape(resamples, processes * rounds, inputs)
            medians: NDArray[np.float64] = np.median(drawn, axis=1)  # (resamples, inputs)
            return medians

        slow, fast, found = resampled(base.array), resampled(self.array), []
        for group in map(list, groups):
            low, high = np.quantile(slow[:, group].mean(axis=-1) / fast[:, group].mean(axis=-1), (0.025, 0.975))
            times = base.per_input[group].mean() / self.per_input[group].mean()
            found.append((float(times), float(low), float(high)))
        return found


@dataclass(frozen=True)
class TimingRow:
    """A row of timings.csv: one contender's share of one round.

    Args:
        member: the contender's name.
        target: the target's label.
        process: number of the fresh process.
        round: number of the round, over all processes.
        started: seconds since the epoch.
        ended: the same.
        cpu_share: CPU time over wall time; near the number of busy threads when nothing disturbed the round.
        node: the machine, named as in trials.csv.
    """

    member: str
    target: str
    process: int
    round: int
    started: float
    ended: float
    cpu_share: float
    node: str


@dataclass(frozen=True)
class Measurement(Mapping[str, Latency]):
    """Latencies of contenders that took turns, by name, and the record of every round."""

    latencies: Mapping[str, Latency]
    timings: tuple[TimingRow, ...]

    def __getitem__(self, name: str) -> Latency:
        return self.latencies[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.latencies)

    def __len__(self) -> int:
        return len(self.latencies)


def measure(
    contenders: Sequence[Contender],
    inputs: Sequence[Inputs],
    *,
    texts: Sequence[Text] | None = None,
    target: Target,
    rounds: int = 9,
    processes: int = 3,
    block: int = 25,
    seed: int,
    progress: Progress | None = None,
    lane: Lane | None = None,
) -> Measurement:
    """Time contenders beside each other in fresh processes. Nothing else of ours may run on the host meanwhile.

    Args:
        contenders: with distinct names.
        inputs: rows as a model reads them; `target.batch_size` of them make one call.
        texts: the same rows as texts; needed by contenders that are called on texts.
        target: device, threads and batch.
        rounds: at least so many in all.
        processes: fresh processes, one after the other.
        block: calls of one contender in a row.
        seed: of the order in which contenders take turns.
        progress: told whenever a contender begins a block.
        lane: where to time; this machine if None.

    Raises:
        ParetoformerError: a contender cannot be loaded or called, or its process died.
        ValueError: two contenders of one name, no inputs, no texts where they are needed, or not as many of one.
    """
    _check(contenders, inputs, texts)
    undisturbed_means_busy = target.threads == 1 and target.device == "cpu"
    protocol = Protocol(rounds=-(-rounds // processes), block=block, tolerance=0.05 if undisturbed_means_busy else None)
    plan = {
        "contenders": [
            {
                "name": contender.name,
                "kind": contender.kind,
                "path": str(contender.path.resolve()),
                "inputs": None if contender.inputs is None else inputs_to_json(contender.inputs),
                "after": None if contender.after is None else str(contender.after.resolve()),
            }
            for contender in contenders
        ],
        "inputs": inputs_to_json(inputs),
        "texts": None if texts is None else list(texts),
        "target": target.to_json(),
        "protocol": asdict(protocol),
        "seed": seed,
    }
    results, lane = [], lane or LocalLane()
    for process in range(processes):
        report = _reporter(progress, process, processes)
        results.append(lane.run({**plan, "process": process}, target.threads, report))
    lengths = [length(row) for row in inputs if MASK in row]
    calls = tuple(max(lengths[at : at + target.batch_size]) for at in range(0, len(lengths), target.batch_size))
    return _gathered([contender.name for contender in contenders], target, protocol, results, lane.node, calls)


def append_timings(path: Path, rows: Sequence[TimingRow]) -> None:
    """Add rounds to a timings.csv; one that was begun by an older version keeps its columns."""
    columns = [field.name for field in fields(TimingRow)]
    if path.exists():
        with path.open(newline="") as file:
            columns = next(csv.reader(file), columns)
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, columns, extrasaction="ignore")
        if not file.tell():
            writer.writeheader()
        writer.writerows(asdict(row) for row in rows)


def timed_inputs(encoded: Encoded, rows: Sequence[int], target: Target) -> list[Inputs]:
    """The inputs at `rows` as they are, or of the target's fixed length: tokens cut, or repeated from the start."""
    inputs = [encoded.inputs[row] for row in rows]
    if target.lengths == "real":
        return inputs
    return [{name: np.resize(values, target.lengths) for name, values in row.items()} for row in inputs]


def sample_inputs(encoded: Encoded, n: int = 100, *, seed: int) -> tuple[int, ...]:
    """Indices of `n` rows whose lengths are distributed like all rows': one row from each of `n` quantiles of length.

    Args:
        encoded: the tokenised rows.
        n: rows wanted; all rows if there are no more than that.
        seed: decides between rows of one quantile.
    """
    rng = np.random.default_rng(seed)
    lengths = np.array(encoded.lengths)
    by_length = np.lexsort((rng.random(len(lengths)), lengths))
    strata = np.array_split(by_length, min(n, len(by_length)))
    return tuple(sorted(int(rng.choice(stratum)) for stratum in strata))


def _check(contenders: Sequence[Contender], inputs: Sequence[Inputs], texts: Sequence[Text] | None) -> None:
    twice = [name for name, count in Counter(contender.name for contender in contenders).items() if count > 1]
    if twice or not contenders:
        raise ValueError(f"Contenders need distinct names, at least one; found {twice or 'none'}.")
    if not inputs:
        raise ValueError("Nothing to time: give at least one input.")
    reading = [contender.kind for contender in contenders if contender.kind in CALLED_ON_TEXTS]
    if texts is None and reading:
        raise ValueError(f"A contender of kind {reading[0]!r} is called on texts. Give texts=, in the inputs' order.")
    if texts is not None and len(texts) != len(inputs):
        raise ValueError(f"{len(texts)} texts for {len(inputs)} inputs. Give the same rows in the same order.")
    for contender in contenders:
        if contender.inputs is not None and len(contender.inputs) != len(inputs):
            raise ValueError(
                f"{contender.name} has {len(contender.inputs)} inputs of its own, the others {len(inputs)}. "
                "Give the same rows in the same order."
            )


def inputs_to_json(inputs: Iterable[Inputs]) -> list[dict[str, Any]]:
    """Inputs that JSON can hold: of each array type, shape and bytes, these as base64."""
    return [
        {
            name: {"dtype": values.dtype.str, "shape": values.shape, "bytes": b64encode(values.tobytes()).decode()}
            for name, values in row.items()
        }
        for row in inputs
    ]


def inputs_from_json(inputs: Iterable[Mapping[str, Any]]) -> tuple[Inputs, ...]:
    """What `inputs_to_json` was given."""
    return tuple(
        {
            name: np.frombuffer(b64decode(kept["bytes"]), kept["dtype"]).reshape(kept["shape"])
            for name, kept in row.items()
        }
        for row in inputs
    )


def _reporter(progress: Progress | None, process: int, processes: int) -> Progress:
    """Turns the steps of one of several equal processes into steps of all of them."""

    def report(done: int, total: int) -> None:
        if progress is not None:
            progress(process * total + done, processes * total)

    return report


def _gathered(
    names: Sequence[str],
    target: Target,
    protocol: Protocol,
    results: Sequence[Sequence[Mapping[str, Any]]],
    node: str,
    lengths: tuple[int, ...],
) -> Measurement:
    """Latencies and timing rows from what the processes wrote: per process, per round, by name a Round."""
    samples = {
        name: tuple(tuple(tuple(done[name]["samples_ms"]) for done in rounds) for rounds in results) for name in names
    }
    timings = tuple(
        TimingRow(
            name,
            target.label,
            process,
            process * protocol.rounds + index,
            done[name]["started"],
            done[name]["ended"],
            done[name]["cpu_share"],
            node,
        )
        for process, rounds in enumerate(results)
        for index, done in enumerate(rounds)
        for name in names
    )
    latencies = {name: Latency(target, protocol.warmup, samples[name], lengths) for name in names}
    return Measurement(latencies, timings)
