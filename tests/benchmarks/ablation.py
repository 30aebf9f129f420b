"""What each part of the default search contributes: the search without it, design for design and second for second.

    python tests/benchmarks/ablation.py [--quick] [--seeds N] [--tasks movie-reviews mail-spam]

Method, fixed before the runs: that of search_quality.py, whose runs and scores it shares. Left out, one at a time: what
is foreseen of designs (`search.surrogate`; four designs in five are then children of the front), racing
(`search.racing`), and the seeds (from the original alone). Nothing is claimed: the table says what each is worth.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

from search_quality import OURS, Method, auto, compared, study

SEEDS = (0, 1, 2)
METHODS: Mapping[str, Method] = {
    OURS: Method(auto, foresees=True, races=True),
    "without foresight": Method(partial(auto, foresees=False), races=True),
    "without racing": Method(auto, foresees=True),
    "without seeds": Method(partial(auto, seeds=False), foresees=True, races=True),
}


def main() -> None:
    """Run what is not there yet, print the table and, unless --quick, write it."""
    study("ablation", SEEDS, METHODS, _compared, lambda rows: [])


def _compared(task: str, seed: int, quick: bool) -> list[dict[str, Any]]:
    return compared(task, seed, METHODS, quick=quick)


if __name__ == "__main__":
    main()
