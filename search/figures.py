"""What is known of a member, as front.json holds it. Knows values and JSON; knows nothing of how they are measured."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Literal, Self

Json = Mapping[str, Any]
SPLITS = ("search", "confirm", "test")


@dataclass(frozen=True)
class Estimate:
    """A figure with the ends of its 95 % interval."""

    value: float
    low: float
    high: float

    def to_triple(self) -> list[float]:
        """`[value, low, high]`, as speed-ups are written."""
        return [self.value, self.low, self.high]

    @classmethod
    def from_triple(cls, triple: list[float]) -> Self:
        value, low, high = triple
        return cls(value, low, high)

    def to_json(self) -> dict[str, Any]:
        """`{"value", "ci95"}`, as drops are written."""
        return {"value": self.value, "ci95": [self.low, self.high]}

    @classmethod
    def from_json(cls, document: Json) -> Self:
        low, high = document["ci95"]
        return cls(document["value"], low, high)


@dataclass(frozen=True)
class GuardFigure:
    """What a limit on answers beside the metric counts (evaluators/metrics/guards.py).

    Args:
        share: of the rows, or of the accuracy of the group that loses most, with its 95 % interval; where the search
            has nothing but its own figure, the interval is that alone.
        group: that group; `all` where all rows are counted.
        n: its rows.
    """

    share: Estimate
    group: str = "all"
    n: int = 0

    def to_json(self) -> dict[str, Any]:
        return {**self.share.to_json(), "group": self.group, "n": self.n}

    @classmethod
    def from_json(cls, document: Json) -> Self:
        return cls(Estimate.from_json(document), document["group"], document["n"])


@dataclass(frozen=True)
class AccuracyFigure:
    """The task's metric on one split.

    Args:
        value: the metric, as a fraction.
        ci95: its 95 % interval.
        n: rows.
        drop: against `fair`, paired on the same rows, in fractions; None where there is nothing to pair with.
        guards: what further limits on answers count, by name.
    """

    value: float
    ci95: tuple[float, float]
    n: int
    drop: Estimate | None = None
    guards: Mapping[str, GuardFigure] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        drop = None if self.drop is None else self.drop.to_json()
        guards = {name: guard.to_json() for name, guard in self.guards.items()}
        return {"value": self.value, "ci95": list(self.ci95), "n": self.n, "drop": drop, "guards": guards}

    @classmethod
    def from_json(cls, document: Json) -> Self:
        drop = document.get("drop")
        low, high = document["ci95"]
        guards = {name: GuardFigure.from_json(guard) for name, guard in document.get("guards", {}).items()}
        lost = None if drop is None else Estimate.from_json(drop)
        return cls(document["value"], (low, high), document["n"], lost, guards)


@dataclass(frozen=True)
class BandFigure:
    """Time per call on inputs of like length.

    Args:
        tokens: the shortest and the longest length that belong to it; of a batch its longest row counts.
        n: timed calls of such lengths.
        mean_ms: as a LatencyFigure's.
        speedup: likewise.
    """

    tokens: tuple[int, int]
    n: int
    mean_ms: float
    speedup: Mapping[str, Estimate] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        return {**vars(self), "tokens": list(self.tokens), "speedup": _triples(self.speedup)}

    @classmethod
    def from_json(cls, document: Json) -> Self:
        first, last = document["tokens"]
        return cls(**{**_known(cls, document), "tokens": (first, last), "speedup": _estimates(document["speedup"])})


@dataclass(frozen=True)
class LatencyFigure:
    """Time per call on one target, in ms.

    Args:
        mean_ms: mean over the fixed inputs of each input's median over rounds.
        p50_ms: median over the inputs; None where only a prediction is known.
        p95_ms: 95th percentile over the inputs; None where only a prediction is known.
        rounds: timing rounds in all; 0 for a prediction.
        processes: fresh processes they were spread over.
        speedup: per baseline, the baseline's time over this one.
        bands: the same by length of the inputs, shortest first; none for a prediction, or where an older version
            measured.
    """

    mean_ms: float
    p50_ms: float | None = None
    p95_ms: float | None = None
    rounds: int = 0
    processes: int = 0
    speedup: Mapping[str, Estimate] = field(default_factory=dict)
    bands: tuple[BandFigure, ...] = ()

    def held(self, statistic: Literal["mean", "p95"]) -> float:
        """The figure that a limit on `statistic` is held against; the mean where no 95th percentile is known yet."""
        return self.p95_ms if statistic == "p95" and self.p95_ms is not None else self.mean_ms

    def to_json(self) -> dict[str, Any]:
        return {**vars(self), "speedup": _triples(self.speedup), "bands": [band.to_json() for band in self.bands]}

    @classmethod
    def from_json(cls, document: Json) -> Self:
        bands = tuple(BandFigure.from_json(band) for band in document.get("bands", ()))
        return cls(**{**_known(cls, document), "speedup": _estimates(document["speedup"]), "bands": bands})


@dataclass(frozen=True)
class SizeFigure:
    """Bytes of all files needed for inference, the tokenizer's apart; `ratio` is each baseline's bytes over these."""

    bytes: int
    tokenizer_bytes: int
    ratio: Mapping[str, float] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        return {"bytes": self.bytes, "tokenizer_bytes": self.tokenizer_bytes, "ratio": dict(self.ratio)}

    @classmethod
    def from_json(cls, document: Json) -> Self:
        return cls(document["bytes"], document["tokenizer_bytes"], dict(document["ratio"]))


@dataclass(frozen=True)
class ThroughputFigure:
    """Rows per second of the whole machine, for rows tokenised beforehand.

    Args:
        rows_per_second: median over rounds.
        instances: processes, one thread per core in all.
        batch_size: rows per call.
        ratio: per baseline, this over the baseline's.
    """

    rows_per_second: float
    instances: int
    batch_size: int
    ratio: Mapping[str, Estimate] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        return {**vars(self), "ratio": _triples(self.ratio)}

    @classmethod
    def from_json(cls, document: Json) -> Self:
        return cls(**{**_known(cls, document), "ratio": _estimates(document["ratio"])})


@dataclass(frozen=True)
class TargetFigures:
    """A member on one further target.

    Args:
        latency: predicted (no rounds) or measured there.
        size: the same files in the same runtime.
        artifact: its folder, relative to the run's.
        accuracy: on confirm, of the answers given there; None while nobody ran it there.
        agreement: share of the search rows answered there as search scored them; None likewise.
    """

    latency: LatencyFigure | None
    size: SizeFigure | None
    artifact: str | None
    accuracy: AccuracyFigure | None = None
    agreement: float | None = None

    def to_json(self) -> dict[str, Any]:
        return {
            "latency": _json_or_none(self.latency),
            "size": _json_or_none(self.size),
            "artifact": self.artifact,
            "accuracy": _json_or_none(self.accuracy),
            "agreement": self.agreement,
        }

    @classmethod
    def from_json(cls, document: Json) -> Self:
        scored = document.get("accuracy")
        accuracy = None if scored is None else AccuracyFigure.from_json(scored)
        return cls(_latency(document), _size(document), document["artifact"], accuracy, document.get("agreement"))


@dataclass(frozen=True)
class MemberFigures:
    """Everything known of one member or baseline.

    Args:
        key: the member's key; a baseline's name where it has no design.
        kind: `single`, `cascade` or `baseline`.
        decoded: the decoded design; None for a baseline without one.
        knobs: how a space wrote it; None for recipes and baselines.
        recipe: what proposed it (`search`, a recipe's name, `baseline`).
        weights: id of its weights.
        parents: keys of the members it was made of.
        stages: a cascade's stages; None otherwise.
        meets_limits: whether it meets every limit of the run; None while nobody can say.
        verified: whether its exported artefact was loaded again and measured.
        accuracy: per split (search, confirm, test) its figure; absent where it was not scored.
        latency, size: on the first target; None where nothing is known.
        throughput: measured where it is an objective of the run.
        fidelity: closeness to the original (`kl`) and to what search scored (`agreement`), what was predicted, and
            what a smaller vocabulary does to texts and bytes.
        artifact: its folder, relative to the run's.
        by_target: figures on further targets, by label.
        note: why it was demoted or counts as collapsed; such a member is never picked.
        ties: keys of verified members that nothing tells it from.
        beaten_by: keys of those that are surely better in something and no worse in anything.
    """

    key: str
    kind: str
    decoded: Json | None = None
    knobs: Json | None = None
    recipe: str = "search"
    weights: str = "finetuned"
    parents: tuple[str, ...] = ()
    stages: tuple[Json, ...] | None = None
    meets_limits: bool | None = None
    verified: bool = False
    accuracy: Mapping[str, AccuracyFigure] = field(default_factory=dict)
    latency: LatencyFigure | None = None
    size: SizeFigure | None = None
    throughput: ThroughputFigure | None = None
    fidelity: Mapping[str, float] = field(default_factory=dict)
    artifact: str | None = None
    by_target: Mapping[str, TargetFigures] = field(default_factory=dict)
    note: str | None = None
    ties: tuple[str, ...] = ()
    beaten_by: tuple[str, ...] = ()

    def seen_from(self, label: str) -> Self:
        """The same member with its figures on a further target in the first place; no latency where none is known."""
        there = self.by_target.get(label, TargetFigures(None, self.size, self.artifact))
        scored = {} if there.accuracy is None else {"confirm": there.accuracy}
        return replace(self, latency=there.latency, accuracy={**self.accuracy, **scored})

    def to_json(self) -> dict[str, Any]:
        return {
            **{name: getattr(self, name) for name in ("key", "kind", "decoded", "knobs", "recipe", "weights")},
            "parents": list(self.parents),
            "stages": None if self.stages is None else list(self.stages),
            "meets_limits": self.meets_limits,
            "verified": self.verified,
            "accuracy": {split: _json_or_none(self.accuracy.get(split)) for split in SPLITS},
            "latency": _json_or_none(self.latency),
            "size": _json_or_none(self.size),
            "throughput": _json_or_none(self.throughput),
            "fidelity": dict(self.fidelity),
            "artifact": self.artifact,
            "by_target": {label: figures.to_json() for label, figures in self.by_target.items()},
            "note": self.note,
            "ties": list(self.ties),
            "beaten_by": list(self.beaten_by),
        }

    @classmethod
    def from_json(cls, document: Json) -> Self:
        scored = {split: figure for split, figure in document["accuracy"].items() if figure is not None}
        return cls(
            **{
                **_known(cls, document),
                "parents": tuple(document["parents"]),
                "stages": None if document["stages"] is None else tuple(document["stages"]),
                "accuracy": {split: AccuracyFigure.from_json(figure) for split, figure in scored.items()},
                "latency": _latency(document),
                "size": _size(document),
                "throughput": _throughput(document),
                **{name: tuple(document.get(name, ())) for name in ("ties", "beaten_by")},  # older files have none
                "by_target": {
                    label: TargetFigures.from_json(figures) for label, figures in document["by_target"].items()
                },
            }
        )


@dataclass(frozen=True)
class Pick:
    """One answer of a run: which member, and why.

    Args:
        name: `limits`, `gain`, `certified`, `fastest_within`, `smallest_within`, `cascade`, `knee`, `fastest`,
            `smallest` or `safest`; or a recipe's.
        key: the member; None if nothing qualifies.
        certified: whether that member passed the certificate.
        reason: one sentence for people.
        rows_needed: confirm rows that could carry the missing certificate; None where none is missing or none could.
    """

    name: str
    key: str | None
    certified: bool
    reason: str
    rows_needed: int | None = None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, document: Json) -> Self:
        return cls(**_known(cls, document))


def _triples(known: Mapping[str, Estimate]) -> dict[str, list[float]]:
    return {baseline: estimate.to_triple() for baseline, estimate in known.items()}


def _estimates(document: Json) -> dict[str, Estimate]:
    return {baseline: Estimate.from_triple(triple) for baseline, triple in document.items()}


def _known(cls: type, document: Json) -> dict[str, Any]:
    """The entries that are fields of `cls`: a newer version may have added others."""
    return {each.name: document[each.name] for each in fields(cls) if each.name in document}


def _json_or_none(
    figure: AccuracyFigure | LatencyFigure | SizeFigure | ThroughputFigure | None,
) -> dict[str, Any] | None:
    return None if figure is None else figure.to_json()


def _latency(document: Json) -> LatencyFigure | None:
    return None if document["latency"] is None else LatencyFigure.from_json(document["latency"])


def _throughput(document: Json) -> ThroughputFigure | None:
    known = document.get("throughput")  # older files have none
    return None if known is None else ThroughputFigure.from_json(known)


def _size(document: Json) -> SizeFigure | None:
    return None if document["size"] is None else SizeFigure.from_json(document["size"])
