"""What a person sees while a run works. Knows terminals and clocks; computes nothing."""

import sys
import time
from collections.abc import Callable

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from search.loop import Progress

# Plain lines (no terminal) are at least this many seconds apart within one stage.
_PAUSE_S = 5.0


class Display:
    """Stages and trials on standard error: bars on a terminal, plain lines elsewhere.

    Args:
        clock: seconds; injectable for tests.
    """

    def __init__(self, console: Console | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._console = console or Console(file=sys.stderr, highlight=False)
        self._clock = clock
        self._begin = clock()
        self._stage = ""
        self._stage_begin = self._printed = self._begin
        self._bar: Bar | None = None

    def stage(self, name: str, done: int, total: int) -> None:
        """A stage has come this far; `total` 0 where it is not known."""
        now = self._clock()
        fresh = name != self._stage
        if fresh:
            self._stage, self._stage_begin = name, now
        if self._console.is_terminal:
            self._draw(name, done, total, "")
        elif fresh or done == total or now - self._printed >= _PAUSE_S:
            self._line(f"{name}{_share(done, total)}{self._left(done, total, now)}")

    def trial(self, progress: Progress) -> None:
        """The search has come this far."""
        figures = f"{progress.rate:.2f} designs/s, {progress.stopped} stopped early, {progress.failed} failed"
        name = "search"
        now = self._clock()
        if name != self._stage:
            self._stage, self._stage_begin = name, now
        if self._console.is_terminal:
            self._draw(name, progress.done, progress.total, figures)
        elif progress.done == progress.total or now - self._printed >= _PAUSE_S:
            left = "" if progress.eta_seconds is None else f", {_duration(progress.eta_seconds)} left"
            self._line(f"search {progress.done}/{progress.total}: {figures}{left}")

    def say(self, text: str) -> None:
        """A line that stays."""
        self._console.print(text, markup=False, soft_wrap=True)

    def close(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def _draw(self, name: str, done: int, total: int, figures: str) -> None:
        if self._bar is None:
            columns = (
                TextColumn("{task.description:16}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[figures]}"),
            )
            self._bar = Bar(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=self._console)
            self._bar.start()
        known = next((task for task in self._bar.tasks if task.description == name), None)
        task = known.id if known else self._bar.add_task(name, total=total or None, figures=figures)
        self._bar.update(task, completed=done, total=total or None, figures=figures)

    def _line(self, text: str) -> None:
        self._printed = self._clock()
        self.say(f"[{_duration(self._printed - self._begin)}] {text}")

    def _left(self, done: int, total: int, now: float) -> str:
        if not 0 < done < total:
            return ""
        return f", {_duration((now - self._stage_begin) / done * (total - done))} left"


def _share(done: int, total: int) -> str:
    return f" {done}/{total}" if total else ""


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d}"
