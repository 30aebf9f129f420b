"""Blocks, turns and repeats of the timing protocol, on a simulated clock."""

import random
from collections.abc import Iterable
from dataclasses import replace

import pytest

from evaluators.metrics.rounds import Clock, Contestant, Protocol, time_block, time_round


class Machine:
    """A simulated host: calls take the time they are asked to, disturbances take wall time only."""

    def __init__(self, disturbances: Iterable[int] = ()) -> None:
        self.wall = self.cpu = 0
        self.calls: list[tuple[str, int]] = []
        self._disturbances = iter(disturbances)

    @property
    def clock(self) -> Clock:
        return Clock(wall=lambda: self.wall, cpu=lambda: self.cpu, now=lambda: self.wall / 1e9)

    def contestant(self, name: str, milliseconds: list[int]) -> Contestant:
        def call(index: int) -> None:
            self.calls.append((name, index))
            self.wall += milliseconds[index] * 1_000_000 + next(self._disturbances, 0)
            self.cpu += milliseconds[index] * 1_000_000

        return Contestant(call, list(range(len(milliseconds))))


def test_a_calls_sample_is_its_wall_time_and_warm_up_calls_are_not_sampled() -> None:
    machine = Machine()
    block = time_block(machine.contestant("a", [3, 1, 2]), slice(0, 3), Protocol(warmup=2), machine.clock)
    assert block.samples_ms == (3.0, 1.0, 2.0)
    assert machine.calls == [("a", 0), ("a", 1), ("a", 0), ("a", 1), ("a", 2)]
    assert block.gap == 0.0


def test_a_disturbed_block_is_repeated_until_wall_and_cpu_time_agree() -> None:
    machine = Machine([0, 5_000_000, 0, 0])
    block = time_block(machine.contestant("a", [10, 10]), slice(0, 2), Protocol(warmup=0), machine.clock)
    assert block.samples_ms == (10.0, 10.0)
    assert len(machine.calls) == 4


def test_the_least_disturbed_of_all_attempts_is_kept_with_its_share() -> None:
    machine = Machine([9_000_000, 3_000_000, 2_000_000, 5_000_000])
    block = time_block(machine.contestant("a", [10]), slice(0, 1), Protocol(warmup=0, repeats=3), machine.clock)
    assert block.samples_ms == (12.0,)
    assert block.gap == pytest.approx(1 - 10 / 12)
    assert len(machine.calls) == 4


def test_nothing_is_repeated_where_cpu_time_says_nothing() -> None:
    machine = Machine([9_000_000])
    block = time_block(machine.contestant("a", [10]), slice(0, 1), Protocol(warmup=0, tolerance=None), machine.clock)
    assert block.samples_ms == (19.0,)
    assert len(machine.calls) == 1


def test_contenders_take_turns_in_blocks_and_keep_the_inputs_order() -> None:
    machine = Machine()
    contestants = {name: machine.contestant(name, list(range(1, 11))) for name in "abc"}
    announced: list[str] = []
    protocol = Protocol(block=5, warmup=0)
    done = time_round(contestants, protocol, random.Random(0), machine.clock, announced.append)
    assert sorted(announced[:3]) == sorted(announced[3:]) == ["a", "b", "c"]
    assert [name for name, _ in machine.calls[:15:5]] == announced[:3]
    assert done["a"].samples_ms == tuple(float(index) for index in range(1, 11))
    assert done["a"].cpu_share == 1.0
    assert done["a"].started < done["a"].ended


def test_the_order_of_turns_is_drawn_for_each_round_from_the_seed() -> None:
    def orders(seed: int) -> list[str]:
        machine, rng, said = Machine(), random.Random(seed), list[str]()
        contestants = {name: machine.contestant(name, [1]) for name in "abcdefgh"}
        for _ in range(2):
            time_round(contestants, Protocol(), rng, machine.clock, said.append)
        return said

    assert orders(0) == orders(0)
    assert orders(0)[:8] != orders(0)[8:]


@pytest.mark.parametrize(("calls", "blocks"), [(1, 1), (25, 1), (40, 2), (100, 4), (110, 4)])
def test_blocks_are_about_as_long_as_asked(calls: int, blocks: int) -> None:
    assert Protocol(block=25).blocks(calls) == blocks


def test_repeats_are_counted_per_block() -> None:
    machine = Machine([0, 0, 5_000_000, 0, 0, 0])
    contestants = {"a": machine.contestant("a", [10, 10, 10, 10])}
    protocol = replace(Protocol(), block=2, warmup=0)
    done = time_round(contestants, protocol, random.Random(0), machine.clock, lambda name: None)
    assert done["a"].samples_ms == (10.0,) * 4
    assert [index for _, index in machine.calls] == [0, 1, 2, 3, 2, 3]
