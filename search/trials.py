"""A run's trials.csv read back, and what it says of the search. Knows columns and clocks; knows nothing of designs."""

import csv
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

# Nothing ran for so long: the run was interrupted, and the gap is no search time.
_INTERRUPTION_SECONDS = 60.0


@dataclass(frozen=True)
class TrialRow:
    """One line of trials.csv; `started` and `ended` in seconds since the epoch, None where it never ran."""

    key: str
    state: str
    objectives: Mapping[str, float]
    extras: Mapping[str, float]
    started: float | None
    ended: float | None
    seconds: float
    error: str
    study: str = "search"

    @property
    def figures(self) -> dict[str, float]:
        """All that is known, objectives or not."""
        return {**self.extras, **self.objectives}


@dataclass(frozen=True)
class Statistics:
    """How the search went.

    Args:
        states: trials by state.
        failures: failed trials by the kind of failure.
        duplicates: complete trials whose member had been complete before.
        seconds: wall time of the search, without interruptions.
        busy: share of the workers' time spent on trials.
        workers: most trials that ran at once.
    """

    states: Mapping[str, int]
    failures: Mapping[str, int]
    duplicates: int
    seconds: float
    busy: float
    workers: int

    @property
    def per_second(self) -> float | None:
        """Complete designs per second of wall time; None before anything ran."""
        return self.states.get("complete", 0) / self.seconds if self.seconds > 0 else None


def read_trials(path: Path) -> list[TrialRow]:
    """The trials in their order; none where the file does not exist yet."""
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return [_trial(row) for row in csv.DictReader(file)]


def statistics(trials: Sequence[TrialRow]) -> Statistics:
    """What the trials' states and clocks say."""
    spans = sorted(
        (trial.started, trial.ended) for trial in trials if trial.started is not None and trial.ended is not None
    )
    complete = [trial.key for trial in trials if trial.state == "complete"]
    seconds, workers = _wall_seconds(spans), _most_at_once(spans)
    worked = sum(end - start for start, end in spans)
    return Statistics(
        states=Counter(trial.state for trial in trials),
        failures=Counter(
            trial.error.partition(":")[0].strip() or "unknown" for trial in trials if trial.state == "failed"
        ),
        duplicates=len(complete) - len(set(complete)),
        seconds=seconds,
        busy=worked / (seconds * workers) if seconds > 0 else 0.0,
        workers=workers,
    )


def _wall_seconds(spans: Sequence[tuple[float, float]]) -> float:
    """Time from the first start to the last end, gaps of over a minute left out; `spans` sorted."""
    total, until = 0.0, None
    for start, end in spans:
        if until is None or start - until > _INTERRUPTION_SECONDS:
            total += end - start
            until = end
        elif end > until:
            total += end - until
            until = end
    return total


def _most_at_once(spans: Sequence[tuple[float, float]]) -> int:
    # An end sorts before a start at the same instant: a worker that goes on is one worker.
    changes = sorted([(start, 1) for start, _ in spans] + [(end, -1) for _, end in spans])
    running = most = 0
    for _, change in changes:
        running += change
        most = max(most, running)
    return most


def _trial(row: Mapping[str, str]) -> TrialRow:
    return TrialRow(
        key=row["key"],
        state=row["state"],
        objectives=json.loads(row["objectives"] or "{}"),
        extras=json.loads(row["extras"] or "{}"),
        started=_clock(row["started"]),
        ended=_clock(row["ended"]),
        seconds=float(row["seconds"] or 0.0),
        error=row["error"],
        study=row["study"],
    )


def _clock(text: str) -> float | None:
    return datetime.fromisoformat(text).timestamp() if text else None
