"""What the page's explorer is given, as plain values. Knows members, limits and trials; knows nothing of HTML.

The page picks by the rule of search/select.py, ported in templates/rule.js. All that the rule asks of a member is
written here by the very functions that `select` calls, so that only comparing and ordering is said twice.
"""

import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from search.figures import SPLITS, Estimate, MemberFigures
from search.front_file import FrontFile
from search.growth import Figures
from search.page import TITLES, certificate
from search.picture import known_bounds, limit_on_drop
from search.select import KNEE_DEPTH, cost, deciding, drop, eligible, latency_ms, lost, size_bytes
from search.standing import SAME_TIME
from search.tables import described, interval, short
from search.trials import TrialRow
from spaces.objectives import AT, UNITS, Bound

_MB = UNITS["size"]["mb"]
_WIDEST, _MANY = 32, 100  # bits; parts of a layer, too many to say beside each other


def explorer(run: Path, front: FrontFile, trials: Sequence[TrialRow]) -> dict[str, Any]:
    """Axes, limits, members, baselines and dominated trials of a run.

    Args:
        run: its folder, as the command that picks names it.
        front: its members, verified or not.
        trials: all of them; those of members are left out.
    """
    bounds, pools = known_bounds(front), [*eligible(front.members), *eligible(front.members, "cascade")]
    words = {
        "latency": "Latency",
        "size": "Size",
        limit_on_drop(front): f"{front.metric.capitalize()} lost",
    }
    sliders = [_slider(name, label, pools) for name, label in words.items()] if pools else []
    names = dict.fromkeys([*(slider["name"] for slider in sliders), *(bound.name for bound in bounds)])
    held = {bound.name: bound for bound in bounds}
    asked = [held.get(name, Bound(name, 0.0, "", front.statistic if name == "latency" else "mean")) for name in names]
    known, pickable = {member.key for member in front.members}, {member.key for member in pools}
    return {
        "folder": shlex.quote(str(run)),
        "metric": front.metric,
        "statistic": front.statistic,
        "knee_depth": KNEE_DEPTH,
        "same_time": SAME_TIME,
        "axes": _axes(front),
        "sliders": sliders,
        "limits": {bound.name: _limit(bound) for bound in bounds},
        "unresolved": sorted(front.limits.keys() - held.keys()),
        "baselines": [
            {"name": name, "axes": _figures(each) | _of_fair(name)} for name, each in front.baselines.items()
        ],
        "members": [_member(each, front, asked if each.key in pickable else None) for each in front.members],
        "trials": [point for trial in trials if trial.key not in known for point in _dominated(trial)],
    }


def _axes(front: FrontFile) -> list[dict[str, Any]]:
    """What a point may be drawn by; latencies at further targets have axes of their own."""
    axes = [
        {
            "name": "quality",
            "label": f"{front.metric} lost, points",
            "unit": "pt",
            "log": False,
            "limit": limit_on_drop(front),
        },
        {"name": "latency", "label": "latency, ms", "unit": "ms", "log": True, "limit": "latency"},
        {"name": "size", "label": "size, MB", "unit": "MB", "log": True, "limit": "size"},
    ]
    for label in front.labels[1:]:
        name = f"latency{AT}{label}"
        axes.append({"name": name, "label": f"latency at {label}, ms", "unit": "ms", "log": True, "limit": name})
    if any(member.throughput for member in front.members):
        axes.append({"name": "throughput", "label": "rows per second", "unit": "rows/s", "log": True, "limit": None})
    return axes


def _slider(name: str, label: str, pool: Sequence[MemberFigures]) -> dict[str, Any]:
    """A limit that the page moves; its unit is that of the option, and `factor` leads to that of `costs`."""
    unit = {"latency": "ms", "size": "MB"}.get(name, "pt")
    factor = UNITS[name][unit.lower()]
    figures = {"latency": latency_ms, "size": size_bytes}.get(name)
    values = [drop(member) if figures is None else figures(member) for member in pool]
    return {
        "name": name,
        "label": label,
        "unit": unit,
        "factor": factor,
        "log": figures is not None,
        "low": min(values) / factor if figures is not None else 0.0,
        "high": max(values) / factor,
        "answers": Bound(name, 0.0, "").of_answers,
        "flag": _flag(name),
    }


