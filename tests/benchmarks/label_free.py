"""Whether a certified limit on disagreement holds on texts that no part of the search has seen, without any label.

    python tests/benchmarks/label_free.py [--quick] [--seeds N]

Method, fixed before the runs: a MiniLM classifier fine-tuned once on about 3,600 movie reviews is the user's model. Of
the other 7,000 texts, whose labels are dropped, a seed draws 1,500 fresh ones; the rest is the traffic of
`search --data traffic.jsonl --max-disagreement 1%`, which splits it (1,500 rows to confirm) and searches with that
seed. Counted is the share of the fresh rows that the certified pick, as exported, answers otherwise than the user's
checkpoint in eager torch; a run without a certified pick does not hold its limit.
"""

import json
import statistics
from pathlib import Path
from typing import Any

import numpy as np
from front_runs import Asked
from report import ROOT, Claim, table, write

from evaluators.exported import answers_of
from evaluators.models import ensure_finetuned
from evaluators.tasks.base import Rows, Splits
from evaluators.tasks.movie_reviews import MovieReviews
from evaluators.tasks.splits import SplitSizes
from evaluators.training.finetune import FinetuneSettings
from search import front_file, run
from search.config import RunConfig
from spaces.target import Target

SEEDS, HOLDING = tuple(range(10)), 0.9
LIMIT, TEXTS, FRESH = "1%", 7000, 1500
SPLITS = {"calibration": 500, "search": 1000, "confirm": 1500, "test": 500}
CONFIG: dict[str, Any] = {
    "limits": {"disagreement": LIMIT},
    "search": {"trials": 60},
    "verify": {"members": 8},
}
RUNS = ROOT / "results" / "label_free"


def main() -> None:
    """Run every seed that is missing, print the table and, unless --quick, write it."""
    asked = Asked.parse(SEEDS)
    rows = list[dict[str, Any]]()
    for seed in asked.seeds:
        rows.append(_row(seed, quick=asked.quick))
        print(table(rows[-1:]), flush=True)
        if not asked.quick:
            write("label_free", asked.seeds, rows, [_claim(rows)], missing=len(asked.seeds) - len(rows))


def _row(seed: int, *, quick: bool) -> dict[str, Any]:
    task = MovieReviews(SplitSizes(calibration=1, search=1, confirm=1, test=TEXTS))
    model = ensure_finetuned(
        "minilm",
        task,
        (known := task.splits(0)),
        settings=FinetuneSettings(),
        seed=0,
        max_length=task.max_length,
        trust_remote_code=False,
        watch=lambda *_: None,
    )
    order = np.random.default_rng(seed).permutation(TEXTS).tolist()
    folder = (RUNS.with_name("label_free_quick") if quick else RUNS) / str(seed)
    if not (folder / "run" / front_file.FILE_NAME).exists():
        _search(folder, model, known, order[FRESH:], seed, quick=quick)
    front = front_file.read(folder / "run")
    pick = next((pick for pick in front.picks if pick.name == "certified" and pick.key is not None), None)
    if pick is None:
        return {"seed": seed, "holds": False}
    member = next(member for member in front.members if member.key == pick.key)
    assert member.latency is not None
    fresh, target = Rows(tuple(known.test.texts[row] for row in order[:FRESH]), ()), Target()
    theirs, own = (
        answers_of(path, fresh, target, task.max_length).argmax(-1)
        for path in (model, folder / "run" / str(member.artifact))
    )
    drop = member.accuracy["confirm"].drop
    assert drop is not None
    share = float((theirs != own).mean())
    return {
        "seed": seed,
        "disagreement on confirm": drop.value,
        "disagreement on fresh rows": share,
        "times over fair": member.latency.speedup["fair"].value,
        "times over one_liner": member.latency.speedup["one_liner"].value,
        "holds": share <= float(LIMIT.rstrip("%")) / 100,
    }


def _search(folder: Path, model: Path, known: Splits, traffic: list[int], seed: int, *, quick: bool) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "traffic.jsonl"
    file.write_text("\n".join(json.dumps({"text": known.test.texts[row]}) for row in traffic))
    trials = 20 if quick else CONFIG["search"]["trials"]
    config = {
        **CONFIG,
        "model": str(model),
        "task": {"data": str(file), "splits": SPLITS},
        "search": {"trials": trials, "seed": seed},
    }
    run.search(RunConfig.parse(config), folder / "run")


def _claim(rows: list[dict[str, Any]]) -> Claim:
    held = statistics.mean(float(row["holds"]) for row in rows)
    return Claim("6.3", f"share of seeds whose pick disagrees on at most {LIMIT} of fresh rows", ">=", HOLDING, (held,))


if __name__ == "__main__":
    main()
