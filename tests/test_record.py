import csv
import json
import subprocess
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

import optuna
import pytest

from evaluators.synthetic import SyntheticEvaluator, synthetic_space
from search.ledger import COLUMNS
from search.loop import Meter, run
from search.record import Record
from search.runners.inline import InlineRunner
from search.samplers.optuna_bridge import OptunaSampler, random
from search.trials import read_trials, statistics
from spaces.design import Design
from spaces.errors import RunError
from spaces.objectives import ACCURACY, KL, LATENCY, SIZE, Bound, Complete, Evaluation, Failed, Objective, Stopped

OBJECTIVES = (KL, LATENCY, SIZE)
LATENCY_LIMIT = Bound("latency", 4.0, "4ms")
DROP_LIMIT = Bound("accuracy_drop", 0.01, "1pt")
SPACE = synthetic_space(4)


def new_record(folder: Path, bounds: Sequence[Bound] = (), objectives: Sequence[Objective] = OBJECTIVES) -> Record:
    return Record.create(folder, objectives=objectives, bounds=bounds)


def design(x: float) -> Design:
    return Design({**SPACE.identity(), "x.0": x})


def begun(record: Record, x: float) -> tuple[int, str]:
    member = SPACE.decode(design(x))
    return record.start(design(x), member), member.key


def complete(key: str, latency: float = 5.0, **extras: float) -> Evaluation:
    return Evaluation(key, Complete({"kl": 0.1, "latency": latency, "size": 1e6}, extras), 2.0, 1e9, "here")


def search(record: Record, trials: int) -> None:
    sampler = OptunaSampler(record, SPACE, random, seed=0)
    run(SPACE, sampler, InlineRunner(SyntheticEvaluator), record, rows=None, meter=Meter(trials))


def test_a_trial_is_kept_with_everything_that_is_known_of_it(tmp_path: Path) -> None:
    record = new_record(tmp_path)
    number, key = begun(record, 0.2)
    told = record.finish(number, complete(key, accuracy=0.9))
    (trial,) = Record.open(tmp_path).trials()
    assert trial == told
    assert (trial.number, trial.study, trial.state, trial.key) == (0, "search", "complete", key)
    assert trial.knobs == dict(design(0.2))
    assert SPACE.member(trial.decoded, trial.weights).key == key
    assert trial.values == {"kl": 0.1, "latency": 5.0, "size": 1e6}
    assert trial.extras == {"accuracy": 0.9}
    assert (trial.started, trial.ended, trial.seconds, trial.node) == (1e9, 1e9 + 2, 2.0, "here")
    assert (trial.recipe, trial.attempts, trial.error) == ("search", 1, None)


def test_failed_and_stopped_trials_keep_their_reason(tmp_path: Path) -> None:
    record = new_record(tmp_path)
    number, key = begun(record, 0.2)
    record.finish(number, Evaluation(key, Failed("MemoryError", "no room"), attempts=2))
    number, key = begun(record, 0.4)
    record.finish(number, Evaluation(key, Stopped("hopeless", {"kl": 3.0}, n=64)))
    failed, stopped = record.finished()
    assert (failed.state, failed.error, failed.attempts, failed.values) == ("failed", "MemoryError: no room", 2, {})
    assert (stopped.state, stopped.error) == ("stopped", "stopped: hopeless")
    assert (stopped.values, stopped.extras) == ({"kl": 3.0}, {"n": 64})
    assert record.counts() == {"complete": 0, "stopped": 1, "failed": 1, "running": 0, "duplicates": 0}


def test_limits_are_constraints_that_optuna_reads(tmp_path: Path) -> None:
    record = new_record(tmp_path, [LATENCY_LIMIT, DROP_LIMIT])
    for x, latency, drop in ((0.1, 5.0, 0.005), (0.2, 3.0, 0.02), (0.3, 3.0, 0.0)):
        number, key = begun(record, x)
        record.finish(number, complete(key, latency, accuracy_drop=drop))
    constraints = [frozen.constraints for frozen in record.study.trials]
    assert constraints[0] == pytest.approx({"latency": 0.25, "accuracy_drop": -0.5})
    assert constraints[1] == pytest.approx({"latency": -0.25, "accuracy_drop": 1.0})
    assert [record.violation(trial) for trial in record.trials()] == pytest.approx([0.25, 1.0, 0.0])
    assert [trial.number for trial in record.study.best_trials] == [2]


