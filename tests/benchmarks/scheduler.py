"""How busy a driver keeps many workers, and what a trial costs it as the record grows.

    python tests/benchmarks/scheduler.py [--quick] [--seeds N]

Method, fixed before the runs: 64 Ray actors on this machine sleep 2 s per trial (the evaluator is synthetic, its space
has as many knobs as MiniLM's); the default sampler proposes 2,000 trials through the search loop into a study.log on
disk. Ideal is a trial per worker every 2 s, from the first submission to the last trial recorded. A trial's cost is all
that the driver does outside the runner: asking, recording, telling, progress; the mean of the 100 trials before trial
400, and of the last 100 that are still followed by an ask. Sleeping workers need no core, so two cores are enough.
"""

import argparse
import resource
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from report import Claim, table, write

from evaluators.base import Job
from evaluators.synthetic import SyntheticEvaluator, synthetic_space
from search.loop import Meter
from search.loop import run as loop
from search.record import Record
from search.runners.base import Runner
from search.runners.ray_pool import RayRunner
from search.samplers.auto import AutoSampler
from spaces.objectives import KL, LATENCY, SIZE, Evaluation

SEEDS = (0, 1, 2)
WORKERS, SECONDS, TRIALS, KNOBS = 64, 2.0, 2000, 30
EARLY, WINDOW = 400, 100
# Bounds of the "done when", line 3.
OF_IDEAL, COST_MS, GROWTH = 0.92, 20.0, 1.5


class Clocked:
    """A runner that notes how long the driver was elsewhere between two of its trials.

    Args:
        inner: does the work.
    """

    def __init__(self, inner: Runner) -> None:
        self._inner = inner
        self._left = self._outside = 0.0
        self.costs: list[float] = []  # seconds outside, one per trial
        self.peaks: list[float] = []  # MB that the driver had at most until then

    @property
    def slots(self) -> int:
        return self._inner.slots

    def submit(self, job: Job) -> None:
        with self._inside():
            self._inner.submit(job)

    def next_done(self, timeout: float | None = None) -> Evaluation | None:
        with self._inside():
            self.costs.append(self._outside)
            self.peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
            self._outside = 0.0
            return self._inner.next_done(timeout)

    def close(self) -> None:
        self._inner.close()

    @contextmanager
    def _inside(self) -> Iterator[None]:
        if self._left:
            self._outside += time.perf_counter() - self._left
        yield
        self._left = time.perf_counter()


def main() -> None:
    """Run every seed, print the table and, unless --quick, write it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="8 workers, 600 trials of 0.2 s, writes nothing")
    parser.add_argument("--seeds", type=int, default=len(SEEDS))
    asked = parser.parse_args()
    seeds = SEEDS[: 1 if asked.quick else asked.seeds]
    size = (8, 0.2, 600) if asked.quick else (WORKERS, SECONDS, TRIALS)
    rows = [_searched(seed, *size) for seed in seeds]
    if asked.quick:
        print(table(rows))
    else:
        print(write("scheduler", seeds, rows, _claims(rows)))


def _searched(seed: int, workers: int, seconds: float, trials: int) -> dict[str, Any]:
    space = synthetic_space(KNOBS)
    with (
        tempfile.TemporaryDirectory() as scratch,
        closing(Clocked(RayRunner(partial(SyntheticEvaluator, seconds=seconds), workers=workers))) as runner,
    ):
        record = Record.create(Path(scratch) / "run", objectives=(KL, LATENCY, SIZE), bounds=())
        sampler = AutoSampler(record, space, seeds=space.seeds(), seed=seed, trials=trials)
        summary = loop(space, sampler, runner, record, rows=None, meter=Meter(trials))
        assert summary.evaluated == trials
    early, late = (runner.costs[end - WINDOW : end] for end in (EARLY, trials - workers))
    row = {
        "seed": seed,
        "workers": workers,
        "trials": trials,
        "seconds": summary.seconds,
        "of ideal rate": trials * seconds / workers / summary.seconds,
        f"ms per trial before {EARLY}": 1000 * statistics.mean(early),
        "ms per trial at the end": 1000 * statistics.mean(late),
        "growth": statistics.mean(late) / statistics.mean(early),
        "driver MB at first": runner.peaks[0],
        "driver MB at the end": runner.peaks[-1],
    }
    print(table([row]), flush=True)
    return row


def _claims(rows: list[dict[str, Any]]) -> list[Claim]:
    def values(column: str) -> tuple[float, ...]:
        return tuple(row[column] for row in rows)

    return [
        Claim("3.3a", "trials per second over the ideal rate", ">=", OF_IDEAL, values("of ideal rate")),
        Claim("3.3b", "ms of the driver per trial at the end", "<=", COST_MS, values("ms per trial at the end")),
        Claim("3.3c", f"the same over its value at trial {EARLY}", "<=", GROWTH, values("growth")),
    ]


if __name__ == "__main__":
    main()
