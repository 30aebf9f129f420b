"""A front as rows of text: terminal, README, report and spreadsheets. Knows figures and columns; measures nothing."""

import csv as csv_format
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from search.figures import Estimate, GuardFigure, LatencyFigure, MemberFigures
from search.front_file import FrontFile
from search.wording import said
from spaces.objectives import GUARDS

HEADER = (
    "key",
    "picked as",
    "{metric} [95 %]",
    "drop, points [95 %]",
    "ms (p95)",
    "vs fair",
    "vs one_liner",
    "MB (x smaller)",
    "layers",
    "heads",
    "neurons",
    "bits",
    "verified",
    "limits",
)
_KEY_DIGITS = 16  # of a member's key, which is shown by its first half; a baseline's name is shown whole


def header(front: FrontFile) -> tuple[str, ...]:
    """HEADER with what the front's answers are judged by, and the limits on answers that were asked beside."""
    words = said(front.metric)
    named = (*HEADER[:2], f"{words.metric} [95 %]", f"{words.lost}, points [95 %]", *HEADER[4:])
    return (*named, *(f"{name.replace('_', ' ')}, points [95 %]" for name in asked_guards(front)))


def asked_guards(front: FrontFile) -> tuple[str, ...]:
    """Limits on answers beside the metric that a column shows; where it is agreement, disagreement has its own."""
    own = said(front.metric).lost
    return tuple(name for name in front.limits if name in GUARDS and name != own)


@dataclass(frozen=True)
class Parts:
    """What is left of a model, counted; None where no family says.

    Args:
        layers: layers that stay.
        heads: attention heads in all.
        neurons: FFN neurons in all.
        bits: widths of the layers' weights, widest first.
        embeddings: width of the tables.
        tokens: of a pruned vocabulary; None: all stay.
        exact_rows: of the word table, where the others are put together from shared parts; None: all.
        kinds: of attention other than soft, with the number of layers of each.
        level: share of a row's tokens that is read; None: all are.
    """

    layers: int
    heads: int | None
    neurons: int | None
    bits: tuple[int, ...]
    embeddings: int | None
    tokens: int | None = None
    exact_rows: int | None = None
    kinds: tuple[tuple[str, int], ...] = ()
    level: float | None = None

    @classmethod
    def of(cls, decoded: Mapping[str, Any] | None) -> "Parts | None":
        """Counted from a decoded design; None where there is none (a model of another kind)."""
        if not decoded or "layers" not in decoded:
            return None
        layers = [layer for layer in decoded["layers"] if layer is not None]
        widths = {width for layer in layers for width in layer.get("bits", {}).values() if width is not None}
        return cls(
            len(layers),
            sum(len(layer["heads"]) for layer in layers) if all("heads" in layer for layer in layers) else None,
            sum(layer["ffn"] for layer in layers) if all("ffn" in layer for layer in layers) else None,
            tuple(sorted(widths, reverse=True)),
            decoded.get("embeddings", {}).get("bits"),
            decoded.get("embeddings", {}).get("vocabulary"),
            decoded.get("embeddings", {}).get("exact_rows"),
            tuple(Counter(kind for layer in layers if "@" in (kind := layer.get("attention", ""))).items()),
            decoded.get("compression", {}).get("level"),
        )

    @property
    def bits_text(self) -> str:
        """`8`, `8/4 mixed`, `8, emb 4`."""
        layers = "/".join(str(width) for width in self.bits) + (" mixed" if len(self.bits) > 1 else "")
        same = self.embeddings is None or self.bits == (self.embeddings,)
        return layers if same else ", ".join(filter(None, [layers, f"emb {self.embeddings}"]))