def test_an_estimated_drop_counts_before_a_counted_one(tmp_path: Path) -> None:
    record = new_record(tmp_path, [DROP_LIMIT])
    number, key = begun(record, 0.1)
    record.finish(number, complete(key, accuracy_drop=0.0, accuracy_drop_estimate=0.02))
    assert record.study.trials[0].constraints == pytest.approx({"accuracy_drop": 1.0})


def test_a_limit_without_a_figure_is_refused_not_dropped(tmp_path: Path) -> None:
    record = new_record(tmp_path, [DROP_LIMIT])
    number, key = begun(record, 0.1)
    with pytest.raises(RunError, match="limit on accuracy_drop"):
        record.finish(number, complete(key))
    with pytest.raises(RunError, match="lacks size"):
        record.finish(number, Evaluation(key, Complete({"kl": 0.0, "latency": 1.0})))
    assert [trial.state for trial in record.trials()] == ["running"]


def test_goals_are_directions(tmp_path: Path) -> None:
    record = new_record(tmp_path, objectives=(ACCURACY, SIZE))
    assert [direction.name for direction in record.study.directions] == ["MAXIMIZE", "MINIMIZE"]
    assert Record.open(tmp_path).objectives == (ACCURACY, SIZE)


def test_a_trial_of_a_dead_driver_is_finished_under_its_own_number(tmp_path: Path) -> None:
    dead = new_record(tmp_path, [LATENCY_LIMIT])
    begun(dead, 0.1)
    number, key = begun(dead, 0.2)
    record = Record.open(tmp_path)
    assert [trial.number for trial in record.interrupted()] == [0, 1]
    assert record.finish(number, complete(key)).number == number
    assert [trial.state for trial in record.trials()] == ["running", "complete"]


def test_trials_asked_but_never_started_are_given_up(tmp_path: Path) -> None:
    dead = new_record(tmp_path)
    waiting = OptunaSampler(dead, SPACE, random, seeds=SPACE.seeds(), seed=0, batch=4)
    assert waiting.ask() == SPACE.identity()
    record = Record.open(tmp_path)
    assert record.trials() == record.interrupted() == []
    search(record, 6)
    assert record.counts() == {"complete": 6, "stopped": 0, "failed": 0, "running": 0, "duplicates": 0}


@pytest.mark.parametrize("torn", [b'{"op_code":5,"worker_id":"x","trial', b"\x00\x00\x00", b"}"])
def test_a_torn_last_line_is_cut_and_no_whole_line_lost(tmp_path: Path, torn: bytes) -> None:
    search(new_record(tmp_path), 5)
    journal = tmp_path / "study.log"
    whole = journal.read_bytes()
    journal.write_bytes(whole + torn)
    assert len(Record.open(tmp_path).trials()) == 5
    assert journal.read_bytes() == whole + torn  # reading changes nothing
    search(Record.open(tmp_path), 8)
    assert journal.read_bytes().startswith(whole)
    assert torn not in journal.read_bytes()[len(whole) :].split(b"\n")
    assert len(Record.open(tmp_path).trials()) == 8


def test_the_lock_of_a_killed_driver_does_not_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    search(new_record(tmp_path), 2)
    (tmp_path / "study.log.lock").symlink_to(tmp_path / "study.log")
    monkeypatch.setattr("search.storage._LOCK_SECONDS", 3)
    search(Record.open(tmp_path), 3)
    assert len(Record.open(tmp_path).trials()) == 3


def test_other_limits_open_a_new_study_with_the_old_trials(tmp_path: Path) -> None:
    record = new_record(tmp_path, [LATENCY_LIMIT])
    search(record, 6)
    begun(record, 0.15)
    assert record.reopen_with([LATENCY_LIMIT]) is record
    stricter = Bound("latency", 2.0, "2ms")
    other = record.reopen_with([stricter])
    assert other.study.study_name == "search-2"
    assert [trial.key for trial in other.trials()] == [trial.key for trial in record.trials()]
    assert len(other.interrupted()) == 1
    for frozen in other.study.get_trials(states=(optuna.trial.TrialState.COMPLETE,)):
        assert frozen.constraints == pytest.approx({"latency": stricter.excess(frozen.values[1])})
    search(other, 10)
    again = Record.open(tmp_path)
    assert (again.study.study_name, again.bounds) == ("search-2", (stricter,))
    assert len({trial.key for trial in again.trials()}) == len(again.trials()) == 10
    assert again.reopen_with([]).study.study_name == "search-3"


