"""A member and the baselines before and now, beside each other. Knows figures and columns; measures nothing."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from search import tables
from search.front_file import FrontFile
from search.reapply import Reapplied

# Of a table's columns: the metric, its drop, latency, how many times as fast, size.
_SHOWN = slice(2, 8)


def shown(done: Reapplied, format: str, exported: Path | None) -> str:
    """What `reapply` prints: figures before and now, which limits are in force, where everything is."""
    before, now = _models(done.before, done.key), _models(done.now, done.key)
    if format == "json":
        return json.dumps(_document(done, before, now, exported), indent=1)
    lines = [
        (tables.short(name) if run == "before" else "", run, *row.cells()[_SHOWN])
        for name in now
        for run, rows in (("before", before), ("now", now))
        if (row := rows.get(name)) is not None
    ]
    said = [
        f"limits in force: {', '.join(f'{name} <= {text}' for name, text in done.now.limits.items()) or 'none'}",
        f"certified: {_certified(done.before, done.key)} before, {_certified(done.now, done.key)} now",
    ]
    if not done.same_rows:
        said.append("The rows are not those of the run before, so accuracies are not to be compared row by row.")
    if not done.same_machine:
        said.append("The run before was timed on another machine: compare how many times as fast, not milliseconds.")
    said += [
        f"report: {done.folder / 'report.html'}",
        f"model: {exported or done.folder / 'models' / done.key}",
    ]
    return "\n\n".join([tables.columns(("model", "", *tables.header(done.now)[_SHOWN]), lines), "\n".join(said)])


def _document(
    done: Reapplied, before: Mapping[str, tables.Row], now: Mapping[str, tables.Row], exported: Path | None
) -> dict[str, Any]:
    pairs = {name: [rows[name] for rows in (before, now) if name in rows] for name in now}
    return {
        "key": done.key,
        "run": str(done.folder),
        "holds": not done.missed,
        "missed": list(done.missed),
        "limits": dict(done.now.limits),
        "certified": {
            "before": _certified(done.before, done.key) == "yes",
            "now": _certified(done.now, done.key) == "yes",
        },
        "same_rows": done.same_rows,
        "same_machine": done.same_machine,
        "exported": None if exported is None else str(exported),
        "models": {
            name: dict(zip(("before", "now")[-len(rows) :], tables.to_json(rows), strict=True))
            for name, rows in pairs.items()
        },
    }


def _models(front: FrontFile, key: str) -> dict[str, tables.Row]:
    """The member, then the baselines, by name."""
    rows = [*tables.front_table(front, unverified=True), *tables.baseline_table(front)]
    known = {row.key: row for row in rows}
    return {name: known[name] for name in (key, *front.baselines) if name in known}


def _certified(front: FrontFile, key: str) -> str:
    return "yes" if front.certificate is not None and key in front.certificate.passed else "no"
