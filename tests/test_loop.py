import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import pairwise
from pathlib import Path

import pytest

from evaluators.base import Job
from evaluators.synthetic import SyntheticConfig, SyntheticEvaluator, synthetic_space
from search.loop import Meter, Progress, run
from search.record import Record
from search.runners.base import evaluated
from search.runners.inline import InlineRunner
from search.samplers.auto import AutoSampler
from search.samplers.optuna_bridge import OptunaSampler, random
from spaces.design import Design, Member
from spaces.objectives import KL, LATENCY, SIZE, Evaluation

SPACE = synthetic_space(4)
ROOT = Path(__file__).resolve().parent.parent


@dataclass
class Listed:
    """Proposes designs from a list; with `patience`, the next one only after the last was told."""

    designs: list[Design]
    patience: bool = False
    waiting: bool = False
    told: list[str] = field(default_factory=list)

    def ask(self) -> Design | None:
        if not self.designs or (self.patience and self.waiting):
            return None
        self.waiting = True
        return self.designs.pop(0)

    def tell(self, evaluation: Evaluation) -> None:
        self.waiting = False
        self.told.append(evaluation.key)


class LastInFirstOut:
    """A runner of several slots that answers in the wrong order."""

    def __init__(self, slots: int) -> None:
        self.slots = slots
        self.jobs: list[Job] = []
        self.most = 0

    def submit(self, job: Job) -> None:
        self.jobs.append(job)
        self.most = max(self.most, len(self.jobs))

    def next_done(self, timeout: float | None = None) -> Evaluation | None:
        return evaluated(SyntheticEvaluator(), self.jobs.pop()) if self.jobs else None

    def close(self) -> None: ...


@dataclass
class Clock:
    now: float = 0.0

    def __call__(self) -> float:
        return self.now


def designs(count: int) -> list[Design]:
    return [Design({**SPACE.identity(), "x.0": i / 20}) for i in range(count)]


def new_record(folder: Path) -> Record:
    return Record.create(folder, objectives=(KL, LATENCY, SIZE), bounds=[])


def odd(member: Member) -> str | None:
    return "odd" if round(member.config(SyntheticConfig).point[0] * 20) % 2 else None


def search(
    record: Record,
    sampler: Listed,
    trials: int = 100,
    make: Callable[[], SyntheticEvaluator] = SyntheticEvaluator,
    watch: Callable[[Progress], None] = lambda progress: None,
) -> dict[str, float]:
    return run(SPACE, sampler, InlineRunner(make), record, rows=None, meter=Meter(trials), watch=watch).to_json()


@pytest.mark.parametrize("patience", [False, True])
def test_a_search_ends_when_the_sampler_has_nothing_left(tmp_path: Path, patience: bool) -> None:
    record, sampler = new_record(tmp_path), Listed(designs(5), patience)
    summary = search(record, sampler)
    assert [trial.state for trial in record.trials()] == ["complete"] * 5
    assert sampler.told == [trial.key for trial in record.trials()]
    assert summary["done"] == summary["evaluated"] == 5
    assert 0 < summary["worker_busy_share"] <= 1
    assert (tmp_path / "trials.csv").read_text().count("\n") == 6


def test_all_slots_are_used_and_answers_may_come_in_any_order(tmp_path: Path) -> None:
    record, runner = new_record(tmp_path), LastInFirstOut(3)
    run(SPACE, Listed(designs(8)), runner, record, rows=None, meter=Meter(100))
    assert runner.most == 3
    assert len(record.finished()) == 8


def test_a_sequential_sampler_runs_one_design_at_a_time(tmp_path: Path) -> None:
    record, runner = new_record(tmp_path), LastInFirstOut(3)
    run(SPACE, Listed(designs(4), patience=True), runner, record, rows=None, meter=Meter(100))
    assert runner.most == 1
    assert len(record.finished()) == 4


