"""An encoder of sentences, compressed without labels, against its one-liner, on texts of a domain it never saw.

    python tests/benchmarks/embeddings.py [--quick] [--seeds N]

Method, fixed before the runs: the MiniLM encoder itself, onnxruntime, one thread, batch 1, real lengths. It is searched
and distilled on film and product reviews and tweets; editorials of the New York Times are held out (all four from
Hutto and Gilbert 2014). A seed draws splits, search and held-out rows. Counted are members whose vectors keep a mean
cosine of at least 0.98 to the original's on 1,500 held-out texts, as exported; of these the fastest one's speed-up over
`one_liner` is claimed, as verification measured it.
"""

import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from front_runs import Asked
from report import ROOT, Claim, table, write

from evaluators.exported import answers_of
from evaluators.problems.embeddings import cosine
from evaluators.tasks.base import Rows
from evaluators.tasks.download import extract, fetch
from evaluators.tasks.movie_reviews import ARCHIVE
from search import front_file, run
from search.config import RunConfig
from spaces.target import Target

NEAR, FASTER = 0.98, 1.5
SEEN = ("movieReviewSnippets", "amazonReviewSnippets", "tweets")
HELD_OUT, ROWS = "nytEditorialSnippets", 1500
CONFIG: dict[str, Any] = {
    "model": "minilm",
    "limits": {"accuracy_drop": "2pt"},
    "search": {"trials": 120},
    "recover": {"members": 2, "epochs": 5, "mixed": 0},
    "verify": {"members": 10},
}
QUICK: dict[str, Any] = {**CONFIG, "search": {"trials": 20}, "recover": {"members": 1, "epochs": 1}}
RUNS = ROOT / "results" / "embeddings"


def main() -> None:
    """Run every seed, print the table and, unless --quick, write it."""
    asked = Asked.parse()
    rows, gains = list[dict[str, Any]](), list[float]()
    for seed in asked.seeds:
        found = _members(seed, quick=asked.quick)
        gains.append(
            max((row["times over one_liner"] for row in found if row["cosine, held out"] >= NEAR), default=0.0)
        )
        rows += found
        print(table(found), flush=True)
        if not asked.quick:
            claim = Claim("6.2", f"speed-up over one_liner at a cosine of {NEAR}", ">=", FASTER, tuple(gains))
            write("embeddings", asked.seeds[: len(gains)], rows, [claim])


def _members(seed: int, *, quick: bool) -> list[dict[str, Any]]:
    """A row for each verified member, fastest first, and for the one-liner."""
    sources = {name: [text for text, _ in rated] for name, rated in snippets().items()}
    folder = (RUNS.with_name("embeddings_quick") if quick else RUNS) / str(seed)
    folder.mkdir(parents=True, exist_ok=True)
    texts = folder / "texts.jsonl"
    texts.write_text("\n".join(json.dumps({"text": text}) for name in SEEN for text in sources[name]))
    config = {**(QUICK if quick else CONFIG), "task": {"file": str(texts), "problem": "embeddings"}}
    config["search"] = {**config["search"], "seed": seed}
    if not (folder / "run" / front_file.FILE_NAME).exists():
        run.search(RunConfig.parse(config), folder / "run")
    front = front_file.read(folder / "run")
    chosen = np.random.default_rng(seed).permutation(len(sources[HELD_OUT]))[:ROWS]
    held_out, target = Rows(tuple(sources[HELD_OUT][row] for row in chosen), ()), Target()
    original = answers_of(folder / "run" / "baseline" / "fair", held_out, target, 128)
    rows = []
    for member in [*front.members, front.baselines["one_liner"]]:
        if member.verified and member.artifact is not None and member.latency is not None and member.size is not None:
            vectors = answers_of(folder / "run" / member.artifact, held_out, target, 128)
            rows.append(
                {
                    "seed": seed,
                    "member": member.key[:8] if member.key != "one_liner" else member.key,
                    "cosine, confirm": member.accuracy["confirm"].value,
                    "cosine, held out": cosine(original, vectors),
                    "times over one_liner": member.latency.speedup["one_liner"].value,
                    "times over fair": member.latency.speedup["fair"].value,
                    "MB": member.size.bytes / 1e6,
                    "weights": member.weights.partition(":")[0],
                }
            )
    return sorted(rows, key=lambda row: -row["times over one_liner"])


def snippets() -> dict[str, list[tuple[str, float]]]:
    """Texts with their mean ratings, by source, each text once."""
    archive, found = fetch(ARCHIVE), dict[str, list[tuple[str, float]]]()
    with tempfile.TemporaryDirectory() as scratch:
        extract(archive, Path(scratch))
        inner = next(Path(scratch).rglob("hutto_ICWSM_2014.tar.gz"))
        extract(inner, Path(scratch))
        for name in (*SEEN, HELD_OUT):
            path = next(Path(scratch).rglob(f"{name}_GroundTruth.txt"))
            lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
            rated = [line.split("\t", 2) for line in lines if line.count("\t") >= 2]
            once = {text.strip(): float(rating) for _, rating, text in rated if text.strip()}
            found[name] = list(once.items())
    return found


if __name__ == "__main__":
    main()
