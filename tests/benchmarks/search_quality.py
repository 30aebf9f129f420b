"""Whether the search is better than what an expert would do instead, design for design and second for second.

    python tests/benchmarks/search_quality.py [--quick] [--seeds N] [--tasks movie-reviews mail-spam]

Method, fixed before the runs: MiniLM; movie-reviews, and mail-spam cut at 128 tokens; pruning and widths. A seed draws
splits, teacher and search; all methods of a seed share the teacher, the latency model, the rows that score designs (the
first 300 search rows) and the scores themselves. Every method has 100 designs. `auto` is the project's, raced, and pays
for what it measures beforehand; so do programming and evolution, which read the same figures. Rivals: uniform ladder
and moves around the front; programming and evolution (rivals.py); Optuna's random, NSGA-II and TPE in the project's
encoding, and syne-tune's regularised evolution, from its seeds; TPE and NSGA-II in the flat space (flat_space.py), from
the original.

Counted after 25, 50, 75 and 100 designs, and at equal seconds: the set that a method would choose, the front of its
search figures, on the confirm rows: its hypervolume (normalised as in a run's report, reference the original), and how
many times faster than the original its fastest member is that loses at most a point there. Seconds are those of
processors, spent on evaluations and on asking, which other work on the machine hardly touches. Paired differences over
seeds, Wilcoxon's signed-rank test, Holm's correction over rivals.
Every method's trials are kept under results/search_quality/, and the command continues.
"""

import argparse
import json
import os
import random
import shutil
import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from clocked import Clocked
from flat_space import flat_space
from report import ROOT, Claim, table, write
from rivals import Evolved, Listed, programmed
from scipy.stats import wilcoxon
from syne_tune_rival import Regularised

from evaluators.base import Evaluator, Foreseer, Job, Score
from evaluators.damage import FILE as DAMAGE
from evaluators.prepare import Prepared
from evaluators.transformer import TransformerEvaluator
from search import wiring
from search.config import RunConfig
from search.front import front, front_hypervolume
from search.loop import Meter, run
from search.progress import Display
from search.racing import Racing
from search.record import Record
from search.runners.inline import InlineRunner
from search.samplers import optuna_bridge as bridge
from search.samplers.auto import AutoSampler, FrontMoves
from search.samplers.base import Sampler
from spaces.design import Member
from spaces.objectives import Complete, Evaluation
from spaces.space import Space
from spaces.whole import write_whole

SEEDS = tuple(range(10))
DESIGNS, CHECKPOINTS = 100, (25, 50, 75, 100)
ROWS, CONFIRM = 300, 1500
WITHIN = 0.01
# Bounds of the "done when", line 1.
FASTER, SURE = 1.1, 0.05
RUNS = ROOT / "results" / "search_quality"
TASKS: Mapping[str, dict[str, Any]] = {
    "movie-reviews": {"task": {"name": "movie-reviews"}},
    "mail-spam": {"task": {"name": "mail-spam"}, "finetune": {"max_length": 128}},
}
OURS = "auto"


@dataclass(frozen=True)
class Scene:
    """What the methods of one task and seed share."""

    prepared: Prepared
    ours: Space
    flat: Space
    foreseer: Foreseer
    seed: int
    designs: int


@dataclass(frozen=True)
class Method:
    """How a method's sampler is made, and where it looks."""

    make: Callable[[Record, Scene], Sampler]
    flat: bool = False
    foresees: bool = False  # and pays for it
    races: bool = False


def _optuna(make: bridge.MakeSampler, record: Record, scene: Scene) -> Sampler:
    return bridge.OptunaSampler(
        record, scene.ours, make, seeds=scene.ours.seeds(), seed=scene.seed, trials=scene.designs
    )


def _flat(make: bridge.MakeSampler, record: Record, scene: Scene) -> Sampler:
    return bridge.OptunaSampler(record, scene.flat, make, seeds=[scene.flat.identity()], seed=scene.seed)