@dataclass(frozen=True)
class Row:
    """One member of a front, or a baseline; figures in the units of front.json, None where unknown.

    Args:
        split: the rows that `accuracy` and `drop` are on: `confirm`, or `search` where that is all there is.
        speedup: by baseline.
        heads: share of the original's heads that stay.
        neurons: share of the original's FFN neurons that stay.
        guards: what limits on answers beside the metric count, of those that were asked.
    """

    key: str
    picks: tuple[str, ...]
    split: str
    accuracy: Estimate | None
    drop: Estimate | None
    mean_ms: float | None
    p95_ms: float | None
    speedup: Mapping[str, float]
    bytes: int | None
    ratio: float | None
    rows_per_second: float | None
    layers: int | None
    heads: float | None
    neurons: float | None
    bits: str
    verified: bool
    meets_limits: bool | None
    note: str
    ties: tuple[str, ...] = ()
    beaten_by: tuple[str, ...] = ()
    guards: tuple[GuardFigure | None, ...] = ()

    @property
    def remarks(self) -> str:
        """What the columns do not say: why it must not be picked, who beats it, who is as good."""
        beaten = f"beaten by {_listed(self.beaten_by)}" if self.beaten_by else ""
        tied = f"cannot be told from {_listed(self.ties)}" if self.ties else ""
        return "; ".join(filter(None, (self.note, beaten, tied)))

    @property
    def predicted(self) -> bool:
        """Whether all but the latency was measured: the target is another machine."""
        return self.verified and self.mean_ms is not None and self.p95_ms is None

    def cells(self) -> tuple[str, ...]:
        """One text per column of `header`; `-` where unknown."""
        note = "" if self.split == "confirm" else f" ({self.split})"
        return (
            short(self.key),
            ", ".join(self.picks),
            "-" if self.accuracy is None else interval(self.accuracy) + note,
            "-" if self.drop is None else interval(self.drop, 100, 2) + note,
            _latency(self.mean_ms, self.p95_ms) + (" predicted" if self.predicted else ""),
            _times(self.speedup.get("fair")),
            _times(self.speedup.get("one_liner")),
            _size(self.bytes, self.ratio),
            "-" if self.layers is None else str(self.layers),
            _percent(self.heads),
            _percent(self.neurons),
            self.bits or "-",
            "yes" if self.verified else "no",
            {True: "met", False: "missed", None: "-"}[self.meets_limits],
            *map(_guard, self.guards),
        )


def front_table(front: FrontFile, *, unverified: bool = False) -> list[Row]:
    """The single models, fastest first; unverified ones behind, and only if asked for or if there are no others."""
    rows = _rows(front, "single")
    return [row for row in rows if unverified or row.verified] or rows


def cascade_table(front: FrontFile) -> list[Row]:
    """The cascades, fastest first."""
    return _rows(front, "cascade")


def _rows(front: FrontFile, kind: str) -> list[Row]:
    picked: dict[str | None, list[str]] = {}
    for pick in front.picks:
        picked.setdefault(pick.key, []).append(pick.name)
    rows = [_row(each, tuple(picked.get(each.key, ())), front) for each in front.members if each.kind == kind]
    return sorted(
        rows, key=lambda row: (not row.verified, row.mean_ms is None, row.mean_ms or 0.0, row.bytes or 0, row.key)
    )


