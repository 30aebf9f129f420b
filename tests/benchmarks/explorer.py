"""How soon the page of a long search is there, and how fast its limits react.

    python tests/benchmarks/explorer.py [--quick] [--seeds N]

Method, fixed before the runs: the default sampler proposes 2,000 designs of MiniLM's shape through the search loop into
a record on disk; their figures follow from a formula (closed_form.py). The front of that record is the page's; 24
members drawn from it stand as verified, with the search's figures in place of measured ones, so that the page has what
a verified run's has. It is opened from its file in Chromium without a window, five times on a desktop and five on
a phone. First paint is the later of the browser's first contentful paint and of the explorer having drawn, from the
start of loading; the worst of the openings counts. A reaction is the time from a slider's event to the end of the next
frame; every slider moves to 12 places in every opening, and the 95th percentile counts: the machine is shared.
"""

import argparse
import random
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

from browser import DESKTOP, PAINTED, PHONE, REACTIONS, chromium, opened
from closed_form import Queue, closed_form
from report import Claim, table, write

from search import front_file
from search.figures import AccuracyFigure, Estimate, LatencyFigure, MemberFigures
from search.front_file import FrontFile
from search.loop import Meter
from search.loop import run as loop
from search.members import unverified
from search.record import Record
from search.report import write_report
from search.samplers.auto import AutoSampler
from search.verify import search_front
from spaces.objectives import KL, LATENCY, SIZE

SEEDS = (0, 1, 2)
TRIALS, VERIFIED, OPENINGS = 2000, 24, 5
# Bounds of the "done when", line 2, and of its first item.
PAINT_MS, REACTION_MS, PAGE_MB = 2000.0, 100.0, 8.0


def main() -> None:
    """Run every seed, print the table and, unless --quick, write it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="200 trials of one seed, writes nothing")
    parser.add_argument("--seeds", type=int, default=len(SEEDS))
    asked = parser.parse_args()
    seeds = SEEDS[: 1 if asked.quick else asked.seeds]
    rows = [row for seed in seeds for row in _measured(seed, 200 if asked.quick else TRIALS)]
    print(table(rows) if asked.quick else write("explorer", seeds, rows, _claims(rows, seeds)))


def _measured(seed: int, trials: int) -> list[dict[str, Any]]:
    """A row for each screen."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "run"
        front = long_search(folder, seed, trials)
        page = write_report(folder)[0]
        known = {
            "seed": seed,
            "trials": trials,
            "members": len(front.members),
            "page, MB": page.stat().st_size / 1e6,
        }
        screens = {"desktop": DESKTOP, "phone": PHONE}
        rows = [{**known, "screen": name, **_opened(page, screen)} for name, screen in screens.items()]
    print(table(rows), flush=True)
    return rows


def long_search(folder: Path, seed: int, trials: int) -> FrontFile:
    """A search by formula in `folder`, with a front of which some members stand as verified."""
    space, foresight = closed_form(seed)
    record = Record.create(folder, objectives=(KL, LATENCY, SIZE), bounds=())
    sampler = AutoSampler(record, space, seeds=space.seeds(), seed=seed, trials=trials)
    with closing(Queue(foresight, 8)) as runner:
        loop(space, sampler, runner, record, rows=None, meter=Meter(trials))
    found = [unverified(trial) for trial in search_front(record)]
    chosen = {each.key for each in random.Random(seed).sample(found, min(VERIFIED, len(found)))}
    original = max(found, key=lambda each: each.accuracy["search"].value)
    front = FrontFile(
        folder.name,
        seed,
        targets=({"label": "here"},),
        trials=record.counts(),
        baselines={"fair": replace(_verified(original), kind="baseline")},
        members=tuple(_verified(each) if each.key in chosen else each for each in found),
    )
    front_file.write(folder, front)
    return front


def _verified(member: MemberFigures) -> MemberFigures:
    """The member as if it had been measured; see the module's docstring."""
    search, latency = member.accuracy["search"], member.latency
    assert latency is not None
    assert search.drop is not None
    drop = Estimate(search.drop.value, search.drop.value - 0.005, search.drop.value + 0.005)
    confirm = AccuracyFigure(search.value, (search.value - 0.01, search.value + 0.01), 1500, drop)
    timed = LatencyFigure(latency.mean_ms, latency.mean_ms, latency.mean_ms, 9, 3, {"fair": Estimate(2.0, 1.9, 2.1)})
    return replace(member, verified=True, accuracy={"search": search, "confirm": confirm}, latency=timed)


def _opened(page: Path, screen: Mapping[str, int]) -> dict[str, float]:
    paints, reactions = [], []
    with chromium() as browser:
        for _ in range(OPENINGS):
            shown = opened(browser, page, screen)
            paints.append(shown.page.evaluate(PAINTED))
            reactions += shown.page.evaluate(REACTIONS)
            assert shown.errors == []
            assert len(shown.requests) == 1
            shown.page.close()
    return {
        "first paint, ms": statistics.median(paints),
        "worst paint, ms": max(paints),
        "reaction, ms": statistics.median(reactions),
        "95 % of reactions, ms": statistics.quantiles(reactions, n=20)[-1],
        "worst reaction, ms": max(reactions),
    }


def _claims(rows: Sequence[Mapping[str, Any]], seeds: Sequence[int]) -> list[Claim]:
    def worst(column: str) -> tuple[float, ...]:
        return tuple(max(row[column] for row in rows if row["seed"] == seed) for seed in seeds)

    return [
        Claim("8.1", "ms to the first paint of 2,000 trials", "<=", PAINT_MS, worst("worst paint, ms")),
        Claim(
            "8.2", "ms of a slider's reaction there, 95th percentile", "<=", REACTION_MS, worst("95 % of reactions, ms")
        ),
        Claim("8.2b", "MB of that page", "<=", PAGE_MB, worst("page, MB")),
    ]


if __name__ == "__main__":
    main()