def test_trials_count_over_sessions_and_failed_ones_too(tmp_path: Path) -> None:
    record = new_record(tmp_path)
    summary = search(record, Listed(designs(10)), trials=4, make=partial(SyntheticEvaluator, fails=odd))
    assert (summary["done"], summary["failed"]) == (4, 2)
    again = Record.open(tmp_path)
    summary = search(again, Listed(designs(10)[4:]), trials=7)
    assert (summary["done"], summary["evaluated"]) == (7, 3)
    assert len(again.trials()) == 7


def test_interrupted_trials_run_first_and_keep_their_numbers(tmp_path: Path) -> None:
    dead = new_record(tmp_path)
    first, second, third = designs(3)
    dead.start(first, SPACE.decode(first))
    dead.start(second, SPACE.decode(second))
    record = Record.open(tmp_path)
    sampler = Listed([third])
    search(record, sampler)
    assert [(trial.number, trial.state) for trial in record.trials()] == [(i, "complete") for i in range(3)]
    assert [trial.key for trial in record.trials()] == [SPACE.decode(design).key for design in (first, second, third)]


def test_time_ends_a_search_and_what_runs_is_finished(tmp_path: Path) -> None:
    clock = Clock()
    record = new_record(tmp_path)
    meter = Meter(100, seconds=3.5, clock=clock)

    def tick(progress: Progress) -> None:
        clock.now += 1.0

    run(SPACE, Listed(designs(20)), InlineRunner(SyntheticEvaluator), record, rows=None, meter=meter, watch=tick)
    assert len(record.finished()) == 4
    assert record.interrupted() == []


def test_progress_says_how_far_and_how_long(tmp_path: Path) -> None:
    seen: list[Progress] = []
    search(new_record(tmp_path), Listed(designs(6)), 6, partial(SyntheticEvaluator, 0.001, fails=odd), seen.append)
    assert [progress.done for progress in seen] == [1, 2, 3, 4, 5, 6]
    assert [progress.failed for progress in seen] == [0, 1, 1, 2, 2, 3]
    assert [progress.last.number for progress in seen] == list(range(6))
    assert seen[2].eta_seconds == pytest.approx(3 / seen[2].rate)
    assert seen[-1].eta_seconds == 0
    assert all(0 < progress.worker_busy_share <= 1 and progress.total == 6 for progress in seen)


class LookedUp:
    """Knows every score from an earlier run."""

    def evaluate(self, job: Job) -> Evaluation:
        return replace(SyntheticEvaluator().evaluate(job), attempts=0)


def test_designs_that_were_looked_up_count_as_trials_and_not_as_speed(tmp_path: Path) -> None:
    record, seen = new_record(tmp_path), list[Progress]()
    runner = InlineRunner(LookedUp)
    summary = run(SPACE, Listed(designs(4)), runner, record, rows=None, meter=Meter(8), watch=seen.append)
    assert [progress.done for progress in seen] == [1, 2, 3, 4]
    assert (summary.evaluated, summary.designs_per_second) == (0, 0)
    assert {trial.attempts for trial in record.trials()} == {0}


def test_an_interrupt_keeps_everything_that_is_done(tmp_path: Path) -> None:
    record, runner = new_record(tmp_path), LastInFirstOut(3)

    def interrupt(progress: Progress) -> None:
        if progress.done == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(SPACE, Listed(designs(12)), runner, record, rows=None, meter=Meter(100), watch=interrupt)
    finished = Record.open(tmp_path).finished()
    assert len(finished) == 6  # four that were told, two that were done and waited in the runner
    assert (tmp_path / "trials.csv").read_text().count("\n") == 7
    summary = run(SPACE, Listed([]), InlineRunner(SyntheticEvaluator), record, rows=None, meter=Meter(100))
    assert (summary.done, summary.evaluated) == (6, 0)


class Interrupting:
    """Passes everything on, and is interrupted right before recording for the `nth` time."""

    def __init__(self, record: Record, nth: int) -> None:
        self.left = nth
        self.finish_trial = record.finish

    def finish(self, number: int, evaluation: Evaluation) -> object:
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt
        return self.finish_trial(number, evaluation)


