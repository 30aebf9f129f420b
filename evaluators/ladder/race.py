"""All rows of the ladder measured in one session, taking turns. Knows folders, processes and clocks.

Knows nothing of how the models were made. Latency is that of one row on one thread; throughput is what the whole
machine answers when rows are handed out one at a time, tokenised beforehand, to the instances of one model.
"""

import math
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain, repeat
from pathlib import Path
from typing import Any

from evaluators.base import Watch
from evaluators.cores import usable_instances
from evaluators.exported import contender
from evaluators.ladder import worker
from evaluators.ladder.padding import padded
from evaluators.ladder.steps import LINEAR, Settings, Step
from evaluators.metrics.latency import Contender, measure
from evaluators.pool import WORKER, Pool, Setup, Task
from evaluators.tasks.base import Encoded, Text
from spaces.target import Target

# Rows that an instance is handed at once: answering them takes longer than handing them out.
_ROWS = 16


@dataclass(frozen=True)
class Race:
    """What everybody runs.

    Args:
        folder: where the models' folders are.
        rows: tokenised at their real lengths.
        texts: the same rows.
        length: tokens that padded inputs are filled up to.
        target: of single calls.
        settings: rounds and seconds.
        seed: of the order of turns.
    """

    folder: Path
    rows: Encoded
    texts: tuple[Text, ...]
    length: int
    target: Target
    settings: Settings
    seed: int

    def latencies(self, steps: Sequence[Step], watch: Watch) -> dict[str, dict[str, float]]:
        """Milliseconds of single calls by `Step.answers`: mean, median and 95th percentile over the rows."""
        contenders = {step.answers: self._contender(step) for step in steps}
        measured = measure(
            list(contenders.values()),
            self.rows.inputs,
            texts=self.texts,
            target=self.target,
            rounds=self.settings.rounds,
            processes=self.settings.processes,
            seed=self.seed,
            progress=partial(watch, "timing"),
        )
        return {
            name: {
                "mean_ms": latency.mean_ms,
                "p50_ms": latency.p50_ms,
                "p95_ms": latency.p95_ms,
                "rounds": latency.rounds,
                "processes": latency.processes,
            }
            for name, latency in measured.items()
        }

    def throughputs(
        self, steps: Sequence[Step], watch: Watch, clock: Callable[[], float] = time.perf_counter
    ) -> dict[str, dict[str, Any]]:
        """By name, how each step is served and the rows per second of each of its turns."""
        rng, names = random.Random(self.seed), {step.name: step for step in steps}
        turns = [name for _ in range(self.settings.turns) for name in rng.sample(sorted(names), len(names))]
        samples: dict[str, list[float]] = {name: [] for name in names}
        for done, name in enumerate(turns):
            watch("serving", done, len(turns))
            samples[name].append(self._turn(names[name], clock))
        return {
            name: {"instances": _instances(step), "threads": _threads(step), "samples": samples[name]}
            for name, step in names.items()
        }

    def _contender(self, step: Step) -> Contender:
        found = contender(step.answers, self.folder / step.folder)
        return replace(found, inputs=tuple(padded(self.rows, self.length).inputs)) if step.padded else found

    def _turn(self, step: Step, clock: Callable[[], float]) -> float:
        """Rows per second of fresh processes, once they are warm."""
        setup = Setup(str(self.folder / step.folder), _threads(step), self.texts, self.length)
        special = step.padded or step.folder == LINEAR
        with Pool(setup, _instances(step), worker.WORKER if special else WORKER) as pool:
            pool.start()
            rate = self._rate(pool, 1, clock)
            return self._rate(pool, max(1, math.ceil(rate * self.settings.seconds / len(self.texts))), clock)

    def _rate(self, pool: Pool, passes: int, clock: Callable[[], float]) -> float:
        starts = range(0, len(self.texts), _ROWS)
        tasks = [Task(tuple(range(start, min(start + _ROWS, len(self.texts)))), batch_size=1) for start in starts]
        begin = clock()
        rows = sum(len(logits) for _, logits in pool.run(chain.from_iterable(repeat(tasks, passes))))
        return rows / (clock() - begin)


def _instances(step: Step) -> int:
    return usable_instances(1) if step.per_core else 1


def _threads(step: Step) -> int:
    return 1 if step.per_core else usable_instances(1)
