"""How the front of a search grew, by the search's own figures. Knows figures of trials; reads no files."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Self

from search.front import front, front_hypervolume
from search.trials import TrialRow

_OBJECTIVES = ("accuracy", "latency", "size")


class Figures(NamedTuple):
    """What the search knows of a complete design: what ranks its answers, share lost, ms, bytes; all to be small."""

    rank: float
    lost: float
    latency: float
    size: float

    @classmethod
    def of(cls, known: Mapping[str, float]) -> Self | None:
        """From a trial's objectives and extras; None where one is missing."""
        lost, latency, size = (known.get(name) for name in ("accuracy_drop", "latency", "size"))
        if lost is None or not latency or not size:
            return None
        return cls(known.get("kl", lost), lost, latency, size)


@dataclass(frozen=True)
class Growth:
    """Complete designs in the order in which they ended."""

    designs: tuple[Figures, ...] = ()

    def __add__(self, known: Mapping[str, float]) -> "Growth":
        """With one design more, unless a figure of it is missing."""
        found = Figures.of(known)
        return self if found is None else Growth((*self.designs, found))

    def front(self) -> list[Figures]:
        """The designs that no other beats, fastest first."""
        best = front(self.designs, lambda each: (each.rank, each.latency, each.size))
        return sorted(best, key=lambda each: each.latency)

    def hypervolume(self, n: int | None = None) -> float:
        """Of the first `n` designs (all if None), on search rows and predicted figures: a stand-in for the verified."""
        if not self.designs:
            return 0.0
        original = min(self.designs, key=lambda each: (each.rank, -each.size))  # nothing is nearer to it than itself
        fair = {"accuracy": 0.0, "latency": original.latency, "size": original.size}
        rows = [{"accuracy": -each.lost, "latency": each.latency, "size": each.size} for each in self.designs[:n]]
        return front_hypervolume(rows, fair, _OBJECTIVES)

    def curve(self, points: int) -> Sequence[tuple[int, float]]:
        """The hypervolume after so many designs, at up to `points` numbers of them, the last one always."""
        total = len(self.designs)
        ends = sorted({round(total * (step + 1) / points) for step in range(points)} - {0})
        return [(n, self.hypervolume(n)) for n in ends]


def grown(trials: Sequence[TrialRow]) -> Growth:
    """By the complete trials of a run, whatever study they stand in."""
    ended = sorted((trial for trial in trials if trial.state == "complete"), key=lambda trial: trial.ended or 0.0)
    found = (Figures.of(trial.figures) for trial in ended)
    return Growth(tuple(filter(None, found)))