def auto(record: Record, scene: Scene, *, seeds: bool = True, foresees: bool = True) -> Sampler:
    """The project's sampler, or without parts of it."""
    first = scene.ours.seeds() if seeds else [scene.ours.identity()]
    foreseer = scene.foreseer if foresees else None
    return AutoSampler(record, scene.ours, seeds=first, seed=scene.seed, trials=scene.designs, foreseer=foreseer)


def _ladder(record: Record, scene: Scene) -> Sampler:
    moves = FrontMoves(record, scene.ours, random.Random(scene.seed))
    further = (design for _ in range(50 * scene.designs) if (design := moves()) is not None)
    return Listed(scene.ours, chain(bridge.spread(scene.ours.seeds(), scene.designs), further))


METHODS: Mapping[str, Method] = {
    OURS: Method(auto, foresees=True, races=True),
    "ladder + moves": Method(_ladder),
    "programming": Method(
        lambda record, scene: Listed(scene.flat, programmed(scene.flat, scene.foreseer, scene.designs)),
        flat=True,
        foresees=True,
    ),
    "evolution": Method(
        lambda record, scene: Evolved(record, scene.flat, scene.foreseer, scene.seed), flat=True, foresees=True
    ),
    "random": Method(partial(_optuna, bridge.random)),
    "NSGA-II": Method(partial(_optuna, bridge.nsga2)),
    "TPE": Method(partial(_optuna, bridge.tpe)),
    "syne-tune": Method(
        lambda record, scene: Regularised(
            record, scene.ours, bridge.spread(scene.ours.seeds(), scene.designs), scene.seed
        )
    ),
    "flat NSGA-II": Method(partial(_flat, bridge.nsga2), flat=True),
    "flat TPE": Method(partial(_flat, bridge.tpe), flat=True),
}


def main() -> None:
    """Run what is not there yet, print the table and, unless --quick, write it."""
    study("search_quality", SEEDS, METHODS, _compared, _claims)


def study(
    name: str,
    all_seeds: Sequence[int],
    methods: Mapping[str, Method],
    each: Callable[[str, int, bool], list[dict[str, Any]]],
    claims: Callable[[list[dict[str, Any]]], list[Claim]],
) -> None:
    """What the command line asks of a comparison of methods.

    Args:
        name: of the table's files.
        all_seeds: those of the whole study.
        methods: what is compared.
        each: rows of one task and seed, quick or not; a function of a module, as other processes call it.
        claims: that follow from rows.
    """
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="one seed, few designs, writes nothing")
    parser.add_argument("--seeds", type=int, default=len(all_seeds))
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    asked = parser.parse_args()
    seeds = all_seeds[: 1 if asked.quick else asked.seeds]
    rows: list[dict[str, Any]] = []
    # Scores, predicted latencies and processor seconds are compared: several may run beside each other.
    with ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("spawn")) as pool:
        waiting = [pool.submit(each, task, seed, asked.quick) for seed in seeds for task in asked.tasks]
        for done in as_completed(waiting):
            rows += done.result()
            rows.sort(key=lambda row: (row["task"], row["seed"], row["method"]))
            print(table(done.result()), flush=True)
            if not asked.quick:
                missing = len(all_seeds) * len(TASKS) * len(methods) - len(rows)
                write(name, seeds, rows, claims(rows), missing=missing)


def _compared(task: str, seed: int, quick: bool) -> list[dict[str, Any]]:
    return compared(task, seed, METHODS, quick=quick)


