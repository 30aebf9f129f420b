"""What commands print. Knows a run's files and plain text; loads no model and measures nothing."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from search import exporting, front_file, tables
from search.by_length import length_table
from search.exporting import Export
from search.figures import Estimate, MemberFigures, Pick
from search.front_file import FrontFile
from search.gain_pick import NAME
from search.remeasured import Off
from search.select import Preference, default_preference
from search.select import select as choose
from search.wording import said
from spaces.errors import ConfigError, DataError
from spaces.medium import TEXT, Medium
from spaces.objectives import AGREEMENT, OF_LABELS, Limit


@dataclass(frozen=True)
class Asked:
    """What `select` was asked for.

    Args:
        limits: by name, as written; they replace the run's own of that name.
        min_accuracy: on the confirm rows.
        prefer: which objective decides.
        keep: whether the run's own limits stay in force.
        cascade: whether a cascade is wanted instead of a single model.
        target: label of the target whose figures decide; None: the first.
    """

    limits: Mapping[str, str]
    min_accuracy: float | None
    prefer: str | None
    keep: bool
    cascade: bool = False
    target: str | None = None


def load(folder: Path) -> FrontFile:
    """The run's front; of a run that has not verified any yet, the front of its search so far."""
    if (folder / front_file.FILE_NAME).exists():
        return front_file.read(folder)
    from search.so_far import front_so_far

    return front_so_far(folder)


def status(folder: Path) -> str:
    """How far a run has come, one line per matter."""
    from search.so_far import front_so_far, is_running

    now = front_so_far(folder)
    counts = ", ".join(f"{count} {state}" for state, count in now.trials.items())
    lines = [f"{folder}: {'running' if is_running(folder) else 'not running'}", f"trials: {counts}"]
    if (folder / front_file.FILE_NAME).exists():
        verified = front_file.read(folder)
        lines.append(f"verified: {sum(member.verified for member in verified.members)} members")
        lines += [_pick_line(pick, verified) for pick in verified.picks]
    else:
        lines += [
            f"front so far: {len(now.members)} members, none verified",
            f"go on with: paretoformer resume {folder}",
        ]
    return "\n".join(lines)


def front(folder: Path, format: str, *, everything: bool) -> str:
    """Members, baselines and picks as a table, JSON or CSV."""
    loaded = load(folder)
    rows, cascades = tables.front_table(loaded, unverified=everything), tables.cascade_table(loaded)
    if format == "json":
        shown = loaded.to_json()
        keys = {row.key for row in [*rows, *cascades]}
        return json.dumps({**shown, "members": [m for m in shown["members"] if m["key"] in keys]}, indent=1)
    if format == "csv":
        return tables.csv([*rows, *cascades]).rstrip("\n")
    parts = [tables.columns(tables.header(loaded), [row.cells() for row in [*rows, *tables.baseline_table(loaded)]])]
    remarks = [(tables.short(row.key), row.remarks) for row in [*rows, *cascades] if row.remarks]
    if remarks:
        parts.append("\n".join(f"{key}: {remark}" for key, remark in remarks))
    if len(loaded.labels) > 1:
        parts.append("mean latency by target, ms:")
        parts.append(tables.columns(*tables.target_table(loaded, [row.key for row in rows])))
    header, lengths = length_table(loaded)
    if lengths:
        parts.append("mean latency by length of the input (timed calls), ms (times as fast as fair, as one_liner):")
        parts.append(tables.columns(header, lengths))
    if cascades:
        parts.append("cascades of these (cheap first, larger on doubt):")
        parts.append(tables.columns(tables.header(loaded), [row.cells() for row in cascades]))
    if loaded.picks:
        parts.append("\n".join(_pick_line(pick, loaded) for pick in loaded.picks))
    if not any(row.verified for row in rows):
        parts.append(
            f"Nothing is verified yet: figures are those of the search. paretoformer resume {folder} verifies."
        )
    return "\n\n".join(parts)


def select(folder: Path, asked: Asked, export: Export | None, format: str) -> str:
    """The member that fits, and where it was exported to.

    Raises:
        InfeasibleError: nothing fits; the message names the nearest miss per limit.
        LimitError: a limit with a wrong unit.
        RunError: the folder is no run, or holds no exported model for the pick.
    """
    loaded = load(folder) if asked.target is None else load(folder).seen_from(asked.target)
    _refuse_unlabelled(loaded, asked)
    limits = {**(loaded.limits if asked.keep else {}), **asked.limits}
    for name, text in asked.limits.items():
        Limit.parse(name, text)
    bounds = loaded.bounds(limits)
    member = choose(
        loaded,
        bounds,
        cast(Preference | None, asked.prefer),
        asked.min_accuracy,
        "cascade" if asked.cascade else "single",
    )
    remark = None
    if not asked.cascade and (asked.prefer or default_preference(bounds)) == "accuracy":
        remark = _other_gain(loaded, member)
    written = [] if export is None else exporting.export(folder, loaded, member, limits, export)
    if format == "json":
        exported = None if export is None else str(export.folder)
        remarks = {} if remark is None else {"remark": remark}
        return json.dumps({**member.to_json(), "limits": limits, "exported": exported, **remarks}, indent=1)
    lines = [
        f"{member.key}: {tables.described(member, loaded)}",
        *_lines(member, loaded),
        f"limits in force: {', '.join(f'{name} <= {text}' for name, text in limits.items()) or 'none'}",
    ]
    if remark is not None:
        lines.append(remark)
    if not member.verified:
        lines.append("Not verified: figures are those of the search, the drop is not yet confirmed on other rows.")
    return "\n".join([*lines, *written])


