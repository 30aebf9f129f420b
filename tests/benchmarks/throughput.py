"""Rows per second of the whole machine: members of the front as instances beside the Hugging Face pipeline.

    python tests/benchmarks/throughput.py [--quick] [--seeds N]

Method, fixed before the runs: the runs of front.py. Per seed the fastest member within 2 % of `fair` on confirm is
picked, then its test rows are read. It, the fastest within 1 %, `fair` and `one_liner` run as one instance per core;
the `pipeline` runs as it comes, one process with a thread per core. All take turns on the first 600 texts of the search
split, 5 rounds, and the batch size is free for the exported models. The claim is from texts to answers, tokenising
included on both sides.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from front_runs import Asked, Losses, interval, losing_at_most, losses_on_test
from report import Claim, table, write

from evaluators.instances import Throughput, throughput
from evaluators.tasks.movie_reviews import MovieReviews
from search import front_file
from search.select import fastest

# Bounds of the "done when", line 4.
LOSS, OVER_PIPELINE = 0.02, 20.0
TEXTS, ROUNDS = 600, 5
OURS = "fastest within 2 %"


def main() -> None:
    """Measure seed by seed, print the table and, unless --quick, write it."""
    asked = Asked.parse()
    rows: list[dict[str, Any]] = []
    losses: list[Losses] = []
    for number, seed in enumerate(asked.seeds, start=1):
        folder = asked.run(seed)
        front = front_file.read(folder)
        picked = {
            OURS: fastest(losing_at_most(front, LOSS)),
            "fastest within 1 %": fastest(losing_at_most(front, 0.01)),
        }
        names = {name: str(member.artifact) for name, member in picked.items()}
        names |= {name: f"baseline/{name}" for name in ("one_liner", "fair", "pipeline")}
        lost, _ = losses_on_test(folder, names[OURS], seed)
        losses.append(lost)
        found = throughput(
            {name: folder / artifact for name, artifact in names.items()},
            MovieReviews().splits(seed).search.texts[:TEXTS],
            rounds=3 if asked.quick else ROUNDS,
            seed=seed,
            progress=partial(print, "step", flush=True),
        )
        rows += [_row(seed, name, names[name], each, found["pipeline"]) for name, each in found.items()]
        print(table(rows[-len(found) :]), flush=True)
        if not asked.quick:
            text = write("throughput", asked.seeds[:number], rows, _claims(rows, losses))
    print(table(rows) if asked.quick else text)


def _row(seed: int, name: str, artifact: str, each: Throughput, pipeline: Throughput) -> dict[str, Any]:
    return {
        "seed": seed,
        "contender": name,
        "artifact": artifact,
        "instances": each.instances,
        "threads": each.threads,
        "batch size": each.batch_size,
        "rows/s from text": each.text_rows_per_second,
        "x pipeline": each.text_rows_per_second / pipeline.text_rows_per_second,
        "rows/s from tokens": each.rows_per_second,
        "x pipeline's model": each.rows_per_second / pipeline.rows_per_second,
    }


def _claims(rows: Sequence[Mapping[str, Any]], losses: Sequence[Losses]) -> list[Claim]:
    ours = tuple(row["x pipeline"] for row in rows if row["contender"] == OURS)
    mean, _, _ = interval(losses)
    return [
        Claim("2.4a", "whole machine: rows per second from text over the pipeline's", ">=", OVER_PIPELINE, ours),
        Claim("2.4b", "relative loss on pooled test rows", "<=", LOSS, (mean,)),
    ]


if __name__ == "__main__":
    main()
