"""What `diff` prints, writes and refuses. Knows the figures of two models' answers; runs no model."""

import csv as csv_format
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from search import tables
from search.figures import Estimate
from spaces.errors import ConfigError, LimitError
from spaces.objectives import Limit

# Shown in the table; all are in --out, and in the other formats.
_SHOWN, _TEXT = 10, 70
_FLIP_COLUMNS = ("row", "kind", "label", "base", "base_probability", "model", "model_probability", "change", "text")
_TITLES = {
    "drop": "drop, points [95 %]",
    "disagreement": "answers that differ [95 %]",
    "negative": "negative flips [95 %]",
    "positive": "positive flips [95 %]",
}


@dataclass(frozen=True)
class Limits:
    """What may change at most, as asked: `1pt` (points) or `1%`, of rows, or of the base's metric for a drop.

    Args:
        drop: of the metric.
        negative_flips: rows that only the base has right.
        disagreement: rows answered differently.
    """

    drop: str | None = None
    negative_flips: str | None = None
    disagreement: str | None = None

    def __post_init__(self) -> None:
        for flag, text in self._given():
            _limit(flag, text)

    def missed(self, found: Mapping[str, Any]) -> list[str]:
        """The limits that point estimates are beyond, one phrase each.

        Raises:
            ConfigError: one needs labels, and the rows have none.
        """
        whole = found["whole"]
        judged, missed = whole["judged"], []
        for flag, text in self._given():
            if judged is None and flag != "--max-disagreement":
                raise ConfigError(f"{flag} needs labels, and the rows have none. Limit --max-disagreement instead.")
            value, of = _held(flag, whole)
            at_most = _limit(flag, text).resolve({"accuracy": of}).at_most
            if value > at_most:
                missed.append(f"{flag} {text}: {100 * value:.2f} points, {100 * (value - at_most):.2f} more than asked")
        return missed

    def _given(self) -> Iterator[tuple[str, str]]:
        for name, text in vars(self).items():
            if text is not None:
                yield f"--max-{name.replace('_', '-')}", text


def _limit(flag: str, text: str) -> Limit:
    try:
        return Limit.parse("accuracy_drop", text)
    except LimitError:
        raise LimitError(f"{flag} {text!r} is no limit. Write 1pt (a point) or 1%.") from None


def _held(flag: str, whole: Mapping[str, Any]) -> tuple[float, float]:
    """The figure that a limit is held against, and what its percentages are of."""
    judged = whole["judged"]
    match flag:
        case "--max-drop":
            return judged["drop"][0], judged["base"]["value"]
        case "--max-negative-flips":
            return judged["negative"]["value"], 1.0
        case _:
            return whole["disagreement"]["value"], 1.0


def shown(found: Mapping[str, Any], format: str) -> str:
    """Figures, slices and flips as a table or JSON; as CSV the flipped rows alone."""
    if format == "json":
        return json.dumps(found, indent=1)
    return _csv(found).rstrip("\n") if format == "csv" else _table(found)


def check_name(path: Path) -> None:
    """Raise ConfigError for a file that `write` knows no format for."""
    if path.suffix.lower() not in _WRITERS:
        raise ConfigError(f"--out {path}: expected a name ending in .csv or .jsonl, found {path.suffix!r}.")


def write(path: Path, found: Mapping[str, Any]) -> None:
    """All flipped rows, as CSV or as JSON lines by the file's extension."""
    path.write_text(_WRITERS[path.suffix.lower()](found), encoding="utf-8")


def _csv(found: Mapping[str, Any]) -> str:
    file = io.StringIO()
    writer = csv_format.DictWriter(file, _FLIP_COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(found["flips"])
    return file.getvalue()


def _jsonl(found: Mapping[str, Any]) -> str:
    return "".join(json.dumps(flip, ensure_ascii=False) + "\n" for flip in found["flips"])


_WRITERS: Mapping[str, Callable[[Mapping[str, Any]], str]] = {".csv": _csv, ".jsonl": _jsonl}


def _table(found: Mapping[str, Any]) -> str:
    whole, flips = found["whole"], found["flips"]
    judged = whole["judged"]
    lines = [f"base {found['base']}, model {found['model']}", f"on {found['rows']}"]
    if judged is not None:
        lines += [f"{found['metric']} of the base: {_figure(judged['base'])}, of the model: {_figure(judged['model'])}"]
        lines += [f"lost: {tables.interval(Estimate(*judged['drop']), 100, 2)} points"]
        lines += [f"negative flips (base right, model wrong): {_counted(judged['negative'])}"]
        lines += [f"positive flips (base wrong, model right): {_counted(judged['positive'])}"]
    lines += [f"answers that differ: {_counted(whole['disagreement'])}"]
    return "\n\n".join(
        [
            "\n".join(lines),
            "slices, the strongest evidence of change for the worse first (each interval is of one slice alone):\n"
            + _slices(found["slices"], labelled=judged is not None),
            f"{len(flips):,} rows flipped"
            + (f"; the {_SHOWN} that changed most" if len(flips) > _SHOWN else "")
            + (":\n" + _flips(flips[:_SHOWN]) if flips else "."),
        ]
    )


def _slices(slices: Sequence[Mapping[str, Any]], *, labelled: bool) -> str:
    if not labelled:
        rows = [(part["name"], f"{part['n']:,}", _share(part["disagreement"])) for part in slices]
        return tables.columns(("slice", "rows", _TITLES["disagreement"]), rows)
    header = ("slice", "rows", "accuracy base", "model", *(_TITLES[name] for name in ("drop", "negative", "positive")))
    return tables.columns(header, [_judged(part) for part in slices])


def _judged(part: Mapping[str, Any]) -> tuple[str, ...]:
    judged = part["judged"]
    return (
        part["name"],
        f"{part['n']:,}",
        f"{judged['base']['value']:.3f}",
        f"{judged['model']['value']:.3f}",
        tables.interval(Estimate(*judged["drop"]), 100, 2),
        _share(judged["negative"]),
        _share(judged["positive"]),
    )


def _flips(flips: Sequence[Mapping[str, Any]]) -> str:
    header = ("flip", "label", "base", "model", "change", "text")
    return tables.columns(
        header,
        [
            (
                flip["kind"] or "-",
                flip["label"] or "-",
                f"{flip['base']} {flip['base_probability']:.3f}",
                f"{flip['model']} {flip['model_probability']:.3f}",
                f"{flip['change']:.3f}",
                _shortened(flip["text"]),
            )
            for flip in flips
        ],
    )


def _shortened(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _TEXT else line[: _TEXT - 3] + "..."


def _figure(figure: Mapping[str, Any]) -> str:
    return tables.interval(Estimate(figure["value"], figure["low"], figure["high"]))


def _counted(share: Mapping[str, Any]) -> str:
    return f"{share['rows']:,} of {share['n']:,}, {_share(share)}"


def _share(share: Mapping[str, Any]) -> str:
    """`1.20 % [0.77, 1.88]`."""
    return f"{100 * share['value']:.2f} % [{100 * share['low']:.2f}, {100 * share['high']:.2f}]"
