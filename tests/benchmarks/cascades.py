"""What cascades of front members add to the front: the fastest within 1 %, all of them beside what was predicted.

    python tests/benchmarks/cascades.py [--quick] [--seeds N]

Method, fixed before the runs: the runs of front.py, whose cascades were planned from kept logits, built, exported and
timed over the real mix of lengths as users get them. The fastest cascade within 1 % of `fair` on confirm is picked per
seed; then its test rows are read. Every exported cascade is held against its own last member on confirm rows, paired.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from front_runs import Asked, Losses, interval, losing_at_most, losses_on_test, right
from front_runs import relative_loss as relative_loss_on_confirm
from report import Claim, table, write

from evaluators.tasks.base import Rows
from evaluators.tasks.movie_reviews import MovieReviews
from search import front_file
from search.figures import MemberFigures
from search.select import eligible, fastest

# Bounds of the "done when", line 3.
LOSS, OVER_FAIR, MOST_LOST, PREDICTED, MORE_VOLUME = 0.01, 9.0, 0.01, 0.1, 1.05


def main() -> None:
    """Read the runs, make what is missing, print the table and, unless --quick, write it."""
    asked = Asked.parse()
    rows: list[dict[str, Any]] = []
    losses: list[Losses] = []
    volumes: list[float] = []
    for number, seed in enumerate(asked.seeds, start=1):
        folder = asked.run(seed)
        front = front_file.read(folder)
        assert front.hypervolume_with_cascades is not None, f"{folder} has no cascades"
        volumes.append(front.hypervolume_with_cascades / front.hypervolume)
        picked = fastest(losing_at_most(front, LOSS, "cascade"))
        lost, _ = losses_on_test(folder, str(picked.artifact), seed)
        losses.append(lost)
        confirm = MovieReviews().splits(seed).confirm
        rows += [
            _row(folder, seed, each, confirm, picked=each.key == picked.key)
            for each in eligible(front.members, "cascade")
        ]
        print(table([row for row in rows if row["seed"] == seed]), flush=True)
        if not asked.quick:
            text = write("cascades", asked.seeds[:number], rows, _claims(rows, losses, volumes))
    print(table(rows) if asked.quick else text)


def _row(folder: Path, seed: int, cascade: MemberFigures, confirm: Rows, *, picked: bool) -> dict[str, Any]:
    assert cascade.latency is not None
    assert cascade.size is not None
    gained, low, high = _against_last(folder, cascade, confirm)
    return {
        "seed": seed,
        "key": cascade.key,
        "stages": " > ".join(f"{stage['key']} ({stage['reached']:.0%})" for stage in cascade.stages),
        "picked": "yes" if picked else "",
        "x fair": cascade.latency.speedup["fair"].value,
        "x one_liner": cascade.latency.speedup["one_liner"].value,
        "ms": cascade.latency.mean_ms,
        "ms over predicted": cascade.latency.mean_ms / cascade.fidelity["predicted_ms"],
        "MB": cascade.size.bytes / 1e6,
        "relative loss confirm": relative_loss_on_confirm(cascade),
        "gain over last": gained,
        "gain low": low,
        "gain high": high,
    }


def _against_last(folder: Path, cascade: MemberFigures, confirm: Rows) -> tuple[float, float, float]:
    """Accuracy gained over the last member on the same rows, as a fraction, with its 95 % interval."""
    kept = folder / "confirm_of_benchmark.json"
    known: dict[str, list[bool]] = json.loads(kept.read_text()) if kept.exists() else {}
    keys = cascade.key, str(cascade.stages[-1]["key"])
    for key in keys:
        if key not in known:
            known[key] = right(folder / "models" / key, confirm)
            kept.write_text(json.dumps(known))
    own, last = (np.asarray(known[key], dtype=np.float64) for key in keys)
    return interval([own - last])


def _claims(rows: Sequence[Mapping[str, Any]], losses: Sequence[Losses], volumes: Sequence[float]) -> list[Claim]:
    picked = [row for row in rows if row["picked"]]
    mean, _, _ = interval(losses)
    sound = [row["gain low"] <= 0 <= row["gain high"] or row["gain low"] > -MOST_LOST for row in rows]
    off = [abs(row["ms over predicted"] - 1) for row in rows]
    return [
        Claim("2.3a", "fastest cascade: speed-up over fair", ">=", OVER_FAIR, tuple(row["x fair"] for row in picked)),
        Claim("2.3b", "its relative loss on pooled test rows", "<=", LOSS, (mean,)),
        Claim("2.3c", "share of cascades not worse than their last member", "==", 1.0, (float(np.mean(sound)),)),
        Claim("2.3d", "largest error of predicted latency, all cascades", "<=", PREDICTED, (max(off),)),
        Claim("2.3e", "hypervolume with cascades over without", ">=", MORE_VOLUME, tuple(volumes)),
    ]


if __name__ == "__main__":
    main()
