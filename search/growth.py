"""How the front of a search grew, by the search's own figures. Knows figures of trials; reads no files."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Self

from search.front import front, front_hypervolume

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
    """Complete designs in the order in which they ended, the original first: gains are over it."""

    designs: tuple[Figures, ...] = ()

    @classmethod
    def of(cls, known: Iterable[Mapping[str, float]]) -> Self:
        """From trials' figures; those that lack one are left out."""
        return cls(tuple(found for each in known if (found := Figures.of(each)) is not None))

    def front(self) -> list[Figures]:
        """The designs that no other beats, fastest first."""
        best = front(self.designs, lambda each: (each.rank, each.latency, each.size))
        return sorted(best, key=lambda each: each.latency)

    def hypervolume(self, n: int | None = None) -> float:
        """Of the first `n` designs (all if None), on search rows and predicted figures: a stand-in for the verified."""
        if not self.designs:
            return 0.0
        fair = {"accuracy": 0.0, "latency": self.designs[0].latency, "size": self.designs[0].size}
        rows = [{"accuracy": -each.lost, "latency": each.latency, "size": each.size} for each in self.designs[:n]]
        return front_hypervolume(rows, fair, _OBJECTIVES)

    def curve(self, points: int) -> Sequence[tuple[int, float]]:
        """The hypervolume after so many designs, at up to `points` numbers of them, the last one always."""
        total = len(self.designs)
        ends = sorted({round(total * (step + 1) / points) for step in range(points)} - {0})
        return [(n, self.hypervolume(n)) for n in ends]