def confirmed(front: FrontFile, label: str, off: Off | None) -> str:
    """What measuring at a target said of its members."""
    place = front.labels.index(label)
    here = [member if place == 0 else member.seen_from(label) for member in front.members]
    timed = [member for member in here if member.latency is not None and member.latency.rounds]
    same = [share for member in front.members if (share := _agreement(member, label, first=place == 0)) is not None]
    said = [f"{label}: {len(timed)} members measured"]
    if same:
        said.append(f"at least {min(same):.2%} of their answers are those that search scored")
    if off is not None:
        said.append(f"predicted latency was off by {off.mean:.1%} on average and {off.largest:.1%} at most")
    return "; ".join(said)


def _agreement(member: MemberFigures, label: str, *, first: bool) -> float | None:
    if first:
        return member.fidelity.get("agreement")
    there = member.by_target.get(label)
    return None if there is None else there.agreement


def outcome(folder: Path) -> str:
    """What a search prints at its end: the front, the picks with their drops, and what to do next."""
    loaded = load(folder)
    lines = [front(folder, "table", everything=False), "", *_optimism(loaded)]
    if loaded.latency_model:
        errors = loaded.latency_model
        lines.append(
            f"latency model on {errors['n']:.0f} held-out designs: Spearman {errors['spearman']:.3f}, "
            f"mean error {errors['mean_error']:.1%}"
        )
    if loaded.search:
        lines.append(
            f"search: {loaded.search['designs_per_second']:.2f} designs/s, "
            f"{loaded.search['busy_share']:.0%} of worker time spent evaluating"
        )
    lines += [
        f"report: {folder / 'report.html'}",
        f"next: paretoformer select {folder} --max-latency 3ms --export model/",
    ]
    return "\n".join(lines)


def forecast(
    space: Mapping[str, object], figures: Mapping[str, tuple[float, int]], seconds: float, trials: int, workers: int
) -> str:
    """What --dry-run prints.

    Args:
        space: from Space.describe.
        figures: latency in ms and bytes of the extreme designs, predicted.
        seconds: that one design takes a worker.
    """
    rows = [(name, f"{ms:.2f}", f"{size / 1e6:.1f}") for name, (ms, size) in figures.items()]
    wall = seconds * trials / workers
    return "\n".join(
        [
            f"designs: {space['designs']}; knobs: {space['knobs']}",
            tables.columns(("extreme design", "ms (predicted)", "MB (predicted)"), rows),
            f"{seconds:.2f} s per design: {trials} trials on {workers} workers take about {wall / 60:.1f} minutes, "
            "and verification a few more.",
        ]
    )


def bench(rows: Sequence[Mapping[str, Any]], format: str) -> str:
    """What `bench` prints."""
    if format == "json":
        return json.dumps(list(rows), indent=1)
    header = ("model", "accuracy [95 %]", "drop, points", "ms mean (p95)", "speed-up [95 %]", "MB")
    served: tuple[str, ...] = ()
    if any("throughput" in row for row in rows):
        served = ("rows/s [range]", "times [95 %]", "from text", "instances x threads, batch")
    return tables.columns((*header, *served), [_bench_cells(row) + _served_cells(row) for row in rows])


def read_rows(path: Path, medium: Medium = TEXT) -> Iterator[str | tuple[str, str]]:
    """The `text` of every line of a JSONL file, with its `pair` where there is one, or the path of its `file`, as seen
    from the JSONL file's folder; read as it is needed.

    Raises:
        DataError: no such file, not UTF-8, no JSON, or no row; the message names the line.
    """
    number, cure = 0, f"Give a JSONL file with a `{'file' if medium.of_files else 'text'}` per line."
    try:
        with path.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, start=1):
                where = f"{path}, line {number}"
                yield _file(line, path.parent, where) if medium.of_files else _text(line, where)
    except OSError as error:
        raise DataError(f"Cannot read {path}: {error.strerror}. {cure}") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path}, after line {number}: not UTF-8 ({error.reason}). {cure}") from None
    if not number:
        raise DataError(f"{path} is empty. {cure}")


def write_pictures(folder: Path, say: Callable[[str], None]) -> None:
    """report.html and front.png, or a word on why they are missing: the search is worth more than its picture."""
    from search.report import write_report

    try:
        write_report(folder)
    except ConfigError as error:
        say(f"No report: {error}")


