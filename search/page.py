"""What a run's page says, in words. Knows figures, picks and trials; knows nothing of HTML or drawing."""

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from search.by_length import length_table
from search.figures import SPLITS, AccuracyFigure, MemberFigures, Pick
from search.front_file import FrontFile
from search.picture import known_bounds
from search.tables import Row, baseline_table, cascade_table, described, front_table, header, interval
from search.trials import Statistics
from search.wording import Words, said
from spaces.objectives import AGREEMENT, GUARDS, Bound, Limit

TITLES: Mapping[str, str] = {
    "limits": "For your limits",
    "gain": "Gain of accuracy",
    "certified": "Certified for your limits",
    "fastest_within": "Fastest within your limits",
    "smallest_within": "Smallest within your limits",
    "cascade": "Cascade for your limits",
    "knee": "Knee: best trade-off",
    "fastest": "Fastest",
    "smallest": "Smallest",
    "safest": "Safest: smallest loss",
}
_SENSITIVITY = "sensitivity.json"  # as preparing a run leaves it
# What `select` is asked so that it answers with the pick of this name.
_SELECT: Mapping[str, str] = {
    "limits": "",
    "fastest_within": "--prefer latency ",
    "smallest_within": "--prefer size ",
    "cascade": "--cascade ",
    "knee": "--prefer knee --no-limits ",
    "fastest": "--prefer latency --no-limits ",
    "smallest": "--prefer size --no-limits ",
    "safest": "--prefer accuracy --no-limits ",
}


@dataclass(frozen=True)
class PickCard:
    """One pick as people read it.

    Args:
        gains: lines such as `2.10x faster than one_liner`, the most telling one first.
        drops: per split the drop in points with its interval; `-` where not scored.
        certificate: what is claimed, and how sure it is.
        command: writes this model to a folder; empty where `select` cannot name it.
    """

    title: str
    key: str
    design: str
    reason: str
    gains: tuple[str, ...]
    drops: Mapping[str, str]
    certified: bool
    certificate: str
    command: str


@dataclass(frozen=True)
class Page:
    """Everything the template shows, as texts and rows."""

    title: str
    words: Words
    header: tuple[str, ...]
    facts: Mapping[str, str]
    limits: tuple[str, ...]
    picks: tuple[PickCard, ...]
    missing: tuple[tuple[str, str], ...]
    verified: bool
    baselines: tuple[Row, ...]
    members: tuple[Row, ...]
    cascades: tuple[Row, ...]
    lengths: tuple[tuple[str, ...], list[tuple[str, ...]]]
    unverified: tuple[Row, ...]
    search: Mapping[str, str]
    failures: Mapping[str, int]
    history: Sequence[tuple[int, float]]
    knobs: Mapping[str, Mapping[str, float]]
    splits: tuple[tuple[str, int, str, str], ...]
    versions: Mapping[str, str]


@dataclass(frozen=True)
class Sources:
    """What a page is made from, beside the front; all of it may be empty.

    Args:
        found: what the run's trials say.
        history: hypervolume after so many designs.
        knobs: by objective, which share of it knobs explain, largest first.
        config: content of config.resolved.yaml.
        env: content of env.json.
    """

    found: Statistics
    history: Sequence[tuple[int, float]]
    knobs: Mapping[str, Mapping[str, float]]
    config: Mapping[str, Any]
    env: Mapping[str, Any]


def page(run: Path, front: FrontFile, sources: Sources) -> Page:
    """The page of the run in folder `run`."""
    found = sources.found
    members = {member.key: member for member in front.members}
    rows = front_table(front, unverified=True)
    return Page(
        title=front.run,
        words=said(front.metric),
        header=header(front),
        facts=_facts(front, found, sources.config),
        limits=_limits(front),
        picks=tuple(_card(run, front, pick, members[pick.key]) for pick in front.picks if pick.key in members),
        missing=tuple(
            (TITLES.get(pick.name, pick.name), pick.reason) for pick in front.picks if pick.key not in members
        ),
        verified=any(row.verified for row in rows),
        baselines=tuple(baseline_table(front)),
        members=tuple(row for row in rows if row.verified),
        cascades=tuple(cascade_table(front)),
        lengths=length_table(front),
        unverified=tuple(row for row in rows if not row.verified),
        search={**_search(front, found), **_sensitivity(run / _SENSITIVITY)},
        failures=found.failures,
        history=sources.history,
        knobs=sources.knobs,
        splits=tuple(
            (name, split.n, split.sha256, "" if split.reads is None else f"read {times(split.reads)}")
            for name, split in front.splits.items()
        ),
        versions=_flat(sources.env),
    )