def compared(task: str, seed: int, methods: Mapping[str, Method], *, quick: bool) -> list[dict[str, Any]]:
    """One row per method; OURS is among them, and its seconds are what all have at equal seconds."""
    folder = (RUNS.with_name("search_quality_quick") if quick else RUNS) / f"{task}-{seed}"
    config = RunConfig.parse({**TASKS[task], "search": {"seed": seed, "rows": 50 if quick else ROWS}, "cache": False})
    display = Display()
    prepared = wiring.prepare_run(config, folder, display)
    begin = time.process_time()
    known = (folder / DAMAGE).exists()
    space = wiring.space(config, prepared)
    foreseer = wiring.foreseer(config, space, prepared, folder, display)
    assert foreseer is not None
    beforehand = folder / "beforehand.json"
    if not known:
        beforehand.write_text(json.dumps(time.process_time() - begin))
    flat = flat_space(prepared.shape, prepared.importance, prepared.assignment.runtime.bits)
    scene = Scene(prepared, space, flat, foreseer, seed, 30 if quick else DESIGNS)
    shared = Shared(TransformerEvaluator(prepared.workload), folder / "scores")
    paid, fair = float(json.loads(beforehand.read_text())), prepared.fair
    trials = {name: _trials(folder, name, each, scene, shared, config) for name, each in methods.items()}
    started = {name: paid if each.foresees else 0.0 for name, each in methods.items()}
    seconds = {name: started[name] + ended[-1]["clock"] for name, ended in trials.items()}
    least = seconds[OURS]
    rows = []
    for name, ended in trials.items():
        at = {f"hypervolume at {count}": _quality(ended[:count], scene, shared, fair)[0] for count in CHECKPOINTS}
        spent = [trial for trial in ended if started[name] + trial["clock"] <= least]
        hypervolume, fastest = _quality(spent, scene, shared, fair)
        rows.append(
            {
                "task": task,
                "seed": seed,
                "method": name,
                **at,
                "x fair within 1 pt at 100": _quality(ended, scene, shared, fair)[1],
                "seconds": seconds[name],
                "hypervolume at equal seconds": hypervolume,
                "x fair within 1 pt at equal seconds": fastest,
                "designs at equal seconds": len(spent),
                "stopped": sum(trial["state"] == "stopped" for trial in ended),
            }
        )
    return rows


@dataclass
class Shared:
    """Scores of the same member on the same rows are computed once, and keep the seconds that they took then."""

    inner: Evaluator
    folder: Path

    def evaluate(self, job: Job) -> Evaluation:
        assert isinstance(job, Score), "a search scores"
        path = self.folder / f"{job.key}-{job.split}-{job.rows}.json"
        if path.exists():
            kept = json.loads(path.read_text())
            self.seconds = kept["seconds"]
            if job.race is None or job.race.least(kept["values"]) == float("inf"):
                return Evaluation(job.key, Complete(kept["values"], kept["extras"]))
        begin = time.process_time()
        evaluation = self.inner.evaluate(job)
        self.seconds = time.process_time() - begin
        if isinstance(evaluation.outcome, Complete):
            figures = {"values": dict(evaluation.outcome.values), "extras": dict(evaluation.outcome.extras)}
            write_whole(path, json.dumps({**figures, "seconds": self.seconds}))
        return replace(evaluation, predictions=None)


def _trials(
    folder: Path, name: str, method: Method, scene: Scene, shared: Shared, config: RunConfig
) -> list[dict[str, Any]]:
    """A method's trials in order, with what was spent until each ended."""
    path = folder / f"{name}.json"
    if path.exists():
        known: list[dict[str, Any]] = json.loads(path.read_text())
        return known
    space = scene.flat if method.flat else scene.ours
    own = folder / "runs" / name
    shutil.rmtree(own, ignore_errors=True)  # of an interrupted benchmark
    record = Record.create(own, objectives=wiring.told(config), bounds=())
    sampler = Clocked(method.make(record, scene), time.process_time)
    spent, ended = 0.0, list[dict[str, Any]]()

    def note(_: object) -> None:
        nonlocal spent
        spent += shared.seconds
        trial = record.trial(record.ended[-1])
        ended.append(
            {
                "key": trial.key,
                "decoded": trial.decoded,
                "state": trial.state,
                "values": dict(trial.values),
                "drop": trial.extras.get("accuracy_drop_estimate"),
                "clock": spent + sum(sampler.seconds),
            }
        )

    race = Racing(record) if method.races else lambda: None
    runner, meter = InlineRunner(lambda: shared), Meter(scene.designs)
    run(space, sampler, runner, record, rows=config.score_rows, meter=meter, race=race, watch=note)
    write_whole(path, json.dumps(ended))
    return ended