def _refuse_unlabelled(loaded: FrontFile, asked: Asked) -> None:
    """Limits that need labels, where the run has none."""
    unknown = [name for name in asked.limits if name in OF_LABELS]
    if asked.min_accuracy is not None:
        unknown.append("accuracy")
    if loaded.metric == AGREEMENT and unknown:
        raise ConfigError(
            f"{loaded.run} was searched without labels, so nobody knows its {unknown[0].replace('_', ' ')}. "
            "Limit --max-disagreement."
        )


def _other_gain(loaded: FrontFile, member: MemberFigures) -> str | None:
    """That the most accurate member is not the one whose gain counts; None where nothing contradicts."""
    gain = next((pick for pick in loaded.picks if pick.name == NAME), None)
    if gain is None or gain.key == member.key:
        return None
    other = "none" if gain.key is None else f"{gain.key} (models/{gain.key})"
    luck = "Most accurate on the confirm rows of all that were verified, which is partly luck."
    return f"{luck} Pick `gain`: {other}; {gain.reason}"


def _text(line: str, where: str) -> str | tuple[str, str]:
    try:
        row = json.loads(line)
        return (str(row["text"]), str(row["pair"])) if "pair" in row else str(row["text"])
    except (ValueError, KeyError, TypeError):
        shown = line.rstrip("\n")[:60]
        raise DataError(f'{where}: expected {{"text": "..."}}, found {shown!r}.') from None


def _file(line: str, folder: Path, where: str) -> str:
    try:
        return str(folder / json.loads(line)["file"])
    except (ValueError, KeyError, TypeError):
        raise DataError(f'{where}: expected {{"file": "..."}}, found {line.rstrip()[:60]!r}.') from None


def _optimism(loaded: FrontFile) -> list[str]:
    """What the tested picks lost on each split, beside each other."""
    tested = {member.key: member for member in loaded.members if "test" in member.accuracy}
    lines = []
    for key, member in tested.items():
        titles = ", ".join(pick.name for pick in loaded.picks if pick.key == key)
        drops = [(split, f.drop.value * 100) for split, f in member.accuracy.items() if f.drop is not None]
        lines.append(f"{key[:8]} ({titles}) lost " + ", ".join(f"{drop:+.2f} pt on {split}" for split, drop in drops))
    return lines


def _lines(member: MemberFigures, loaded: FrontFile) -> list[str]:
    lines = []
    words, guards = said(loaded.metric), tables.asked_guards(loaded)
    for split, figure in member.accuracy.items():
        lost = "" if figure.drop is None else f", lost {tables.interval(figure.drop, 100, 2)} points"
        value = tables.interval(Estimate(figure.value, *figure.ci95))
        counted = {name: figure.guards[name] for name in guards if name in figure.guards}
        further = "".join(
            f"; {name.replace('_', ' ')} {tables.interval(guard.share, 100, 2)} points"
            + ("" if guard.group == "all" else f" ({guard.group})")
            for name, guard in counted.items()
        )
        lines.append(f"{words.metric} on {split} ({figure.n} rows): {value}{lost}{further}")
    if member.latency is not None:
        factors = ", ".join(f"{f.value:.2f}x over {name}" for name, f in member.latency.speedup.items())
        p95 = "" if member.latency.p95_ms is None else f" (p95 {member.latency.p95_ms:.2f})"
        lines.append(f"latency: {member.latency.mean_ms:.2f} ms{p95}{'; ' + factors if factors else ''}")
    if member.size is not None:
        ratio = member.size.ratio.get("fair")
        lines.append(f"size: {member.size.bytes / 1e6:.1f} MB" + ("" if ratio is None else f", 1/{ratio:.1f} of fair"))
    return lines


def _pick_line(pick: Pick, loaded: FrontFile) -> str:
    rows = "" if pick.rows_needed is None else f"; a certificate would need about {pick.rows_needed:,} confirm rows"
    return f"{pick.name:16} {pick.key or '-':16} {pick.reason}{rows}"


def _bench_cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    accuracy, latency = row["accuracy"], row["latency"]
    factor, low, high = latency["speedup"]
    return (
        row["model"],
        tables.interval(Estimate(accuracy["value"], *accuracy["ci95"])),
        f"{row['drop']['value'] * 100:+.2f}",
        f"{latency['mean_ms']:.2f} ({latency['p95_ms']:.2f})",
        f"{factor:.2f} [{low:.2f}, {high:.2f}]",
        f"{row['size']['bytes'] / 1e6:.1f}",
    )


def _served_cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    if "throughput" not in row:
        return ()
    found = row["throughput"]
    factor, low, high = found["ratio"]
    return (
        f"{found['rows_per_second']:,.0f} [{found['low']:,.0f}, {found['high']:,.0f}]",
        f"{factor:.2f} [{low:.2f}, {high:.2f}]",
        f"{found['text_rows_per_second']:,.0f}",
        f"{found['instances']} x {found['threads']}, {found['batch_size']}",
    )