def certificate(pick: Pick, front: FrontFile) -> str:
    """What may be claimed of a pick's accuracy, and how surely."""
    asked = {name: text for name, text in front.limits.items() if name in ("accuracy_drop", *GUARDS)}
    if front.gain is not None and pick.name == "gain" and not front.gain.counts:
        return "none needed: it is the original"
    if front.gain is not None and pick.name == "gain" and pick.certified:
        return f"certified at {front.confidence * 100:g} %: more accurate than the original"
    if not asked and pick.name != "gain":
        what = "disagreement" if front.metric == AGREEMENT else "the accuracy drop"
        return f"not certified: no limit on {what} was asked"
    if pick.certified:
        return f"certified at {front.confidence * 100:g} %: {_claims(asked, 'loses', 'has')}"
    if pick.rows_needed is not None:
        return f"not certified: about {float(f'{pick.rows_needed:.2g}'):,.0f} confirm rows would be needed"
    if pick.name == "gain":
        return "not certified to be more accurate"
    return f"not certified to {_claims(asked, 'lose', 'have')}"


def _claims(asked: Mapping[str, str], loses: str, has: str) -> str:
    """Limits on answers in words."""
    return " and ".join(
        f"{loses} at most {text}" if name == "accuracy_drop" else f"{has} at most {text} of {name.replace('_', ' ')}"
        for name, text in asked.items()
    )


def times(count: int) -> str:
    """`once`, `3 times`."""
    return "once" if count == 1 else f"{count} times"


def _card(run: Path, front: FrontFile, pick: Pick, member: MemberFigures) -> PickCard:
    flags = _SELECT.get(pick.name)
    return PickCard(
        title=TITLES.get(pick.name, pick.name),
        key=member.key,
        design=described(member, front),
        reason=pick.reason,
        gains=_gains(member),
        drops={split: _drop(member.accuracy.get(split)) for split in SPLITS},
        certified=pick.certified,
        certificate=certificate(pick, front),
        command="" if flags is None else f"paretoformer select {shlex.quote(str(run))} {flags}--export model",
    )


def _gains(member: MemberFigures) -> tuple[str, ...]:
    gains = []
    if member.latency is not None:
        speedup = member.latency.speedup
        gains += [
            f"{speedup[name].value:.2f}x as fast as {name} [{speedup[name].low:.2f}, {speedup[name].high:.2f}]"
            for name in ("one_liner", "fair")
            if name in speedup
        ]
        gains.append(f"{member.latency.mean_ms:.2f} ms per call")
    if member.size is not None:
        ratio = member.size.ratio.get("fair")
        gains.append(
            f"{member.size.bytes / 1e6:.1f} MB" + ("" if ratio is None else f", {ratio:.1f}x smaller than fair")
        )
    if member.throughput is not None:
        served, times = member.throughput, member.throughput.ratio.get("fair")
        said = f"{served.rows_per_second:,.0f} rows per second on {served.instances} instances"
        gains.append(said + ("" if times is None else f", {times.value:.2f}x fair"))
    if "whole_vocabulary_bytes" in member.fidelity:
        gains.append(_vocabulary(member.fidelity))
    return tuple(gains)


def _vocabulary(figures: Mapping[str, float]) -> str:
    """What leaving out tokens saves, and what it does to texts."""
    return (
        f"smaller vocabulary: {figures['whole_vocabulary_bytes'] / 1e6:.1f} MB with the whole one; it lacks "
        f"{figures['tokens_affected']:.1%} of the task's tokens, {figures['foreign_tokens_affected']:.0%} of a foreign "
        "text's"
    )


