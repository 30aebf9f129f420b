"""How far a search has come, as lines of text. Knows counts, rates and the front so far; knows no terminal."""

from collections.abc import Sequence
from dataclasses import dataclass

from search.growth import Figures

_BLOCKS = "▁▂▃▄▅▆▇█"
_MB = 1e6
TREND = 24  # blocks that the trend has at most


@dataclass(frozen=True)
class Board:
    """A moment of a search.

    Args:
        done: designs in a final state.
        total: designs in all; None where nobody can say.
        failed: how many failed.
        stopped: how many lost their race.
        rate: designs per second; None before any.
        seconds: that the search took so far.
        eta_seconds: until its end; None where nobody can say.
        workers: designs that are evaluated at once; 0 where unknown.
        busy: share of their time spent evaluating.
        front: designs that no other beats, fastest first.
        trend: hypervolumes up to now, the last one the present one.
    """

    done: int
    total: int | None
    failed: int
    stopped: int
    rate: float | None
    seconds: float
    eta_seconds: float | None
    workers: int = 0
    busy: float = 0.0
    front: Sequence[Figures] = ()
    trend: Sequence[float] = ()

    def line(self) -> str:
        """All of it in one line, for a file."""
        parts = [
            f"search {self.done}{'' if self.total is None else f'/{self.total}'}: {self._rate()}",
            f"{self.stopped} stopped early, {self.failed} failed",
            self._front(),
            self._left(),
        ]
        return ", ".join(filter(None, parts))

    def lines(self, width: int) -> list[str]:
        """The same with a bar and the front, in lines that are no longer than `width`."""
        counts = f"{self.done}{'' if self.total is None else f'/{self.total}'}"
        clock = ", ".join(filter(None, (f"{duration(self.seconds)} gone", self._left())))
        workers = f", {self.workers} worker{'' if self.workers == 1 else 's'} {self.busy:.0%} busy"
        lines = [
            bar("search", self.done, self.total or 0, f"{counts}  {clock}", width),
            f"designs  {self.done} done, {self.stopped} of them stopped early, {self.failed} failed",
            f"speed    {self._rate()}{workers if self.workers else ''}",
        ]
        if self.front:
            lines.append(f"front    {self._front().removeprefix('front ')}  {spark(self.trend)}")
            lines += [f"  {name:10} {_figures(design)}" for name, design in self._corners()]
        return [line[:width].rstrip() for line in lines]

    def _corners(self) -> list[tuple[str, Figures]]:
        """The front's ends and its middle."""
        return [
            ("fastest", self.front[0]),
            ("smallest", min(self.front, key=lambda each: each.size)),
            ("between", self.front[len(self.front) // 2]),
            ("closest", min(self.front, key=lambda each: (each.rank, each.latency))),
        ]

    def _rate(self) -> str:
        return "no design yet" if self.rate is None else f"{self.rate:.2f} designs/s"

    def _front(self) -> str:
        if not self.front:
            return ""
        designs = f"{len(self.front)} design{'' if len(self.front) == 1 else 's'}"
        return f"front {designs}" + (f", hypervolume {self.trend[-1]:.3f}" if self.trend else "")

    def _left(self) -> str:
        return "" if self.eta_seconds is None else f"{duration(self.eta_seconds)} left"


def bar(name: str, done: int, total: int, text: str, width: int) -> str:
    """`search   ━━━━━━╌╌╌╌  text`, as wide as there is room; no bar where `total` is not known."""
    room = min(width - len(text) - 20, 40)
    if not total or room < 5:
        return f"{name:8} {text}"
    filled = round(room * min(done / total, 1.0))
    return f"{name:8} {'━' * filled}{'╌' * (room - filled)}  {text}"


def spark(values: Sequence[float]) -> str:
    """A line of blocks from the least to the most; of many values, evenly spread ones."""
    if len(values) > TREND:
        values = [values[round(place * (len(values) - 1) / (TREND - 1))] for place in range(TREND)]
    if not values or max(values) <= min(values):
        return ""
    low, high = min(values), max(values)
    return "".join(_BLOCKS[round((value - low) / (high - low) * (len(_BLOCKS) - 1))] for value in values)


def duration(seconds: float) -> str:
    """`1:05`, `2:03:04`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def _figures(design: Figures) -> str:
    return f"{design.latency:8.2f} ms {design.size / _MB:8.1f} MB {100 * design.lost:8.2f} pt lost"
