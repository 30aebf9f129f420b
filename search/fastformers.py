"""The FastFormers ladder as a table: factors, costs, totals. Knows figures and Markdown; measures nothing.

Every factor is a ratio of rows per second that were measured in the same session; none is a product of others.
"""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

_MILLION, _HOUR_S = 1e6, 3600
# Samples per second over the first step, of BERT-base on BoolQ with 16 virtual cores (arXiv 2010.13382, table 3).
PUBLISHED: Mapping[str, float] = {
    "padded": 1.0,
    "dynamic": 3.51,
    "distilled": 32.6,
    "int8": 73.7,
    "instances": 129.3,
    "pruned": 178.7,
    "pruned further": 233.9,
}
_HEADER = (
    "step",
    "what changed",
    "accuracy [95 %]",
    "drop, points [95 %]",
    "ms per row (p95)",
    "rows/s",
    "served by",
    "x previous",
    "x first",
    "published x first",
    "MB",
    "$ per million",
)


def document(climbed: Mapping[str, Any], price_per_hour: float) -> dict[str, Any]:
    """What ladder.json holds.

    Args:
        climbed: rows with accuracy, latency, rows per second by turn, and bytes.
        price_per_hour: of the machine, in dollars.

    Returns:
        The same with rows per second as median and range, factors as (ratio of medians, least, most of the turns'),
        dollars per million requests, and both totals.
    """
    ladder, baselines = climbed["steps"], climbed["baselines"]
    first = ladder[0]
    steps = [
        _row(row, price_per_hour, {"previous": before, "first": first})
        for row, before in zip(ladder, [None, *ladder], strict=False)
    ]
    last, dynamic = ladder[-1], next(row for row in ladder if row["step"] == "dynamic")
    return {
        "recipe": "fastformers",
        **climbed,
        "price_per_hour": price_per_hour,
        "steps": [{**row, "published_factor": PUBLISHED[row["step"]]} for row in steps],
        "baselines": [_row(row, price_per_hour, {"first": first}) for row in baselines],
        "totals": {"over_padded": list(factor(last, first)), "over_dynamic": list(factor(last, dynamic))},
        "published_totals": {
            "over_padded": PUBLISHED["pruned further"],
            "over_dynamic": PUBLISHED["pruned further"] / PUBLISHED["dynamic"],
        },
    }


def factor(row: Mapping[str, Any], base: Mapping[str, Any]) -> tuple[float, float, float]:
    """How many times the rows per second of `base`: ratio of the medians, and the least and most of the turns'."""
    ours, theirs = row["throughput"]["samples"], base["throughput"]["samples"]
    turns = [our / their for our, their in zip(ours, theirs, strict=True)]
    return statistics.median(ours) / statistics.median(theirs), min(turns), max(turns)


def cost_per_million(rows_per_second: float, price_per_hour: float) -> float:
    """Dollars that a million requests cost on a machine that is always busy."""
    return price_per_hour / (rows_per_second * _HOUR_S) * _MILLION


def markdown(ladder: Mapping[str, Any]) -> str:
    """The table for people, with both totals and how it was measured."""
    identity, totals, published = ladder["identity"], ladder["totals"], ladder["published_totals"]
    machine, rows = ladder["machine"], ladder["steps"][0]["accuracy"]["n"]
    padded, dynamic = (_spread(totals[name]) for name in ("over_padded", "over_dynamic"))
    return "\n".join(
        [
            f"# FastFormers ladder: {identity['model']} on {identity['task']}",
            "",
            _table(
                [_cells(row, before) for row, before in zip(ladder["steps"], [None, *ladder["steps"]], strict=False)]
            ),
            "Baselines, measured in the same session:",
            "",
            _table([_cells(row, None) for row in ladder["baselines"]]),
            f"In total {padded} times the padded model's rows per second (published: {published['over_padded']:.1f}), "
            f"and {dynamic} times those at real lengths (published: {published['over_dynamic']:.1f}).",
            "",
            f"Accuracy is on {rows} confirm rows, on which nothing was chosen; test rows were not read. Drops are "
            "paired, against the original. Latency is of single rows on one thread; = where a step does not change it. "
            "Rows per second are the whole machine's, one row per call, as medians of turns in fresh processes; "
            f"factors are their ratios, with the range over turns. Costs: at ${ladder['price_per_hour']:g} per hour.",
            "",
            "Published factors are of BERT-base on BoolQ, with 16 virtual cores (arXiv 2010.13382).",
            "",
            f"Machine: {machine['processor']}, {machine['cores']} cores; seed {identity['seed']}.",
            "",
        ]
    )


def _row(row: Mapping[str, Any], price: float, bases: Mapping[str, Mapping[str, Any] | None]) -> dict[str, Any]:
    served = row["throughput"]
    rate = statistics.median(served["samples"])
    return {
        **row,
        "throughput": {**served, "rows_per_second": rate, "range": [min(served["samples"]), max(served["samples"])]},
        "factor": {name: None if base is None else list(factor(row, base)) for name, base in bases.items()},
        "cost_per_million": cost_per_million(rate, price),
    }


def _cells(row: Mapping[str, Any], before: Mapping[str, Any] | None) -> tuple[str, ...]:
    accuracy, latency, served = row["accuracy"], row["latency"], row["throughput"]
    same = before is not None and before["latency"] == latency
    words = row["notes"].get("words") if before is None or before["folder"] != row["folder"] else None
    low, high = accuracy["ci95"]
    drop = [100 * value for value in (accuracy["drop"]["value"], *accuracy["drop"]["ci95"])]
    return (
        row["step"],
        row["change"] + (f": {words}" if words else ""),
        f"{accuracy['value']:.3f} [{low:.3f}, {high:.3f}]",
        f"{drop[0]:+.1f} [{drop[1]:+.1f}, {drop[2]:+.1f}]",
        "=" if same else f"{latency['mean_ms']:.2f} ({latency['p95_ms']:.2f})",
        f"{served['rows_per_second']:.0f}",
        f"{served['instances']} x {served['threads']} thread{'s' * (served['threads'] > 1)}",
        _spread(row["factor"].get("previous")),
        _spread(row["factor"]["first"]),
        f"{row['published_factor']:.1f}" if "published_factor" in row else "",
        f"{row['size']['bytes'] / 1e6:.1f}",
        f"{row['cost_per_million']:.2f}",
    )


def _spread(figures: Sequence[float] | None) -> str:
    return "" if figures is None else f"{figures[0]:.2f} [{figures[1]:.2f}, {figures[2]:.2f}]"


def _table(rows: Sequence[Sequence[str]]) -> str:
    lines = [_HEADER, ["---"] * len(_HEADER), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
