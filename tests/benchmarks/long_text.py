"""Texts of hundreds of tokens, where attention and compression matter: e-mails, ham or spam.

    python tests/benchmarks/long_text.py [--quick] [--seeds N]

Method, fixed before the runs: mail-spam and MiniLM, at most 512 tokens; per seed the whole path of `paretoformer
search` over pruning, widths, attention kinds and shares of tokens, then `resume --recover 1`: one structure is
distilled from the original. Counted is the fastest verified member that loses at most half a point on the confirm rows,
over the one-liner beside it; its latency by length, what it reads and how it attends stand in the table, and so do the
fastest without training and the picks. Runs are kept under results/long_text/ and continued.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from front_runs import Asked
from report import ROOT, Claim, table, write

from search import front_file, run
from search.config import RunConfig
from search.figures import MemberFigures
from search.record import Record
from search.recover import STUDY
from search.select import drop
from search.so_far import CONFIG
from search.tables import Parts

# Bounds of the "done when", line 5.
OVER_ONE_LINER, LOST = 3.0, 0.005
TRIALS, ROWS = 80, 200
# Two epochs over the train rows and as many mixed ones: four times as many take this machine hours at such lengths.
RECOVERED = {"recover.members": 1, "recover.epochs": 2, "recover.mixed": 1}
ORIGINAL = "finetuned"
RUNS = ROOT / "results" / "long_text"


def main() -> None:
    """Run what is not there yet, print the table and, unless --quick, write it."""
    asked = Asked.parse()
    runs = RUNS.with_name("long_text_quick") if asked.quick else RUNS
    rows: list[dict[str, Any]] = []
    for seed in asked.seeds:
        rows += _rows(_searched(runs / str(seed), seed, quick=asked.quick), seed)
        print(table([row for row in rows if row["seed"] == seed]), flush=True)
        if not asked.quick:
            fastest = tuple(row["x one_liner"] for row in rows if row["pick"] == "fastest within")
            lost = tuple(row["lost on confirm"] for row in rows if row["pick"] == "fastest within")
            claims = [
                Claim("4.5a", "fastest member within 0.5 points: over one_liner", ">=", OVER_ONE_LINER, fastest),
                Claim("4.5b", "accuracy it loses on confirm", "<=", LOST, lost),
            ]
            write("long_text", asked.seeds, rows, claims, missing=len(asked.seeds) - asked.seeds.index(seed) - 1)


def _searched(folder: Path, seed: int, *, quick: bool) -> Path:
    content: dict[str, Any] = {
        "task": {"name": "mail-spam"},
        "space": {"attention": {"kinds": ["soft", "hard", "sign"], "k": [16, 32]}, "compression": True},
        "finetune": {"epochs": 1, "batch_size": 16},  # 142 steps; three epochs take this machine 40 minutes
        "limits": {"accuracy_drop": "0.5pt"},
        "search": {"seed": seed, "trials": 12 if quick else TRIALS, "rows": ROWS},
        "verify": {"members": 4 if quick else 12, "rounds": 5, "inputs": 40},
        "cache": False,
    }
    if not (folder / front_file.FILE_NAME).exists():
        if (folder / CONFIG).exists():
            run.resume(folder, {})
        else:
            run.search(RunConfig.parse(content), folder)
    asked = {**RECOVERED, **({"recover.epochs": 1, "recover.mixed": 0} if quick else {})}
    if not _is_recovered(folder, epochs=asked["recover.epochs"]):
        run.resume(folder, asked)
    return folder


def _is_recovered(folder: Path, *, epochs: int) -> bool:
    """Whether a structure was distilled to the end: one that was merely refitted has weights of its own too."""
    if not Record.exists(folder, study=STUDY):
        return False
    trials = Record.open(folder, study=STUDY).trials()
    return any(trial.state == "complete" and trial.extras.get("epochs", 0) >= epochs for trial in trials)


def _rows(folder: Path, seed: int) -> list[dict[str, Any]]:
    """The fastest member that loses little enough, and every pick of the run."""
    front = front_file.read(folder)
    sound = [member for member in front.members if member.verified and member.note is None]
    within = [member for member in sound if drop(member, "confirm") <= LOST]
    untrained = [member for member in within if member.weights == ORIGINAL]
    named = {
        name: max(each, key=lambda member: _over(member, "one_liner"), default=None)
        for name, each in (("fastest within", within), ("fastest within, untrained", untrained))
    }
    by_key = {member.key: member for member in sound}
    named |= {pick.name: by_key.get(pick.key) for pick in front.picks if pick.key is not None}
    return [_row(seed, name, member) for name, member in named.items() if member is not None]


def _row(seed: int, name: str, member: MemberFigures) -> dict[str, Any]:
    parts = Parts.of(member.decoded)
    assert parts is not None
    assert member.latency is not None
    decoded: Mapping[str, Any] = member.decoded or {}
    bands = [
        f"{low}-{high}: {each.mean_ms:.1f} ms ({each.speedup['one_liner'].value:.2f}x)"
        for each in member.latency.bands
        for low, high in [each.tokens]
    ]
    return {
        "seed": seed,
        "pick": name,
        "key": member.key,
        "x one_liner": _over(member, "one_liner"),
        "x fair": _over(member, "fair"),
        "ms": member.latency.mean_ms,
        "lost on confirm": drop(member, "confirm"),
        "accuracy": member.accuracy["confirm"].value,
        "layers": parts.layers,
        "bits": parts.bits_text,
        "attention": ", ".join(f"{count} {kind}" for kind, count in parts.kinds) or "soft",
        "weights": member.weights.partition(":")[0],
        "reads": decoded.get("compression", {}).get("level", 1.0),
        "by length": "; ".join(bands),
    }


def _over(member: MemberFigures, baseline: str) -> float:
    assert member.latency is not None
    return member.latency.speedup[baseline].value


if __name__ == "__main__":
    main()
