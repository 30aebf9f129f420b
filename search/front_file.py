"""front.json, the answer of a run. Knows where it lies and its schema; knows nothing of how members are chosen."""

import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal, Self

from search.certificate import Certificate
from search.figures import Json, MemberFigures, Pick
from search.gains import Gain
from spaces.errors import LimitError, RunError
from spaces.objectives import ACCURACY, AT, LATENCY, SIZE, Bound, Limit, Objective, latency_at
from spaces.target import Target

FILE_NAME = "front.json"
SCHEMA_VERSION = 1


@dataclass(frozen=True)
class SplitRecord:
    """Which rows a split had; `reads` counts how often test was read, None for the others."""

    n: int
    sha256: str
    reads: int | None = None

    def to_json(self) -> dict[str, Any]:
        return {name: value for name, value in asdict(self).items() if name != "reads" or value is not None}

    @classmethod
    def from_json(cls, document: Json) -> Self:
        return cls(document["n"], document["sha256"], document.get("reads"))


@dataclass(frozen=True)
class FrontFile:
    """The whole of front.json.

    Args:
        run: name of the run.
        targets: serving situations, the first one primary.
        seed: of splits and search.
        limits: as asked, by name (`{"latency": "5ms"}`).
        statistic: which figure of latency limits hold for.
        confidence: of the certificate.
        objectives: what was searched for.
        splits: by name, which rows.
        baselines: `fair`, `one_liner`, `pipeline`, `linear`.
        trials: how many in each state, and duplicates.
        hypervolume: of verified members on confirm and measured figures; None before verification.
        hypervolume_with_cascades: the same of members and cascades together.
        members: the front; cascades of its members are of kind `cascade`.
        picks: what to take.
        certificate: the tests behind the certified pick; None where no accuracy limit was asked.
        latency_model: `spearman`, `mean_error` and `n` of the predictions on held-out designs.
        search: `designs_per_second` and `busy_share` (share of worker time spent evaluating).
        gain: what the most accurate design gains; None where the search was not for accuracy.
    """

    run: str
    seed: int
    targets: tuple[Json, ...] = ()
    limits: Mapping[str, str] = field(default_factory=dict)
    statistic: Literal["mean", "p95"] = "mean"
    metric: str = ACCURACY.name
    confidence: float = 0.95
    objectives: tuple[Objective, ...] = (ACCURACY, LATENCY, SIZE)
    splits: Mapping[str, SplitRecord] = field(default_factory=dict)
    baselines: Mapping[str, MemberFigures] = field(default_factory=dict)
    trials: Mapping[str, int] = field(default_factory=dict)
    hypervolume: float | None = None
    hypervolume_with_cascades: float | None = None
    members: tuple[MemberFigures, ...] = ()
    picks: tuple[Pick, ...] = ()
    certificate: Certificate | None = None
    latency_model: Mapping[str, float] = field(default_factory=dict)
    search: Mapping[str, float] = field(default_factory=dict)
    gain: Gain | None = None

    @property
    def labels(self) -> tuple[str, ...]:
        """Of the targets, the first one primary."""
        return tuple(str(target["label"]) for target in self.targets)

    def situations(self) -> tuple[Target, ...]:
        """The targets as values."""
        names = [each.name for each in fields(Target)]
        return tuple(Target(**{name: known[name] for name in names if name in known}) for known in self.targets)

    def seen_from(self, label: str) -> Self:
        """The same front with the figures of one target in the first place; a limit on the first one's latency goes.

        Raises:
            RunError: the run has no such target.
        """
        if label not in self.labels:
            raise RunError(f"{self.run} has no target {label!r}; found {', '.join(self.labels)}. Name one of these.")
        if label == self.labels[0]:
            return self
        place = self.labels.index(label)
        limits = {name: text for name, text in self.limits.items() if name.partition(AT)[0] != LATENCY.name}
        if (own := self.limits.get(latency_at(label).name)) is not None:
            limits[LATENCY.name] = own
        return replace(
            self,
            targets=(self.targets[place], *self.targets[:place], *self.targets[place + 1 :]),
            limits=limits,
            statistic="mean",
            baselines={name: each.seen_from(label) for name, each in self.baselines.items()},
            members=tuple(each.seen_from(label) for each in self.members),
        )

    def bounds(self, limits: Mapping[str, str] | None = None) -> tuple[Bound, ...]:
        """`limits` (the run's own if None) in absolute units; percentages are of the `fair` baseline.

        Raises:
            RunError: a percentage is asked and the run has no figures of `fair`.
        """
        asked = [
            Limit.parse(name, text, self.statistic if name == LATENCY.name else "mean")
            for name, text in (self.limits if limits is None else limits).items()
        ]
        fair = self.fair_figures()
        for limit in asked:
            if limit.name.partition(AT)[2] not in ("", *self.labels[1:]):
                raise LimitError(
                    f"{limit.name}: the run has no such further target; found {', '.join(self.labels[1:]) or 'none'}. "
                    "Name one of these, or leave the label out for the first."
                )
            if limit.relative and limit.name.removesuffix("_drop") not in fair:
                raise RunError(
                    f"{limit.name} limit {limit.asked} is a share of `fair`, which the run lacks. Give a unit."
                )
        return tuple(limit.resolve(fair) for limit in asked)

    def fair_figures(self) -> dict[str, float]:
        """What percentages are of, as far as it is known: ms, bytes, and accuracy on confirm, by the limit's figure."""
        return _values(self.baselines.get("fair"), self.statistic)

    def to_json(self) -> dict[str, Any]:
        return {
            "schema_version": SCHEMA_VERSION,
            "run": self.run,
            "targets": list(self.targets),
            "seed": self.seed,
            "limits": dict(self.limits),
            "latency_statistic": self.statistic,
            "metric": self.metric,
            "confidence": self.confidence,
            "objectives": [asdict(objective) for objective in self.objectives],
            "splits": {name: split.to_json() for name, split in self.splits.items()},
            "baselines": {name: member.to_json() for name, member in self.baselines.items()},
            "trials": dict(self.trials),
            "hypervolume": self.hypervolume,
            "hypervolume_with_cascades": self.hypervolume_with_cascades,
            "members": [member.to_json() for member in self.members],
            "picks": [pick.to_json() for pick in self.picks],
            "certificate": None if self.certificate is None else self.certificate.to_json(),
            "latency_model": dict(self.latency_model),
            "search": dict(self.search),
            "gain": None if self.gain is None else self.gain.to_json(),
        }

    @classmethod
    def from_json(cls, document: Json) -> Self:
        """Raises KeyError, TypeError or ValueError where `document` is not a front of this schema."""
        certificate, gain = document.get("certificate"), document.get("gain")
        return cls(
            run=document["run"],
            seed=document["seed"],
            targets=tuple(document["targets"]),
            limits=document["limits"],
            statistic=document.get("latency_statistic", "mean"),
            confidence=document["confidence"],
            metric=document.get("metric", "accuracy"),  # older files are of accuracy
            objectives=tuple(Objective(**objective) for objective in document["objectives"]),
            splits={name: SplitRecord.from_json(split) for name, split in document["splits"].items()},
            baselines={name: MemberFigures.from_json(member) for name, member in document["baselines"].items()},
            trials=document["trials"],
            hypervolume=document["hypervolume"],
            hypervolume_with_cascades=document.get("hypervolume_with_cascades"),
            members=tuple(MemberFigures.from_json(member) for member in document["members"]),
            picks=tuple(Pick.from_json(pick) for pick in document["picks"]),
            certificate=None if certificate is None else Certificate.from_json(certificate),
            latency_model=document.get("latency_model", {}),
            search=document.get("search", {}),
            gain=None if gain is None else Gain.from_json(gain),
        )


