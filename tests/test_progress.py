"""What is shown while a search runs: plain lines in a file, lines that fit and stay in place on a terminal."""

import io
import re
from pathlib import Path

import pytest
from rich.console import Console

from evaluators.synthetic import SyntheticEvaluator, synthetic_space
from search import progress, so_far
from search.board import Board, bar, duration, spark
from search.config import RunConfig
from search.growth import Figures, Growth
from search.loop import Meter
from search.loop import run as loop
from search.progress import Display
from search.record import Record
from search.runners.inline import InlineRunner
from search.samplers.auto import AutoSampler
from spaces.objectives import KL, LATENCY, SIZE

SPACE = synthetic_space(4)
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")


class Clock:
    """Every look at it is a second later."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 1.0
        return self.now


def searched(folder: Path, display: Display, trials: int = 12) -> Record:
    """A search by formula that the display watches."""
    so_far.write_config(folder, RunConfig.parse({"model": "m", "task": "movie-reviews"}), ["here"])
    record = Record.create(folder, objectives=(KL, LATENCY, SIZE), bounds=())
    sampler = AutoSampler(record, SPACE, seeds=SPACE.seeds(), seed=0, trials=trials)
    runner = InlineRunner(SyntheticEvaluator)
    loop(SPACE, sampler, runner, record, rows=None, meter=Meter(trials, clock=Clock()), watch=display.trial)
    return record


def console(width: int = 80, *, terminal: bool) -> Console:
    return Console(file=io.StringIO(), force_terminal=terminal, width=width, height=24, highlight=False)


def written(shown: Console) -> str:
    assert isinstance(shown.file, io.StringIO)
    return shown.file.getvalue()


def test_a_file_gets_plain_lines(tmp_path: Path) -> None:
    shown = console(terminal=False)
    display = Display(shown, Clock())
    display.stage("data", 0, 0)
    searched(tmp_path, display)
    display.close()
    lines = written(shown).splitlines()
    assert not _ESCAPES.search(written(shown))
    assert lines[0].endswith("data")
    assert re.fullmatch(
        r"\[\d+:\d\d\] search 12/12: [\d.]+ designs/s, 0 stopped early, 0 failed, "
        r"front \d+ designs?, hypervolume \d\.\d{3}, 0:00 left",
        lines[-1],
    )


@pytest.mark.parametrize("width", [80, 40])
def test_a_terminal_is_never_wrapped_and_keeps_what_a_stage_came_to(tmp_path: Path, width: int) -> None:
    shown = console(width, terminal=True)
    display = Display(shown, Clock())
    display.stage("fine-tuning", 5, 5)
    searched(tmp_path, display)
    display.stage("timing", 1, 4)
    display.close()
    lines = [line for line in re.split(r"[\r\n]", _ESCAPES.sub("", written(shown))) if line.strip()]
    assert max(map(len, lines)) <= width
    assert sum(line.endswith("fine-tuning 5/5") for line in lines) == 1
    board = max(place for place, line in enumerate(lines) if line.startswith("search"))
    assert "12/12" in lines[board]
    assert " ".join(line.split()[0] for line in lines[board : board + 8]) == (
        "search designs speed front fastest smallest between closest"
    )
    assert re.fullmatch(r"\[\d+:\d\d\] timing 1/4", lines[-1])


def test_a_resumed_search_counts_earlier_designs_for_its_front(tmp_path: Path) -> None:
    record = searched(tmp_path, Display(console(terminal=False)))
    shown = console(terminal=False)
    display = Display(shown)
    display.seen(record.trials())
    sampler = AutoSampler(record, SPACE, seeds=(), seed=0, trials=13)
    loop(SPACE, sampler, InlineRunner(SyntheticEvaluator), record, rows=None, meter=Meter(13), watch=display.trial)
    expected = Growth()
    for trial in record.trials():
        expected += trial.figures
    assert f"front {len(expected.front())} designs" in written(shown)


def test_another_shell_watches_until_the_run_ends(tmp_path: Path) -> None:
    searched(tmp_path, Display(console(terminal=False)))
    (tmp_path / so_far.PID).write_text("another-host:1")
    shown, slept = console(terminal=False), []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 2:
            (tmp_path / so_far.PID).unlink()

    progress.watch(tmp_path, shown, sleep)
    lines = written(shown).splitlines()
    assert len(lines) == len(slept) == 2
    assert all(re.match(r"search 12/200: .* front \d+ designs?, hypervolume", line) for line in lines)


def test_growth_is_over_the_original_and_never_shrinks() -> None:
    growth = Growth()
    for known in ({"kl": 0.1}, {"accuracy_drop": 0.0, "latency": 8.0, "size": 80e6, "kl": 0.0}):
        growth += known  # the first one lacks figures
    assert len(growth.designs) == 1
    assert growth.hypervolume() == 0.0
    # Half the time and bytes at no loss: a gain of 1 in accuracy, and one doubling of five in each of the others.
    growth += {"accuracy_drop": 0.0, "latency": 4.0, "size": 40e6, "kl": 0.2}
    assert growth.hypervolume() == pytest.approx(1 * 0.2 * 0.2)
    growth += {"accuracy_drop": 0.04, "latency": 2.0, "size": 90e6, "kl": 0.9}
    volumes = [volume for _, volume in growth.curve(3)]
    assert volumes == sorted(volumes)
    assert [design.latency for design in growth.front()] == [2.0, 4.0, 8.0]


def test_bars_and_trends() -> None:
    assert bar("data", 1, 2, "1/2", 80) == f"data     {'━' * 20}{'╌' * 20}  1/2"
    assert bar("data", 0, 0, "0:03 gone", 80) == "data     0:03 gone"
    assert spark([0, 1, 2]) == "▁▅█"
    assert spark([0.5, 0.5]) == ""
    assert len(spark(range(1000))) == 24
    assert [duration(seconds) for seconds in (5, 65, 3725)] == ["0:05", "1:05", "1:02:05"]


def test_a_board_without_any_design_says_so() -> None:
    board = Board(done=0, total=None, failed=0, stopped=0, rate=None, seconds=0.0, eta_seconds=None)
    assert board.line() == "search 0: no design yet, 0 stopped early, 0 failed"
    assert len(board.lines(80)) == 3
    full = Board(9, 10, 0, 1, 1.0, 9.0, 1.0, 2, 0.9, [Figures(0.1, 0.1, 1.0, 2e6)], [0.1, 0.2])
    assert full.lines(80)[1:4] == [
        "designs  9 done, 1 of them stopped early, 0 failed",
        "speed    1.00 designs/s, 2 workers 90% busy",
        "front    1 design, hypervolume 0.200  ▁█",
    ]
