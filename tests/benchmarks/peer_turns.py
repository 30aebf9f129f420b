"""Contenders of different environments taking turns. Knows processes and blocks; knows no library and no claim.

The protocol is architecture.md's, section 5, as `evaluators.metrics.latency` carries it out for contenders of one
environment. Here every contender has a process of its own, started anew for each generation, and this one tells them
whose turn it is, so that at any time at most one of them calculates.
"""

import json
import random
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from peer_environments import PeerError, environment
from report import ROOT
from transformers import AutoTokenizer

from evaluators.metrics.latency import Latency
from evaluators.metrics.rounds import Block, Protocol
from evaluators.tasks.base import Encoded, Rows, encode
from spaces.target import Target

_WORKER = Path(__file__).with_name("peer_worker.py")


@dataclass(frozen=True)
class Contender:
    """Something to be timed and scored.

    Args:
        name: names it in tables.
        kind: how peer_worker.py loads it.
        path: the folder it loads.
        tokenizer: the exported folder whose tokenizer writes its inputs; a member may have a smaller vocabulary.
        python: the interpreter of its environment.
    """

    name: str
    kind: str
    path: Path
    tokenizer: Path
    python: Path


@dataclass(frozen=True)
class Worker:
    """A running contender; see `started`."""

    name: str
    process: "subprocess.Popen[str]"
    errors: Path

    def time(self, start: int, stop: int) -> Block:
        """The inputs from `start` to before `stop`, one call each."""
        block = self._ask("time", start, stop)
        return Block(tuple(block["samples_ms"]), block["wall_ns"], block["cpu_ns"])

    def answer(self) -> NDArray[np.float32]:
        """Logits of all inputs, (rows, classes), one call each."""
        return np.asarray(self._ask("answer"), dtype=np.float32)

    def reply(self) -> Any:
        """What the process says next; the first thing, once it is loaded and has met every input, is that it is."""
        assert self.process.stdout is not None
        if line := self.process.stdout.readline():
            return json.loads(line)
        lines = [line for line in self.errors.read_text(errors="replace").splitlines() if line.strip()]
        raise PeerError(f"{self.name} ended early: {lines[-1].strip() if lines else 'it said nothing'}")

    def _ask(self, *command: str | int) -> Any:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(command) + "\n")
        self.process.stdin.flush()
        return self.reply()


@contextmanager
def started(contender: Contender, texts: Sequence[str]) -> Iterator[Worker]:
    """The contender in a fresh process, ready for these inputs; ended with the context.

    Raises:
        PeerError: it cannot be loaded or called; the message is its own.
    """
    with tempfile.TemporaryDirectory() as folder:
        inputs, errors = Path(folder) / "inputs.json", Path(folder) / "stderr.txt"
        tokens = to_json(tokenised(contender.tokenizer, texts))
        inputs.write_text(json.dumps({"texts": list(texts), "inputs": tokens}))
        command = (contender.python, _WORKER, contender.kind, contender.path, inputs)
        with (
            errors.open("w") as stderr,
            subprocess.Popen(
                [str(part) for part in command],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
                env=environment([ROOT]),
            ) as process,
        ):
            try:
                worker = Worker(contender.name, process, errors)
                worker.reply()
                yield worker
            finally:
                process.kill()


def tokenised(folder: Path, texts: Sequence[str]) -> Encoded:
    """Texts as an exported folder's tokenizer writes them, at real lengths."""
    longest = json.loads((folder / "design.json").read_text())["max_length"]
    rows = Rows(tuple(texts), (0,) * len(texts))
    return encode(rows, AutoTokenizer.from_pretrained(folder, local_files_only=True), longest)


def to_json(encoded: Encoded) -> list[dict[str, Any]]:
    """A mapping per row, from the model's inputs to lists of numbers."""
    return [{name: values.tolist() for name, values in row.items()} for row in encoded.inputs]


def answers(contender: Contender, texts: Sequence[str]) -> NDArray[np.float32]:
    """Logits (rows, classes) of a contender in a process of its own, batch 1."""
    with started(contender, texts) as worker:
        return worker.answer()


def take_turns(
    contenders: Sequence[Contender],
    texts: Sequence[str],
    target: Target,
    *,
    rounds: int,
    processes: int,
    seed: int,
    say: Callable[[str], None],
) -> Mapping[str, Latency]:
    """Latency of every contender by name, all of them in the same rounds.

    Args:
        contenders: with distinct names, each of which starts.
        texts: one call each; tokenising is not timed.
        target: what the figures are labelled with.
        rounds: in each generation of processes.
        processes: generations, one after the other.
        seed: of the order in which contenders take turns.
        say: told of every generation.
    """
    rng = random.Random(seed)
    blocks = np.array_split(range(len(texts)), Protocol().blocks(len(texts)))
    spans = [(int(block[0]), int(block[-1]) + 1) for block in blocks]
    samples: dict[str, list[tuple[tuple[float, ...], ...]]] = {contender.name: [] for contender in contenders}
    for process in range(processes):
        say(f"timing {len(contenders)} contenders, processes {process + 1} of {processes}")
        with ExitStack() as stack:
            workers = [stack.enter_context(started(contender, texts)) for contender in contenders]
            timed = [_round(rng.sample(workers, len(workers)), spans) for _ in range(rounds)]
        for name, kept in samples.items():
            kept.append(tuple(each[name] for each in timed))
    return {name: Latency(target, Protocol().warmup, tuple(kept)) for name, kept in samples.items()}


def _round(workers: Sequence[Worker], spans: Sequence[tuple[int, int]]) -> dict[str, tuple[float, ...]]:
    """Milliseconds per input and contender; every contender times a block before any times the next one."""
    timed: dict[str, tuple[float, ...]] = {worker.name: () for worker in workers}
    for span in spans:
        for worker in workers:
            timed[worker.name] += worker.time(*span).samples_ms
    return timed