def test_an_interrupt_between_evaluation_and_record_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = new_record(tmp_path)
    monkeypatch.setattr(record, "finish", Interrupting(record, 3).finish)
    with pytest.raises(KeyboardInterrupt):
        search(record, Listed(designs(9)))
    assert len(record.finished()) == 3
    assert record.interrupted() == []


DRIVER = """
import signal
import sys
from functools import partial
from itertools import pairwise
from pathlib import Path
from evaluators.synthetic import SyntheticEvaluator, synthetic_space
from search.loop import Meter, run
from search.record import Record
from search.runners.inline import InlineRunner
from search.samplers.auto import AutoSampler
from spaces.objectives import KL, LATENCY, SIZE

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
folder, space = Path(sys.argv[1]), synthetic_space(4)
record = Record.create(folder, objectives=(KL, LATENCY, SIZE), bounds=[])
sampler = AutoSampler(record, space, seeds=space.seeds(), seed=0, trials=400)
run(space, sampler, InlineRunner(partial(SyntheticEvaluator, 0.01)), record, rows=None, meter=Meter(400))
"""


@pytest.mark.parametrize("ends", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_driver_loses_and_repeats_no_trial(tmp_path: Path, ends: signal.Signals) -> None:
    driver = subprocess.Popen([sys.executable, "-c", DRIVER, str(tmp_path)], cwd=ROOT, stderr=subprocess.DEVNULL)
    journal = tmp_path / "study.log"
    until = time.monotonic() + 60
    while not journal.exists() or journal.read_bytes().count(b'"values":[') < 12:
        assert time.monotonic() < until
        time.sleep(0.02)
    os.kill(driver.pid, ends)
    driver.wait(timeout=30)
    record = Record.open(tmp_path)
    before = {trial.key: trial for trial in record.finished()}
    assert len(before) >= 12
    sampler = AutoSampler(record, SPACE, seeds=SPACE.seeds(), seed=0, trials=60)
    total = len(record.trials()) + 10
    run(SPACE, sampler, InlineRunner(SyntheticEvaluator), record, rows=None, meter=Meter(total))
    after = {trial.key: trial for trial in record.trials()}
    assert len(after) == len(record.trials()) == total
    assert {key: after[key] for key in before} == before
    assert {trial.state for trial in after.values()} == {"complete"}


def test_a_full_disk_ends_the_search_and_loses_nothing_that_was_recorded(tmp_path: Path) -> None:
    full = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, 40_000))"
    command = [sys.executable, "-c", f"{full}\n{DRIVER}", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)
    assert "File too large" in done.stderr
    assert (tmp_path / "study.log").read_bytes().endswith(b"\n")
    record = Record.open(tmp_path)
    before = {trial.key: trial for trial in record.finished()}
    assert len(before) >= 5
    total = len(record.trials()) + 3
    sampler = AutoSampler(record, SPACE, seeds=SPACE.seeds(), seed=0, trials=60)
    run(SPACE, sampler, InlineRunner(SyntheticEvaluator), record, rows=None, meter=Meter(total))
    after = {trial.key: trial for trial in record.trials()}
    assert {key: after[key] for key in before} == before
    assert {trial.state for trial in after.values()} == {"complete"}


@pytest.mark.ray
def test_workers_of_ray_search_side_by_side(tmp_path: Path) -> None:
    import ray

    from search.runners.ray_pool import RayRunner

    record = new_record(tmp_path)
    runner = RayRunner(partial(SyntheticEvaluator, 0.05), workers=2)
    sampler = OptunaSampler(record, SPACE, random, seeds=SPACE.seeds(), seed=0, trials=40)
    summary = run(SPACE, sampler, runner, record, rows=None, meter=Meter(40))
    runner.close()
    assert not ray.is_initialized()
    assert len({trial.key for trial in record.trials()}) == 40
    assert summary.worker_busy_share > 0.5
    spans: Sequence[tuple[float, float]] = sorted(
        (trial.started or 0.0, trial.ended or 0.0) for trial in record.trials()
    )
    assert any(start < end for (_, end), (start, _) in pairwise(spans))