def _quality(
    trials: Sequence[Mapping[str, Any]], scene: Scene, shared: Shared, fair: Mapping[str, float]
) -> tuple[float, float]:
    """On the confirm rows, hypervolume of the set chosen by search figures, and times faster within a point."""
    complete = [trial for trial in trials if trial["state"] == "complete"]
    best = front(complete, costs=lambda t: [t["values"][name] for name in ("kl", "latency", "size")])
    # Beyond five points nothing counts; on other rows somewhat more might.
    chosen = [trial for trial in best if trial["drop"] <= 0.07]
    found = [_on_confirm(trial, scene, shared) for trial in chosen]
    rows = [{**trial["values"], "accuracy": fair["accuracy"] - drop} for trial, drop in zip(chosen, found, strict=True)]
    within = [trial["values"]["latency"] for trial, drop in zip(chosen, found, strict=True) if drop <= WITHIN]
    fastest = fair["latency"] / min(within) if within else 1.0
    return front_hypervolume(rows, fair, ("accuracy", "latency", "size")), fastest


def _on_confirm(trial: Mapping[str, Any], scene: Scene, shared: Shared) -> float:
    """Drop of accuracy."""
    path = shared.folder / f"{trial['key']}-confirm.json"
    if not path.exists():
        member = scene.ours.member(trial["decoded"], "finetuned")
        write_whole(path, json.dumps(_confirmed(member, scene)))
    return float(json.loads(path.read_text()))


def _confirmed(member: Member, scene: Scene) -> float:
    prepared = scene.prepared
    confirming = replace(prepared.workload, reference=prepared.reference["confirm"])
    outcome = TransformerEvaluator(confirming).evaluate(Score(member, CONFIRM, "confirm")).outcome
    assert isinstance(outcome, Complete)
    return outcome.extras["accuracy_drop"]


def _claims(rows: Sequence[Mapping[str, Any]]) -> list[Claim]:
    claims = []
    for place, task in enumerate(dict.fromkeys(row["task"] for row in rows)):
        own = [row for row in rows if row["task"] == task]
        rivals = [name for name in METHODS if name != OURS]
        letter = "abcdef"[3 * place : 3 * place + 3]
        ratios = [
            [
                ours / theirs
                for ours, theirs in zip(
                    *(_values(own, n, "x fair within 1 pt at equal seconds") for n in (OURS, name)), strict=True
                )
            ]
            for name in rivals
        ]
        best = min(range(len(rivals)), key=lambda index: statistics.mean(ratios[index]))
        claims.append(
            Claim(
                f"5.1{letter[0]}",
                f"{task}: fastest within a point, over {rivals[best]}",
                ">=",
                FASTER,
                tuple(ratios[best]),
            )
        )
        gains = {name: np.subtract(*(_values(own, n, "hypervolume at 100") for n in (OURS, name))) for name in rivals}
        closest = min(gains, key=lambda name: float(gains[name].mean()))
        claims.append(
            Claim(
                f"5.1{letter[1]}",
                f"{task}: hypervolume at 100 over {closest}'s",
                ">=",
                0.0,
                tuple(gains[closest].tolist()),
            )
        )
        if len(gains[closest]) > 1:
            worst = max(_holm([float(wilcoxon(each, alternative="greater").pvalue) for each in gains.values()]))
            claims.append(
                Claim(f"5.1{letter[2]}", f"{task}: largest p over rivals, Holm-adjusted", "<=", SURE, (worst,))
            )
    return claims


def _values(rows: Iterable[Mapping[str, Any]], method: str, column: str) -> list[float]:
    return [float(row[column]) for row in rows if row["method"] == method]


def _holm(values: Sequence[float]) -> list[float]:
    """Adjusted p-values (Holm 1979)."""
    order, adjusted, worst = sorted(range(len(values)), key=values.__getitem__), [0.0] * len(values), 0.0
    for rank, index in enumerate(order):
        worst = max(worst, min(1.0, (len(values) - rank) * values[index]))
        adjusted[index] = worst
    return adjusted


if __name__ == "__main__":
    main()
