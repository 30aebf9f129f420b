"""What a person sees while a run works. Knows terminals and clocks; computes nothing but the front so far."""

import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from rich.console import Console
from rich.live import Live
from rich.text import Text

from search.board import Board, bar, duration
from search.growth import Figures, Growth
from search.ledger import Trial
from search.loop import Progress
from search.so_far import is_running
from search.watching import board

# Plain lines (no terminal) are at least this many seconds apart within one stage.
_PAUSE_S = 5.0
# A terminal is drawn so often, and the front so far is computed at most so often.
_FRAMES_PER_S, _FRONT_S = 2.0, 2.0
# How often a run that another process works on is looked at.
_WATCH_S = 2.0


class Display:
    """Stages and trials on standard error: lines that stay in place on a terminal, plain lines elsewhere.

    Args:
        console: where they go.
        clock: seconds; injectable for tests.
    """

    def __init__(self, console: Console | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._console = console or Console(file=sys.stderr, highlight=False)
        self._clock = clock
        self._begin = clock()
        self._stage = ""
        self._done = self._total = 0
        self._stage_begin = self._printed = self._begin
        self._front = _Front(clock)
        self._board: Board | None = None
        self._live: Live | None = None

    def stage(self, name: str, done: int, total: int) -> None:
        """A stage has come this far; `total` 0 where it is not known."""
        fresh = self._enter(name, done, total)
        if not self._console.is_terminal and (fresh or done == total or self._due()):
            self._line(f"{self._stage_text()}{self._left()}")

    def seen(self, trials: Iterable[Trial]) -> None:
        """Trials of earlier sessions, which count for the front so far."""
        for trial in trials:
            self._front.add(trial)

    def trial(self, progress: Progress) -> None:
        """The search has come this far."""
        self._front.add(progress.last)
        self._enter("search", progress.done, progress.total)
        last = progress.done == progress.total
        front, trend = self._front.now(anew=last)
        self._board = Board(
            done=progress.done,
            total=progress.total,
            failed=progress.failed,
            stopped=progress.stopped,
            rate=progress.rate,
            seconds=progress.seconds,
            eta_seconds=progress.eta_seconds,
            workers=progress.workers,
            busy=progress.worker_busy_share,
            front=front,
            trend=trend,
        )
        if not self._console.is_terminal and (last or self._due()):
            self._line(self._board.line())

    def say(self, text: str) -> None:
        """A line that stays."""
        self._console.print(text, markup=False, soft_wrap=True)

    def close(self) -> None:
        """Nothing is drawn any more; what the last stage came to stays."""
        if self._live is not None:
            self._live.stop()
            self._live = None
            self.say(self._outcome())

    def _enter(self, name: str, done: int, total: int) -> bool:
        """Go on with a stage; whether it is another one than before, whose outcome then moves up on a terminal."""
        fresh = name != self._stage
        before = self._outcome() if fresh else ""
        if fresh:
            self._stage, self._stage_begin, self._board = name, self._clock(), None
        self._done, self._total = done, total
        if not self._console.is_terminal:
            return fresh
        if self._live is None:
            self._live = _live(self._console, self._frame)
        elif fresh:
            self._live.refresh()
            self.say(before)
        return fresh

    def _outcome(self) -> str:
        """What the stage came to."""
        if self._board is not None:
            return "\n".join(self._board.lines(self._console.width))
        return self._stamped(self._stage_text())

    def _frame(self) -> list[str]:
        if self._board is not None:
            return self._board.lines(self._console.width)
        counts = f"{self._done}/{self._total}  " if self._total else ""
        text = f"{counts}{duration(self._clock() - self._stage_begin)} gone{self._left()}"
        return [bar(self._stage, self._done, self._total, text, self._console.width)]

    def _stage_text(self) -> str:
        return self._stage + (f" {self._done}/{self._total}" if self._total else "")

    def _stamped(self, text: str) -> str:
        return f"[{duration(self._clock() - self._begin)}] {text}"

    def _line(self, text: str) -> None:
        self._printed = self._clock()
        self.say(self._stamped(text))

    def _due(self) -> bool:
        return self._clock() - self._printed >= _PAUSE_S

    def _left(self) -> str:
        if not 0 < self._done < self._total:
            return ""
        seconds = (self._clock() - self._stage_begin) / self._done * (self._total - self._done)
        return f", {duration(seconds)} left"


def watch(folder: Path, console: Console | None = None, sleep: Callable[[float], None] = time.sleep) -> None:
    """Show a run that another process works on until it ends, or until this one is interrupted.

    Args:
        folder: the run's.
        console: where to; standard output if None.
        sleep: waits some seconds; injectable for tests.
    """
    shown = console or Console(highlight=False)
    with Live(console=shown, auto_refresh=False, transient=True) as live:
        while is_running(folder):
            now = board(folder)
            if shown.is_terminal:
                live.update(_text(now.lines(shown.width)), refresh=True)
            else:
                shown.print(now.line(), markup=False, soft_wrap=True)
            sleep(_WATCH_S if shown.is_terminal else _PAUSE_S)


class _Front:
    """The front so far and how it grew, computed only now and then.

    Args:
        clock: seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._growth = Growth()
        self._computed: float | None = None
        self._designs: Sequence[Figures] = ()
        self._trend: list[float] = []

    def add(self, trial: Trial) -> None:
        """A trial has ended."""
        if trial.state == "complete":
            self._growth += trial.figures

    def now(self, *, anew: bool) -> tuple[Sequence[Figures], Sequence[float]]:
        """The designs that no other beats, and the hypervolumes up to now."""
        now = self._clock()
        if anew or self._computed is None or now - self._computed >= _FRONT_S:
            self._computed, self._designs = now, self._growth.front()
            self._trend.append(self._growth.hypervolume())
        return self._designs, tuple(self._trend)


def _live(console: Console, lines: Callable[[], Sequence[str]]) -> Live:
    """Lines that are drawn again in their place."""
    drawn = Live(
        get_renderable=lambda: _text(lines()), console=console, refresh_per_second=_FRAMES_PER_S, transient=True
    )
    drawn.start()
    return drawn


def _text(lines: Sequence[str]) -> Text:
    """Lines that are never wrapped."""
    return Text("\n".join(lines), no_wrap=True, overflow="crop")
