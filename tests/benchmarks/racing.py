"""What racing and reuse save: every design of a search scored on all rows, raced, and raced on kept hidden states.

    python tests/benchmarks/racing.py [--quick] [--seeds N]

Method, fixed before the runs: movie-reviews and MiniLM, the default space and sampler, all 1,500 search rows; every
seed draws its own splits, teacher and search. The three take turns at each design in the same process. The search goes
on with what the race says, as in a run; what the full score would have said is kept beside it. Wrongly stopped is a
design that the race ended although its full figures belong on the front of all designs. Hypervolume is of search
figures, of the raced designs over that of all.
"""

import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from front_runs import Asked
from report import Claim, table, write

from evaluators.base import Evaluator, Job, Score
from evaluators.transformer import TransformerEvaluator
from search import wiring
from search.config import RunConfig
from search.front import front, front_hypervolume
from search.loop import Meter, run
from search.progress import Display
from search.runners.inline import InlineRunner
from spaces.objectives import Complete, Evaluation, Stopped

TRIALS = 100
# Bounds of the "done when", line 2.
SAVED, WRONG = 3.0, 0.02


def main() -> None:
    """Run every seed, print the table and, unless --quick, write it."""
    asked = Asked.parse()
    rows = []
    for seed in asked.seeds:
        rows.append(_row(seed, quick=asked.quick))
        print(table(rows[-1:]), flush=True)
        if not asked.quick:
            claims = [
                Claim("5.2a", "time saved by racing and reuse, times", ">=", SAVED, _column(rows, "times saved")),
                Claim("5.2b", "wrongly stopped members of the front", "<=", WRONG, _column(rows, "wrongly stopped")),
                Claim("5.2c", "hypervolume over that of all scored fully", ">=", 0.99, _column(rows, "hypervolume")),
            ]
            write("racing", asked.seeds, rows, claims, missing=len(asked.seeds) - len(rows))


def _column(rows: list[dict[str, Any]], name: str) -> tuple[float, ...]:
    return tuple(float(row[name]) for row in rows)


@dataclass
class AllWays:
    """Scores a design fully, races it, and races it on kept states; the search is told what the race says."""

    plain: Evaluator
    reusing: Evaluator
    full: dict[str, Complete] = field(default_factory=dict)
    raced: dict[str, Complete | Stopped] = field(default_factory=dict)
    seconds: Counter[str] = field(default_factory=Counter)

    def evaluate(self, job: Job) -> Evaluation:
        assert isinstance(job, Score), "a search scores"
        whole = self._timed("full", self.plain, replace(job, race=None))
        raced = self._timed("raced", self.plain, job)
        reused = self._timed("both", self.reusing, job)
        assert reused.outcome == raced.outcome
        assert isinstance(whole.outcome, Complete)
        assert isinstance(raced.outcome, Complete | Stopped)
        self.full[job.key], self.raced[job.key] = whole.outcome, raced.outcome
        return raced

    def _timed(self, name: str, evaluator: Evaluator, job: Score) -> Evaluation:
        begin = time.perf_counter()
        evaluation = evaluator.evaluate(job)
        self.seconds[name] += time.perf_counter() - begin
        return evaluation


def _row(seed: int, *, quick: bool) -> dict[str, Any]:
    trials = 30 if quick else TRIALS
    config = RunConfig.parse({"search": {"seed": seed, "trials": trials, "rows": 200 if quick else 1500}})
    with tempfile.TemporaryDirectory() as scratch:
        folder, display = Path(scratch) / "run", Display()
        prepared = wiring.prepare_run(config, folder, display)
        space = wiring.space(config, prepared)
        record = wiring.record(config, folder, (), space, prepared)
        ways = AllWays(*(TransformerEvaluator(prepared.workload, reuse_prefixes=reuse) for reuse in (False, True)))
        sampler = wiring.sampler(config, record, space, prepared, folder, display)
        race, meter = wiring.race(config, record), Meter(trials)
        run(space, sampler, InlineRunner(lambda: ways), record, rows=config.score_rows, meter=meter, race=race)
    best = {key for key, _ in front(list(ways.full.items()), costs=lambda pair: _costs(pair[1].values))}
    stopped = {key for key, outcome in ways.raced.items() if isinstance(outcome, Stopped)}
    left = [outcome for key, outcome in ways.full.items() if key not in stopped]
    return {
        "seed": seed,
        "designs": len(ways.full),
        "stopped": len(stopped),
        "on the front": len(best),
        "wrongly stopped": len(stopped & best) / len(best),
        "full s": ways.seconds["full"],
        "raced s": ways.seconds["raced"],
        "raced, reused s": ways.seconds["both"],
        "times saved by racing": ways.seconds["full"] / ways.seconds["raced"],
        "times saved": ways.seconds["full"] / ways.seconds["both"],
        "hypervolume": _hypervolume(left, prepared.fair) / _hypervolume(list(ways.full.values()), prepared.fair),
    }


def _costs(values: Mapping[str, float]) -> list[float]:
    return [values["kl"], values["latency"], values["size"]]


def _hypervolume(outcomes: list[Complete], fair: Mapping[str, float]) -> float:
    rows = [
        {**outcome.values, "accuracy": fair["accuracy"] - outcome.extras["accuracy_drop_estimate"]}
        for outcome in outcomes
    ]
    return front_hypervolume(rows, fair, ("accuracy", "latency", "size"))


if __name__ == "__main__":
    main()