def _limit(bound: Bound) -> dict[str, Any]:
    return {"asked": bound.asked, "at_most": bound.at_most, "answers": bound.of_answers, "flag": _flag(bound.name)}


def _flag(name: str) -> str:
    """The option that limits `name`, all but the value."""
    figure, _, label = name.partition(AT)
    return f"--max-{figure.replace('_', '-')} {label + '=' if label else ''}"


def _member(member: MemberFigures, front: FrontFile, asked: Sequence[Bound] | None) -> dict[str, Any]:
    """A member; with what picking asks of it if it may be picked."""
    return {
        "key": member.key,
        "kind": member.kind,
        "recipe": member.recipe,
        "verified": member.verified,
        "note": member.note,
        "picks": [TITLES.get(pick.name, pick.name) for pick in front.picks if pick.key == member.key],
        "ties": list(member.ties),
        "beaten_by": list(member.beaten_by),
        "parents": list(member.parents),
        "design": described(member, front),
        "strip": _strip(member.decoded, front),
        "axes": _figures(member),
        "facts": _facts(member, front),
        "splits": _splits(member),
        **({} if asked is None else {"rule": _rule(member, asked)}),
    }


def _rule(member: MemberFigures, asked: Sequence[Bound]) -> dict[str, Any]:
    """What search/select.py looks at; infinite costs, which JSON lacks, are null."""
    on_search = None
    if "search" in member.accuracy:
        on_search = {bound.name: _finite(lost(member, bound, "search")) for bound in asked if bound.of_answers}
    return {
        "costs": {bound.name: _finite(cost(member, bound)) for bound in asked},
        "search": on_search,
        "accuracy": deciding(member).value,
        "drop": drop(member),
        "latency": latency_ms(member),
        "size": size_bytes(member),
    }


def _finite(value: float) -> float | None:
    return None if value == float("inf") else value


def _of_fair(name: str) -> dict[str, list[float]]:
    """The original loses nothing against itself."""
    return {"quality": [0.0, 0.0, 0.0]} if name == "fair" else {}


def _figures(member: MemberFigures) -> dict[str, list[float]]:
    """By axis the value with the ends of its interval, as far as they are known."""
    found: dict[str, list[float]] = {}
    scored = member.accuracy.get("confirm") or member.accuracy.get("search")
    if scored is not None and scored.drop is not None:
        found["quality"] = [100 * value for value in scored.drop.to_triple()]
    for label, timed in {"": member.latency, **{at: there.latency for at, there in member.by_target.items()}}.items():
        if timed is not None:
            factor = timed.speedup.get("fair") if timed.rounds else None
            ends = (factor.high, factor.low) if factor else (1.0, 1.0)
            middle = factor.value if factor else 1.0
            found[f"latency{AT}{label}" if label else "latency"] = [
                timed.mean_ms,
                *(timed.mean_ms * middle / end for end in ends),
            ]
    if member.size is not None:
        found["size"] = [member.size.bytes / _MB] * 3
    if member.throughput is not None:
        found["throughput"] = [member.throughput.rows_per_second] * 3
    return found


def _splits(member: MemberFigures) -> list[list[str]]:
    """Rows of a table: split, number of rows, metric and points lost."""
    return [
        [
            split,
            f"{scored.n:,}",
            interval(Estimate(scored.value, *scored.ci95)),
            "-" if scored.drop is None else interval(scored.drop, 100, 2),
        ]
        for split in SPLITS
        if (scored := member.accuracy.get(split)) is not None
    ]


