"""Whether a latency is found again later, and whether a busy neighbour moves the speed-ups.

    python tests/benchmarks/repeated_latency.py [--runs FOLDER] [--quick] [--seeds N]

Method, fixed before the runs: the verified single models of finished movie-reviews runs (FOLDER/SEED, by default those
of front.py), in three sessions as verification times them: all members and baselines taking turns on 100 search rows,
9 rounds in 3 fresh processes. The second session begins a minute after the first. During the third a process without
pause runs on the other core. A member's latency is taken in shares of the original's in the same session, so that a
machine that has become faster or slower as a whole does not count; raw ratios stand beside. The interval of the ratio
of two sessions is Student's over the processes' logarithms: processes, not rounds, are what a session draws anew.
"""

import argparse
import math
import multiprocessing
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from report import ROOT, Claim, table, write
from scipy.stats import t as student

from evaluators.artifact import Artifact
from evaluators.exported import contender
from evaluators.metrics.host import this_target
from evaluators.metrics.latency import Latency, Measurement, measure, sample_inputs
from evaluators.tasks.base import encode
from evaluators.tasks.movie_reviews import MovieReviews
from search import front_file
from search.wiring import runtime_version

SEEDS = (0, 1, 2)
INPUTS, ROUNDS, PROCESSES, PAUSE_S = 100, 9, 3, 60.0
COVERED, MOVED = 0.93, 0.05
BASELINES = ("fair", "one_liner", "pipeline")


def main() -> None:
    """Measure three sessions per seed, print the table and, unless --quick, write it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=Path, default=ROOT / "results" / "front")
    parser.add_argument("--quick", action="store_true", help="one seed, few rounds, no pause, writes nothing")
    parser.add_argument("--seeds", type=int, default=len(SEEDS))
    asked = parser.parse_args()
    seeds = SEEDS[: 1 if asked.quick else asked.seeds]
    rows: list[dict[str, Any]] = []
    for number, seed in enumerate(seeds, start=1):
        rows += _rows(seed, _sessions(asked.runs / str(seed), seed, quick=asked.quick))
        print(table([row for row in rows if row["seed"] == seed]), flush=True)
        if not asked.quick:
            text = write("repeated_latency", seeds[:number], rows, _claims(rows, seeds[:number]))
    print(table(rows) if asked.quick else text)


def _sessions(run: Path, seed: int, *, quick: bool) -> list[Measurement]:
    """The first, a later one, and one beside a busy core."""
    front, texts = front_file.read(run), MovieReviews().splits(seed).search
    fair = Artifact.open(run / "baseline" / "fair", threads=1)
    encoded = encode(texts, fair.tokenizer, fair.max_length)
    rows = sample_inputs(encoded, INPUTS, seed=seed)
    folders = {name: run / "baseline" / name for name in BASELINES}
    whole = [each for each in front.members if each.kind == "single" and each.verified and _reads_like_fair(each)]
    folders |= {each.key: run / str(each.artifact) for each in whole}
    target = this_target("onnxruntime", runtime_version("onnxruntime"), 1, 1, "real")

    def session() -> Measurement:
        return measure(
            [contender(name, folder) for name, folder in folders.items()],
            [encoded.inputs[row] for row in rows],
            texts=texts.take(rows).texts,
            target=target,
            rounds=3 if quick else ROUNDS,
            processes=PROCESSES,
            seed=seed,
        )

    first = session()
    time.sleep(0 if quick else PAUSE_S)
    later = session()
    with _hog():
        return [first, later, session()]


def _reads_like_fair(member: Any) -> bool:
    """Whether it has the whole vocabulary, so that it takes the same inputs."""
    return (member.decoded or {}).get("embeddings", {}).get("vocabulary") is None


@contextmanager
def _hog() -> Iterator[None]:
    """A process that never pauses, on the last core; those that are timed keep to the others."""
    cores = sorted(os.sched_getaffinity(0))
    hog = multiprocessing.get_context("spawn").Process(target=_spin, args=(cores[-1],), daemon=True)
    hog.start()
    os.sched_setaffinity(0, set(cores[:-1]) or {cores[0]})
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)
        hog.terminate()
        hog.join()


def _spin(core: int) -> None:
    os.sched_setaffinity(0, {core})
    matrix = np.ones((512, 512), np.float32)
    while True:
        matrix = np.tanh(matrix @ matrix)


def _rows(seed: int, sessions: Sequence[Measurement]) -> list[dict[str, Any]]:
    first, later, beside = sessions
    rows = []
    for name in first:
        if name in BASELINES:
            continue
        ratio, low, high = _ratio(_shares(later, name), _shares(first, name))
        raw, raw_low, raw_high = _ratio(_means(later[name]), _means(first[name]))
        moves = {base: abs(_speedup(beside, name, base) / _speedup(first, name, base) - 1) for base in BASELINES}
        rows.append(
            {
                "seed": seed,
                "key": name,
                "ms": first[name].mean_ms,
                "ratio": ratio,
                "low": low,
                "high": high,
                "covers 1": low <= 1 <= high,
                "raw ratio": raw,
                "raw covers 1": raw_low <= 1 <= raw_high,
                **{f"moved over {base}": move for base, move in moves.items()},
            }
        )
    return rows


def _means(latency: Latency) -> NDArray[np.float64]:
    """Per process the mean over inputs of each input's median over its rounds."""
    found: NDArray[np.float64] = np.median(latency.array, axis=1).mean(axis=-1)
    return found


def _shares(measured: Measurement, name: str) -> NDArray[np.float64]:
    return _means(measured[name]) / _means(measured["fair"])


def _ratio(later: NDArray[np.float64], first: NDArray[np.float64]) -> tuple[float, float, float]:
    """The ratio of two sessions with its 95 % interval (Student's, of the difference of mean logarithms)."""
    one, two = np.log(later), np.log(first)
    pooled = (one.var(ddof=1) * (len(one) - 1) + two.var(ddof=1) * (len(two) - 1)) / (len(one) + len(two) - 2)
    middle, error = float(one.mean() - two.mean()), math.sqrt(pooled * (1 / len(one) + 1 / len(two)))
    half = float(student.ppf(0.975, len(one) + len(two) - 2)) * error
    return math.exp(middle), math.exp(middle - half), math.exp(middle + half)


def _speedup(measured: Mapping[str, Latency], name: str, base: str) -> float:
    return measured[base].mean_ms / measured[name].mean_ms


def _claims(rows: Sequence[Mapping[str, Any]], seeds: Sequence[int]) -> list[Claim]:
    def per_seed(summary: Any) -> tuple[float, ...]:
        return tuple(float(summary([row for row in rows if row["seed"] == seed])) for seed in seeds)

    def moves(some: Sequence[Mapping[str, Any]]) -> list[float]:
        return [row[f"moved over {base}"] for row in some for base in BASELINES]

    return [
        Claim(
            "3.5a",
            "members whose interval of the ratio of two sessions covers 1",
            ">=",
            COVERED,
            per_seed(lambda some: np.mean([row["covers 1"] for row in some])),
        ),
        Claim(
            "3.5b", "speed-ups beside a busy core: mean move", "<=", MOVED, per_seed(lambda some: np.mean(moves(some)))
        ),
        Claim("3.5c", "the same, largest of all", "<=", MOVED, per_seed(lambda some: max(moves(some)))),
    ]


if __name__ == "__main__":
    main()
