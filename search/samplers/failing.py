"""Where designs keep failing, so that samplers go elsewhere. Knows knobs and the record; knows no reasons.

What makes designs fail is most often one choice: a width that no runtime exports, a depth that runs out of memory.
So each knob's values are counted in a few bins; a bin whose designs nearly all fail, while others do not, is left out.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from search.faults import NODE_LOST
from search.record import Record
from spaces.design import Design
from spaces.knobs import Choice, FloatRange, IntRange, Knob, Scalar

_BINS = 4
# Designs that a bin must have seen, the share of them that must have failed, and how many times the share elsewhere.
_SEEN, _SHARE, _TIMES = 4, 0.75, 2.0


@dataclass
class _Count:
    failed: int = 0
    ended: int = 0

    def add(self, failed: bool) -> None:
        self.failed += failed
        self.ended += 1


class Failing:
    """The bins in which the record's designs fail; follows the record.

    Args:
        record: whose trials are counted.
        knobs: of the space.
    """

    def __init__(self, record: Record, knobs: Mapping[str, Knob]) -> None:
        self._record = record
        self._knobs = knobs
        self._looked = 0  # at so many of the record's ended trials
        self._all = _Count()
        self._bins: dict[tuple[str, Scalar], _Count] = {}

    def holds(self, design: Design) -> bool:
        """Whether one of the design's values is in such a bin."""
        self._look()
        return self._all.failed >= _SEEN and any(map(self._fails, self._places(design)))

    def _look(self) -> None:
        for frozen in self._record.ended[self._looked :]:
            trial = self._record.trial(frozen)
            lost = (trial.error or "").startswith(NODE_LOST)  # which says nothing of the design
            if trial.knobs is None or lost:
                continue
            failed = trial.state == "failed"
            self._all.add(failed)
            for place in self._places(trial.knobs):
                self._bins.setdefault(place, _Count()).add(failed)
        self._looked = len(self._record.ended)

    def _places(self, knobs: Mapping[str, Scalar]) -> list[tuple[str, Scalar]]:
        return [(name, _bin(self._knobs[name], value)) for name, value in knobs.items() if name in self._knobs]

    def _fails(self, place: tuple[str, Scalar]) -> bool:
        inside = self._bins.get(place, _Count())
        if inside.ended < _SEEN or inside.failed < _SHARE * inside.ended:
            return False
        failed, ended = self._all.failed - inside.failed, self._all.ended - inside.ended
        return ended > 0 and inside.failed / inside.ended >= _TIMES * failed / ended


def _bin(knob: Knob, value: Scalar) -> Scalar:
    """A choice itself, or the quarter of a range that a number is in."""
    if isinstance(knob, Choice) or not isinstance(knob, IntRange | FloatRange) or knob.low == knob.high:
        return value
    share = (float(value) - knob.low) / (knob.high - knob.low)
    return min(int(share * _BINS), _BINS - 1)