def target_table(front: FrontFile, keys: Sequence[str]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """A header and rows: mean latency at every target of these members, then of the baselines."""
    known = {member.key: member for member in front.members}
    rows = []
    for member in (*(known[key] for key in keys if key in known), *front.baselines.values()):
        further = (member.by_target.get(label) for label in front.labels[1:])
        latencies = [member.latency, *(None if there is None else there.latency for there in further)]
        rows.append((short(member.key), *(_timed(latency) for latency in latencies)))
    return ("key", *front.labels), rows


def short(key: str) -> str:
    """A member's key as tables show it; a baseline's name is shown whole."""
    return key if len(key) < _KEY_DIGITS else key[:8]


def _listed(keys: Sequence[str]) -> str:
    return ", ".join(map(short, keys))


def _timed(latency: LatencyFigure | None) -> str:
    if latency is None:
        return "-"
    return _latency(latency.mean_ms, latency.p95_ms) + ("" if latency.rounds else " predicted")


def baseline_table(front: FrontFile) -> list[Row]:
    """The baselines in the order of front.json, their names as keys."""
    return [replace(_row(member, (), front), key=name) for name, member in front.baselines.items()]


def described(member: MemberFigures, front: FrontFile) -> str:
    """What a member is, in one line: its design, or a cascade's members in turn."""
    if member.kind == "cascade":
        return f"a cascade of {' then '.join(key[: _KEY_DIGITS // 2] for key in member.parents)}"
    fair = front.baselines.get("fair")
    origin = ", distilled" if member.weights.startswith("recovered") else ""
    return summary(member.decoded, None if fair is None else fair.decoded) + origin


def summary(decoded: Mapping[str, Any] | None, whole: Mapping[str, Any] | None = None) -> str:
    """A decoded design in one line: `6 layers, 83 % heads, 54 % neurons, int8, emb int4`.

    Args:
        decoded: the design.
        whole: the untouched model's; without it heads and neurons are counts.
    """
    parts, original = Parts.of(decoded), Parts.of(whole)
    if parts is None:
        return "not a design of this space"
    said = [f"{parts.layers} layer{'' if parts.layers == 1 else 's'}"]
    for name in ("heads", "neurons"):
        count = getattr(parts, name)
        if count is not None:
            share = _share(count, None if original is None else getattr(original, name))
            said.append(f"{count} {name}" if share is None else f"{_percent(share)} {name}")
    said += [] if not parts.bits else ["/".join(_width(bits) for bits in parts.bits)]
    if parts.embeddings is not None and parts.bits != (parts.embeddings,):
        said.append(f"emb {_width(parts.embeddings)}")
    said += [f"{kind} in {count} layer{'' if count == 1 else 's'}" for kind, count in parts.kinds]
    if parts.level is not None:
        said.append(f"reads {_percent(parts.level)}")
    if parts.tokens is not None:
        said.append(f"{parts.tokens:,} tokens")
    if parts.exact_rows is not None:
        said.append(f"{parts.exact_rows:,} words exact")
    return ", ".join(said)


def csv(rows: Sequence[Row]) -> str:
    """Full keys and unrounded figures, one column each, for a spreadsheet."""
    flat = [_flat(row) for row in rows]
    file = io.StringIO()
    writer = csv_format.DictWriter(file, list(dict.fromkeys(name for row in flat for name in row)), lineterminator="\n")
    writer.writeheader()
    writer.writerows(flat)
    return file.getvalue()


def to_json(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """The rows as plain values, ready for `json.dumps`."""
    return [asdict(row) for row in rows]


def interval(estimate: Estimate, factor: float = 1.0, digits: int = 3) -> str:
    """`0.861 [0.843, 0.878]`, all multiplied by `factor`; the value alone where no interval is known."""
    value, low, high = (f"{figure * factor:.{digits}f}" for figure in (estimate.value, estimate.low, estimate.high))
    return value if estimate.low == estimate.high else f"{value} [{low}, {high}]"


def columns(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Left-aligned columns, two spaces apart."""
    widths = [max(len(line[column]) for line in [header, *rows]) for column in range(len(header))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in [header, *rows]
    ]
    return "\n".join(lines)


def _whole(front: FrontFile) -> Parts | None:
    fair = front.baselines.get("fair")
    return None if fair is None else Parts.of(fair.decoded)


def _row(member: MemberFigures, picks: tuple[str, ...], front: FrontFile) -> Row:
    whole = _whole(front)
    split = "confirm" if member.accuracy.get("confirm") is not None else "search"
    scored, parts, size = member.accuracy.get(split), Parts.of(member.decoded), member.size
    timed = member.latency
    return Row(
        key=member.key,
        picks=picks,
        split=split,
        accuracy=None if scored is None else Estimate(scored.value, *scored.ci95),
        drop=None if scored is None else scored.drop,
        mean_ms=None if timed is None else timed.mean_ms,
        p95_ms=None if timed is None else timed.p95_ms,
        speedup={} if timed is None else {name: factor.value for name, factor in timed.speedup.items()},
        bytes=None if size is None else size.bytes,
        ratio=None if size is None else size.ratio.get("fair"),
        rows_per_second=None if member.throughput is None else member.throughput.rows_per_second,
        layers=None if parts is None else parts.layers,
        heads=None if parts is None or whole is None else _share(parts.heads, whole.heads),
        neurons=None if parts is None or whole is None else _share(parts.neurons, whole.neurons),
        bits="" if parts is None else parts.bits_text,
        verified=member.verified,
        meets_limits=member.meets_limits,
        note=member.note or "",
        ties=member.ties,
        beaten_by=member.beaten_by,
        guards=tuple(None if scored is None else scored.guards.get(name) for name in asked_guards(front)),
    )


def _flat(row: Row) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in asdict(row).items():
        if name in ("accuracy", "drop"):
            known = value or {}
            flat |= {name: known.get("value"), f"{name}_low": known.get("low"), f"{name}_high": known.get("high")}
        elif name == "guards":
            continue  # front.json has them all
        elif name == "speedup":
            flat |= {f"speedup_{baseline}": value.get(baseline) for baseline in ("fair", "one_liner", "pipeline")}
        else:
            flat[name] = " ".join(value) if isinstance(value, tuple) else value
    return flat


def _share(count: int | None, whole: int | None) -> float | None:
    return None if count is None or not whole else count / whole


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.0f} %"


def _times(factor: float | None) -> str:
    return "-" if factor is None else f"{factor:.2f}x"


def _latency(mean: float | None, p95: float | None) -> str:
    if mean is None:
        return "-"
    return f"{mean:.2f}" + ("" if p95 is None else f" ({p95:.2f})")


def _size(count: int | None, ratio: float | None) -> str:
    if count is None:
        return "-"
    return f"{count / 1e6:.1f}" + ("" if ratio is None else f" ({ratio:.1f}x)")


def _guard(figure: GuardFigure | None) -> str:
    """`0.93 [0.51, 1.56]`, and which group it is where there are several."""
    if figure is None:
        return "-"
    return interval(figure.share, 100, 2) + ("" if figure.group == "all" else f" {figure.group}")


def _width(bits: int) -> str:
    return f"{'fp' if bits >= 16 else 'int'}{bits}"