def _drop(scored: AccuracyFigure | None) -> str:
    return "-" if scored is None or scored.drop is None else interval(scored.drop, 100, 2)


def _limits(front: FrontFile) -> tuple[str, ...]:
    """Each limit as asked, and a percentage also in absolute units once its baseline is known."""
    bounds = {bound.name: bound for bound in known_bounds(front)}
    said = []
    for name, asked in front.limits.items():
        text = f"{name.replace('_', ' ')} at most {asked}"
        share = Limit.parse(name, asked).relative
        said.append(f"{text} of fair, that is {_absolute(bounds[name])}" if share and name in bounds else text)
    return tuple(said)


def _absolute(bound: Bound) -> str:
    value, unit = {
        "latency": (bound.at_most, "ms"),
        "size": (bound.at_most / 1e6, "MB"),
        "accuracy_drop": (bound.at_most * 100, "points"),
    }[bound.figure]
    return f"{value:.3g} {unit}"


def _facts(front: FrontFile, found: Statistics, config: Mapping[str, Any]) -> dict[str, str]:
    task, states = config.get("task") or {}, front.trials or found.states
    counts = (f"{count:,} {state}" for state, count in states.items() if count and state != "duplicates")
    facts = {
        "Model": str(config.get("model", "")),
        "Task": str(task.get("name") or task.get("file") or task.get("dataset") or ""),
        "Texts without labels": str(task.get("data") or ""),
        "Metric": front.metric,
        **{f"Target {target.get('label', '')}": _target(target) for target in front.targets},
        "Trials": ", ".join(counts) + (f" in {_duration(found.seconds)}" if found.seconds else ""),
        "Seed": str(front.seed),
    }
    return {name: text for name, text in facts.items() if text}


def _target(target: Mapping[str, Any]) -> str:
    """A target in words; a fact that is not known is left out."""
    known = {**target, "runtime": " ".join(filter(None, (target.get("runtime"), target.get("runtime_version"))))}
    words = {
        "device": "{}",
        "processor": "{}",
        "runtime": "{}",
        "threads": "threads {}",
        "batch_size": "batch {}",
        "lengths": "{} lengths",
    }
    return ", ".join(form.format(known[name]) for name, form in words.items() if known.get(name))


def _sensitivity(file: Path) -> dict[str, str]:
    """Which parts stay wider than the others, and why."""
    if not file.exists():
        return {}
    known = json.loads(file.read_text(encoding="utf-8"))
    wider = ", ".join(f"{part} ({known['alone'][part]:.2g})" for part in known["wider"])
    reason = f"move the answers by more than {known['bearable']:g} nats"
    return {"8 bits, part by part": f"{wider} {reason} alone and stay wider" if wider else f"no part's 8 bits {reason}"}


def _search(front: FrontFile, found: Statistics) -> dict[str, str]:
    rate = front.search.get("designs_per_second", found.per_second)
    facts = {
        "Duplicates": f"{front.trials.get('duplicates', found.duplicates)}",
        "Designs per second": "" if rate is None else f"{rate:.2f}",
        "Workers busy": f"{front.search.get('busy_share', found.busy):.0%} of the time ({found.workers} at once)"
        if found.workers
        else "",
        "Hypervolume": "" if front.hypervolume is None else f"{front.hypervolume:.3f} (verified members, confirm rows)",
        "Latency model": _latency_model(front.latency_model),
    }
    return {name: text for name, text in facts.items() if text}


def _latency_model(error: Mapping[str, float]) -> str:
    """The error of predicted latencies on designs it was not fitted to."""
    said = []
    if "mean_error" in error:
        said.append(f"mean error {error['mean_error']:.1%}")
    if "spearman" in error:
        said.append(f"Spearman correlation {error['spearman']:.3f}")
    if "n" in error:
        said.append(f"on {error['n']:.0f} held-out designs")
    return ", ".join(said)


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested mappings as one, names joined by dots."""
    flat: dict[str, str] = {}
    for name, value in values.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": str(value)}
    return flat