def read(run_folder: Path) -> FrontFile:
    """The front of a run.

    Raises:
        RunError: no such file, not JSON, another schema, or an entry that is missing or of the wrong kind.
    """
    path = run_folder / FILE_NAME
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RunError(
            f"{run_folder} holds no {FILE_NAME}. Give the folder of a run (`--out` of `paretoformer search`)."
        ) from None
    except (OSError, ValueError) as error:
        raise RunError(
            f"{path} cannot be read as JSON ({error}). `paretoformer verify {run_folder}` writes it anew."
        ) from None
    found = document.get("schema_version") if isinstance(document, dict) else type(document).__name__
    if found != SCHEMA_VERSION:
        raise RunError(
            f"{path} has schema_version {found!r}, expected {SCHEMA_VERSION}. Read it with the version that wrote it."
        )
    try:
        return FrontFile.from_json(document)
    except KeyError as error:
        raise RunError(f"{path} lacks {error}. `paretoformer verify {run_folder}` writes it anew.") from None
    except (AttributeError, TypeError, ValueError) as error:
        raise RunError(f"{path} is not a front ({error}). `paretoformer verify {run_folder}` writes it anew.") from None


def write(run_folder: Path, front: FrontFile) -> None:
    """Write front.json whole or not at all; a reader never sees half a file."""
    text = json.dumps(front.to_json(), indent=1, allow_nan=False)
    handle, temporary = tempfile.mkstemp(dir=run_folder, prefix=f".{FILE_NAME}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text + "\n")
        os.replace(temporary, run_folder / FILE_NAME)
    except BaseException:
        os.unlink(temporary)
        raise


def _values(fair: MemberFigures | None, statistic: Literal["mean", "p95"]) -> dict[str, float]:
    """What percentages are of: ms, bytes, and accuracy on confirm."""
    if fair is None:
        return {}
    known: dict[str, float] = {}
    if fair.latency is not None:
        known["latency"] = fair.latency.held(statistic)
    if fair.size is not None:
        known["size"] = fair.size.bytes
    if "confirm" in fair.accuracy:
        known["accuracy"] = fair.accuracy["confirm"].value
    for label, there in fair.by_target.items():
        if there.latency is not None:
            known[latency_at(label).name] = there.latency.mean_ms
    return known
