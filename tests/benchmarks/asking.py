"""What a proposal costs the driver when a run has thousands of trials and many workers wait.

    python tests/benchmarks/asking.py [--quick] [--seeds N]

Method, fixed before the runs: the default sampler over the default space of a model of MiniLM's shape, figures in
closed form (closed_form.py), so that nothing but the sampler takes time; 32 designs always in flight, 2,000 in all.
Counted is the wall time of `ask`, the mean over the last 200; the samplers that are exempt from the bound print theirs
for fewer trials.
"""

import argparse
import statistics
import tempfile
from pathlib import Path
from typing import Any

from clocked import Clocked
from closed_form import Queue, closed_form
from report import Claim, table, write

from search.loop import Meter
from search.loop import run as loop
from search.record import Record
from search.samplers import optuna_bridge as bridge
from search.samplers.auto import AutoSampler
from search.samplers.base import Sampler
from spaces.objectives import KL, LATENCY, SIZE

SEEDS = (0, 1, 2)
TRIALS, IN_FLIGHT, WINDOW = 2000, 32, 200
EXEMPT = {"tpe": 200, "gp": 20}
# Bound of the "done when", line 4.
MILLISECONDS = 20.0


def main() -> None:
    """Run every seed, print the table and, unless --quick, write it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="one seed, 300 trials, writes nothing")
    parser.add_argument("--seeds", type=int, default=len(SEEDS))
    asked = parser.parse_args()
    rows = []
    for seed in SEEDS[: 1 if asked.quick else asked.seeds]:
        for name in ("auto",) if asked.quick else ("auto", "tpe", "gp"):
            rows.append(_row(seed, name, asked.quick))
            print(table(rows[-1:]), flush=True)
    if not asked.quick:
        own = [row for row in rows if row["sampler"] == "auto"]
        cost, twice = (tuple(row[name] for row in own) for name in ("ms per ask at the end", "evaluated twice"))
        claims = [
            Claim("5.4a", f"auto: ms per ask at trial {TRIALS}", "<=", MILLISECONDS, cost),
            Claim("5.4b", f"auto: duplicates in {TRIALS}", "==", 0.0, twice),
        ]
        write("asking", SEEDS[: asked.seeds], rows, claims, missing=3 * (len(SEEDS) - asked.seeds))


def _row(seed: int, name: str, quick: bool) -> dict[str, Any]:
    trials = 300 if quick else {"auto": TRIALS, **EXEMPT}[name]
    space, foresight = closed_form(seed)
    with tempfile.TemporaryDirectory() as scratch:
        record = Record.create(Path(scratch) / "run", objectives=(KL, LATENCY, SIZE), bounds=())
        common: dict[str, Any] = {"seeds": space.seeds(), "seed": seed, "trials": trials}
        sampler: Sampler
        if name == "auto":
            sampler = AutoSampler(record, space, foreseer=foresight, **common)
        else:
            sampler = bridge.OptunaSampler(record, space, {"tpe": bridge.tpe, "gp": bridge.gp}[name], **common)
        clocked = Clocked(sampler)
        loop(space, clocked, Queue(foresight, IN_FLIGHT), record, rows=None, meter=Meter(trials))
        keys = [trial.key for trial in record.trials()]
        evaluated = len(record.ended)
    return {
        "seed": seed,
        "sampler": name,
        "trials": evaluated,
        "ms per ask at the end": 1000 * statistics.mean(clocked.seconds[-WINDOW:]),
        "the longest ask": 1000 * max(clocked.seconds[-WINDOW:]),
        "evaluated twice": evaluated - len(set(keys)),
    }


if __name__ == "__main__":
    main()
