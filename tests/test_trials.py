"""What trials.csv says of a search: throughput, busy workers, failures, duplicates, interruptions."""

import random
from pathlib import Path

import pytest

from search.trials import TrialRow, read_trials, statistics
from tests.example_run import front, trials, write_trials


def trial(key: str, start: float | None, end: float | None, state: str = "complete", error: str = "") -> TrialRow:
    return TrialRow(key, state, {}, {}, start, end, 0.0, error)


def test_a_file_is_read_as_it_was_written(tmp_path: Path) -> None:
    rng = random.Random(0)
    written = trials(front(rng), rng)
    write_trials(tmp_path, written)
    rows = read_trials(tmp_path / "trials.csv")
    assert [row.key for row in rows] == [row["key"] for row in written]
    assert rows[1].objectives.keys() == {"kl", "latency", "size"}
    assert rows[0].ended is not None
    assert rows[0].started is not None
    assert rows[0].ended - rows[0].started == pytest.approx(rows[0].seconds, abs=2e-3)


def test_no_file_means_no_trials(tmp_path: Path) -> None:
    assert read_trials(tmp_path / "trials.csv") == []


def test_nothing_run_yet_has_no_rate() -> None:
    found = statistics([trial("a", None, None, "running")])
    assert (found.seconds, found.busy, found.workers, found.per_second) == (0.0, 0.0, 0, None)


def test_two_workers_back_to_back() -> None:
    found = statistics([trial("a", 0, 4), trial("b", 0, 5), trial("c", 4, 10), trial("d", 5, 10)])
    assert found.workers == 2
    assert found.seconds == 10
    assert found.busy == 1.0
    assert found.per_second == pytest.approx(0.4)


def test_waiting_is_not_busy() -> None:
    found = statistics([trial("a", 0, 4), trial("b", 6, 10)])
    assert (found.seconds, found.busy) == (10, 0.8)


def test_an_interruption_is_no_search_time() -> None:
    assert statistics([trial("a", 0, 5), trial("b", 1000, 1005)]).seconds == 10


def test_failures_by_kind_and_duplicates() -> None:
    failed = [
        trial(str(n), 0, 1, "failed", error) for n, error in enumerate(["Killed: by the system", "Killed: again", ""])
    ]
    found = statistics([*failed, trial("a", 1, 2), trial("a", 2, 3)])
    assert found.failures == {"Killed": 2, "unknown": 1}
    assert found.states == {"failed": 3, "complete": 2}
    assert found.duplicates == 1
