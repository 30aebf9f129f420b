"""What each part of the default search contributes: the search without it, design for design and second for second.

    python tests/benchmarks/ablation.py [--quick] [--seeds N] [--tasks movie-reviews mail-spam]

Method, fixed before the runs: that of search_quality.py, whose runs and scores it shares. Left out, one at a time: what
is foreseen of designs (`search.surrogate`; four designs in five are then children of the front), racing
(`search.racing`), and the seeds (from the original alone). Nothing is claimed: the table says what each is worth.
"""

import argparse
import os
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import partial
from multiprocessing import get_context
from typing import Any

from report import table, write
from search_quality import OURS, TASKS, Method, auto, compared

SEEDS = (0, 1, 2)
METHODS: Mapping[str, Method] = {
    OURS: Method(auto, foresees=True, races=True),
    "without foresight": Method(partial(auto, foresees=False), races=True),
    "without racing": Method(auto, foresees=True),
    "without seeds": Method(partial(auto, seeds=False), foresees=True, races=True),
}


def main() -> None:
    """Run what is not there yet, print the table and, unless --quick, write it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="one seed, few designs, writes nothing")
    parser.add_argument("--seeds", type=int, default=len(SEEDS))
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    asked = parser.parse_args()
    seeds = SEEDS[: 1 if asked.quick else asked.seeds]
    rows: list[dict[str, Any]] = []
    with ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("spawn")) as pool:
        waiting = [pool.submit(_compared, task, seed, asked.quick) for seed in seeds for task in asked.tasks]
        for done in as_completed(waiting):
            rows += done.result()
            rows.sort(key=lambda row: (row["task"], row["seed"], row["method"]))
            print(table(done.result()), flush=True)
            if not asked.quick:
                missing = len(SEEDS) * len(TASKS) * len(METHODS) - len(rows)
                write("ablation", seeds, rows, [], missing=missing)


def _compared(task: str, seed: int, quick: bool) -> list[dict[str, Any]]:
    return compared(task, seed, METHODS, quick=quick)


if __name__ == "__main__":
    main()
