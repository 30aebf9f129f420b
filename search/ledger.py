"""A trial as a value, and trials.csv. Knows figures, limits and columns; knows nothing of storages."""

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from spaces.errors import RunError
from spaces.knobs import Scalar
from spaces.objectives import Bound

State = Literal["complete", "stopped", "failed", "running"]
COLUMNS = (
    "key",
    "study",
    "state",
    "attempts",
    "knobs",
    "objectives",
    "extras",
    "started",
    "ended",
    "seconds",
    "node",
    "error",
)


# An estimate from all logits is steadier than the drop counted on few labels.
_DROPS = ("accuracy_drop_estimate", "expected_drop", "accuracy_drop")


@dataclass(frozen=True)
class Trial:
    """One design's way through a run.

    Args:
        number: in its study.
        study: name of the study.
        state: `complete`, `stopped`, `failed` or `running`.
        key: of the member.
        knobs: of the design; None where it was proposed without.
        decoded: the member's decoded design.
        weights: id of its weights.
        recipe: who proposed it.
        values: one figure per objective; those known by then if stopped, none if failed or running.
        extras: further figures.
        attempts: how often it was tried.
        started: in seconds since the epoch.
        ended: likewise; None while running.
        seconds: that a worker spent.
        node: where it ran.
        error: why it failed or was stopped, as `kind: message`.
        parents: keys of the members it was made from.
    """

    number: int
    study: str
    state: State
    key: str
    knobs: Mapping[str, Scalar] | None
    decoded: Mapping[str, Any]
    weights: str
    recipe: str
    values: Mapping[str, float]
    extras: Mapping[str, float]
    attempts: int
    started: float | None
    ended: float | None
    seconds: float
    node: str
    error: str | None
    parents: tuple[str, ...] = ()

    @property
    def figures(self) -> dict[str, float]:
        """All that is known, objectives or not."""
        return {**self.extras, **self.values}

    @property
    def drop(self) -> float | None:
        """Drop of accuracy on the search rows, the steadiest figure of it; None without labels."""
        return next((self.figures[name] for name in _DROPS if name in self.figures), None)


@dataclass(frozen=True)
class Outcome:
    """What a recipe ended with.

    Args:
        keys: of the member that it settled on, and of those it looked at because of it.
        designs: that it evaluated.
        before, after: mean loss of the original and of the structure settled on, on the rows that decided.
    """

    keys: tuple[str, ...]
    designs: int
    before: float
    after: float


def excesses(bounds: Sequence[Bound], values: Mapping[str, float], extras: Mapping[str, float]) -> dict[str, float]:
    """How far figures are over each limit, relative to it; at most 0 where it holds.

    Raises:
        RunError: there is no figure for a limit; a limit is never dropped.
    """
    return {bound.name: bound.excess(_figure(bound.name, values, extras)) for bound in bounds}


def _figure(name: str, values: Mapping[str, float], extras: Mapping[str, float]) -> float:
    known = {**extras, **values}
    for candidate in (f"{name}_estimate", name):
        if candidate in known:
            return known[candidate]
    raise RunError(
        f"No figure for the limit on {name}; found {', '.join(sorted(known))}. Drop the limit or give the rows labels."
    )


def union(trials: Iterable[Trial]) -> list[Trial]:
    """One trial per member key, in the order of the first: the last one told, a finished one before a running one."""
    by_key: dict[str, Trial] = {}
    for trial in trials:
        if trial.key not in by_key or trial.state != "running":
            by_key[trial.key] = trial
    return list(by_key.values())


def to_csv(trials: Sequence[Trial], objectives: Sequence[str]) -> str:
    """The text of trials.csv: knobs, objectives, extras as JSON, times in ISO 8601, then a column per objective."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow((*COLUMNS, *objectives))
    writer.writerows([*_cells(trial), *(trial.values.get(name, "") for name in objectives)] for trial in trials)
    return text.getvalue()


def _cells(trial: Trial) -> list[object]:
    knobs = "" if trial.knobs is None else json.dumps(dict(trial.knobs))
    figures = [json.dumps(dict(figures)) for figures in (trial.values, trial.extras)]
    times = [_iso(trial.started), _iso(trial.ended), round(trial.seconds, 6)]
    return [trial.key, trial.study, trial.state, trial.attempts, knobs, *figures, *times, trial.node, trial.error or ""]


def _iso(seconds: float | None) -> str:
    return "" if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat(timespec="microseconds")