def _facts(member: MemberFigures, front: FrontFile) -> list[list[str]]:
    """Rows of a list: what was measured, where it comes from, and what may be claimed."""
    facts: dict[str, str] = {}
    if (timed := member.latency) is not None:
        tail = "" if timed.p95_ms is None else f" (p50 {timed.p50_ms:.2f}, p95 {timed.p95_ms:.2f})"
        rounds = f", {timed.rounds} rounds in {timed.processes} processes" if timed.rounds else ", predicted"
        facts["Latency"] = f"{timed.mean_ms:.2f} ms{tail}{rounds}"
        times = (f"{interval(factor, digits=2)}x {name}" for name, factor in timed.speedup.items())
        facts["As fast as"] = ", ".join(times)
    if (size := member.size) is not None:
        smaller = f", {size.ratio['fair']:.1f}x smaller than fair" if "fair" in size.ratio else ""
        facts["Size"] = f"{size.bytes / _MB:.2f} MB{smaller}"
    if (served := member.throughput) is not None:
        facts["Throughput"] = f"{served.rows_per_second:,.0f} rows/s on {served.instances} instances"
    facts["Certificate"] = _certificate(member, front)
    fidelity = (f"{name.replace('_', ' ')} {_plain(value)}" for name, value in member.fidelity.items())
    facts["Fidelity"] = ", ".join(fidelity)
    lineage = [member.recipe, f"weights {member.weights}"]
    lineage += [f"made from {', '.join(map(short, member.parents))}"] if member.parents else []
    facts["Lineage"] = ", ".join(lineage)
    if member.stages is not None:
        facts["Stages"] = "; ".join(", ".join(f"{k} {v}" for k, v in stage.items()) for stage in member.stages)
    return [[name, text] for name, text in facts.items() if text]


def _plain(value: float) -> str:
    """Four digits, or a whole number with its thousands apart."""
    return f"{value:,.0f}" if abs(value) >= 1e4 else f"{value:.4g}"


def _certificate(member: MemberFigures, front: FrontFile) -> str:
    """What the certificate says of this member."""
    test = None if front.certificate is None else front.certificate.tests.get(member.key)
    if test is not None:
        what = "drop" if test.limit == "accuracy_drop" else test.limit.replace("_", " ")
        verdict = "passed" if test.passes else "failed"
        return f"{verdict} its test: {what} at most {test.upper * 100:.2f} pt at {front.confidence * 100:g} %"
    pick = next((pick for pick in front.picks if pick.key == member.key), None)
    return "not tested" if pick is None else certificate(pick, front)


def _strip(decoded: Mapping[str, Any] | None, front: FrontFile) -> list[dict[str, Any]]:
    """What is left of each layer, as rows of a table: texts with the share of the original's, None where nothing is."""
    layers, fair = (decoded or {}).get("layers", []), front.baselines.get("fair")
    whole = (None if fair is None or fair.decoded is None else fair.decoded.get("layers")) or layers
    pairs = list(zip(layers, whole, strict=False))
    rows: Mapping[str, list[tuple[str, float] | None]] = {
        "heads": [_left(layer, before, "heads", len) for layer, before in pairs],
        "neurons": [_left(layer, before, "ffn", int) for layer, before in pairs],
        "attention": [None if layer is None else (layer.get("attention", "soft"), 0.0) for layer, _ in pairs],
        "bits of attention": [_bits(layer, "attention") for layer, _ in pairs],
        "bits of neurons": [_bits(layer, "ffn") for layer, _ in pairs],
    }
    return [{"name": name, "cells": cells} for name, cells in rows.items() if any(cells)]


def _left(layer: Any, before: Any, part: str, count: Callable[[Any], int]) -> tuple[str, float] | None:
    """How many are left, and of how many where these are few."""
    if layer is None or part not in layer:
        return None
    left, all_ = count(layer[part]), count((before or layer).get(part, layer[part]))
    return f"{left}/{all_}" if left != all_ < _MANY else str(left), left / (all_ or 1)


def _bits(layer: Any, part: str) -> tuple[str, float] | None:
    width = None if layer is None else layer.get("bits", {}).get(part)
    return None if width is None else (str(width), width / _WIDEST)


def _dominated(trial: TrialRow) -> list[list[Any]]:
    """A trial that is no member, on search rows; nothing where a figure is unknown."""
    found = Figures.of(trial.figures)
    return [] if found is None else [[trial.key, trial.study, 100 * found.lost, found.latency, found.size / _MB]]