def test_a_run_begins_once_and_is_told_from_other_folders(tmp_path: Path) -> None:
    new_record(tmp_path / "run")
    with pytest.raises(RunError, match="already holds a study search of run"):
        new_record(tmp_path / "run")
    with pytest.raises(RunError, match="is not a run"):
        Record.open(tmp_path)
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / "study.log").write_text("no journal\nat all\n")
    with pytest.raises(RunError, match=r"study\.log cannot be opened as an Optuna storage"):
        Record.open(tmp_path / "odd")
    assert not Record.exists(tmp_path)
    assert not (tmp_path / "study.log").exists()
    assert Record.exists(tmp_path / "run")


def test_runs_share_a_journal_without_meeting(tmp_path: Path) -> None:
    shared = str(tmp_path / "shared.log")
    for name in ("a", "b"):
        record = Record.create(tmp_path / name, objectives=OBJECTIVES, bounds=[], storage=shared)
        search(record, 3)
    record = Record.open(tmp_path / "a", storage=shared)
    assert record.study.study_name == "a/search"
    assert {trial.study for trial in record.trials()} == {"search"}
    assert len(record.trials()) == 3


def test_a_database_serves_as_well(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        # SQLAlchemy leaves closing SQLite's connections to the garbage collector.
        warnings.simplefilter("ignore", ResourceWarning)
        record = Record.create(tmp_path, objectives=OBJECTIVES, bounds=[], storage=f"sqlite:///{tmp_path}/x.db")
        search(record, 3)
        assert len(Record.open(tmp_path, storage=f"sqlite:///{tmp_path}/x.db").trials()) == 3
        with pytest.raises(RunError, match="cannot be opened"):
            Record.exists(tmp_path, storage="nosuchdb://here")


def test_trials_csv_has_the_documented_columns_and_reads_back(tmp_path: Path) -> None:
    record = new_record(tmp_path)
    search(record, 3)
    number, key = begun(record, 0.15)
    record.finish(number, Evaluation(key, Failed("ValueError", "odd, very"), 1.0, 1e9, "here"))
    begun(record, 0.35)
    record.write_csv()
    with (tmp_path / "trials.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == (*COLUMNS, "kl", "latency", "size")
    assert [row["state"] for row in rows] == ["complete"] * 3 + ["failed", "running"]
    assert json.loads(rows[0]["knobs"]) == record.trials()[0].knobs
    assert float(rows[0]["kl"]) == json.loads(rows[0]["objectives"])["kl"]
    assert rows[4]["ended"] == ""
    read = read_trials(tmp_path / "trials.csv")
    assert [trial.started for trial in read[:4]] == pytest.approx([trial.started for trial in record.trials()[:4]])
    assert statistics(read).failures == {"ValueError": 1}


def test_predictions_are_files_of_their_own(tmp_path: Path) -> None:
    record = new_record(tmp_path)
    number, key = begun(record, 0.2)
    evaluation = complete(key)
    record.finish(number, Evaluation(key, evaluation.outcome, predictions=b"an npz file"))
    assert [path.name for path in (tmp_path / "predictions").iterdir()] == [f"{key}.npz"]
    assert (tmp_path / "predictions" / f"{key}.npz").read_bytes() == b"an npz file"


def test_knob_importances_find_the_knob_that_matters(tmp_path: Path) -> None:
    record = new_record(tmp_path)
    search(record, 24)
    importances = record.knob_importances("size")
    assert next(iter(importances)) == "x.0"
    assert sum(importances.values()) == pytest.approx(1.0)


def test_reading_a_record_loads_no_model_library(tmp_path: Path) -> None:
    search(new_record(tmp_path), 2)
    code = (
        "import sys; from pathlib import Path; from search.record import Record;"
        f"Record.open(Path({str(tmp_path)!r})).trials();"
        "print([name for name in ('torch', 'ray') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
