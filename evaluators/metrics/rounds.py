"""Timing calls in alternating blocks. Knows clocks and the order of calls; knows nothing of models or processes.

The protocol (architecture.md, section 5, "Latency"): in a round every contender answers every input once. The inputs
go in blocks of about 25 calls, within which the contenders take turns: slow drifts of the machine hit all of them
alike, and a block is long enough to keep a contender's weights in the cache. A block whose wall and CPU time part
was disturbed by another process and is repeated.
"""

import gc
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import Any


@dataclass(frozen=True)
class Clock:
    """Where time comes from: wall and CPU time in nanoseconds, and the time of day in seconds since the epoch."""

    wall: Callable[[], int] = time.perf_counter_ns
    cpu: Callable[[], int] = time.process_time_ns
    now: Callable[[], float] = time.time


@dataclass(frozen=True)
class Protocol:
    """How calls are timed.

    Args:
        rounds: times that every contender answers every input.
        block: calls of one contender in a row.
        warmup: untimed calls before each block, to fill the caches again.
        repeats: how often a disturbed block is timed again; the least disturbed one is kept.
        tolerance: share by which wall and CPU time may part; None: they say nothing (several threads, an accelerator).
    """

    rounds: int = 3
    block: int = 25
    warmup: int = 3
    repeats: int = 3
    tolerance: float | None = 0.05

    def blocks(self, calls: int) -> int:
        """Blocks that a round's calls are cut into, about `block` each."""
        return max(1, round(calls / self.block))


@dataclass(frozen=True)
class Contestant:
    """A loaded contender.

    Args:
        call: what is timed.
        arguments: one for each input.
        warm: called before each block instead of `call` where that does not touch all that later calls may need.
        before: called, untimed, before every call on the same input: it takes the caches, as it does in a cascade.
    """

    call: Callable[[Any], object]
    arguments: Sequence[Any]
    warm: Callable[[Any], object] | None = None
    before: "Contestant | None" = None


@dataclass(frozen=True)
class Block:
    """One contender's calls in a row.

    Args:
        samples_ms: one figure per call.
        wall_ns: wall time of all of them.
        cpu_ns: CPU time of the process meanwhile.
    """

    samples_ms: tuple[float, ...]
    wall_ns: int
    cpu_ns: int

    @property
    def gap(self) -> float:
        """How far wall and CPU time part, relative to wall time."""
        return abs(1.0 - self.cpu_ns / self.wall_ns) if self.wall_ns else 0.0


@dataclass(frozen=True)
class Round:
    """One contender's share of a round.

    Args:
        samples_ms: one figure per input, in the inputs' order.
        started: seconds since the epoch at its first block.
        ended: the same after its last block.
        cpu_share: CPU time over wall time in the kept blocks.
    """

    samples_ms: tuple[float, ...]
    started: float
    ended: float
    cpu_share: float


def time_block(contestant: Contestant, span: slice, protocol: Protocol, clock: Clock) -> Block:
    """The inputs in `span`, timed until undisturbed or out of repeats; the least disturbed attempt."""
    best = _attempt(contestant, span, protocol.warmup, clock)
    if protocol.tolerance is None:
        return best
    for _ in range(protocol.repeats):
        if best.gap <= protocol.tolerance:
            break
        best = min(best, _attempt(contestant, span, protocol.warmup, clock), key=lambda block: block.gap)
    return best


def time_round(
    contestants: Mapping[str, Contestant],
    protocol: Protocol,
    rng: random.Random,
    clock: Clock,
    announce: Callable[[str], None],
) -> dict[str, Round]:
    """Every contender on every input once, taking turns in blocks, in an order drawn anew for the round.

    Args:
        announce: told a contender's name before each of its blocks.
    """
    order = rng.sample(sorted(contestants), len(contestants))
    blocks: dict[str, list[Block]] = {name: [] for name in order}
    started: dict[str, float] = {}
    ended: dict[str, float] = {}
    with _collector_paused():
        for span in _spans(len(contestants[order[0]].arguments), protocol):
            for name in order:
                announce(name)
                started.setdefault(name, clock.now())
                blocks[name].append(time_block(contestants[name], span, protocol, clock))
                ended[name] = clock.now()
    return {name: _joined(blocks[name], started[name], ended[name]) for name in order}


def _attempt(contestant: Contestant, span: slice, warmup: int, clock: Clock) -> Block:
    call, before, warm = contestant.call, contestant.before, contestant.warm or contestant.call
    arguments = contestant.arguments[span]
    others = before.arguments[span] if before is not None else ()
    for argument in arguments[:warmup]:
        warm(argument)
    samples = []
    cpu, begin = clock.cpu(), clock.wall()
    for number, argument in enumerate(arguments):
        if before is not None:
            before.call(others[number])
        start = clock.wall()
        call(argument)
        samples.append(clock.wall() - start)
    wall_ns, cpu_ns = clock.wall() - begin, clock.cpu() - cpu
    return Block(tuple(sample / 1e6 for sample in samples), wall_ns, cpu_ns)


def _spans(calls: int, protocol: Protocol) -> list[slice]:
    """Consecutive spans of as equal a length as possible."""
    count = protocol.blocks(calls)
    edges = [calls * edge // count for edge in range(count + 1)]
    return [slice(start, stop) for start, stop in pairwise(edges)]


def _joined(blocks: Sequence[Block], started: float, ended: float) -> Round:
    wall = sum(block.wall_ns for block in blocks)
    share = sum(block.cpu_ns for block in blocks) / wall if wall else 1.0
    return Round(tuple(sample for block in blocks for sample in block.samples_ms), started, ended, share)


@contextmanager
def _collector_paused() -> Iterator[None]:
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
