"""All cascades of two and the promising ones of three, scored from kept logits. Knows arrays; runs and decides nothing.

Which rows a cascade answers at which stage follows from the confidences of its members, so that a stage with all its
thresholds and all that may come after it costs one product of matrices.

Shapes: K candidates, N rows, T timed rows, G thresholds.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from search.cascades import Candidate, Floats, Mask, Plan
from search.front import front
from spaces.objectives import ACCURACY

_THRESHOLDS = 50


def cascade_front(
    candidates: Sequence[Candidate], timed: Sequence[int], *, batch_size: int = 1, most_lost: float = 0.005
) -> list[Plan]:
    """Cascades that nothing dominates in accuracy and latency: no other of them, no candidate alone.

    Only what is slower and more often right comes after a stage: without that rule a third member whose guesses happen
    to suit the rows left over wins. Of three members those are tried that go on where a pair on the pairs' front ends.

    Args:
        candidates: with distinct keys, all on the same rows.
        timed: the timed rows as indices into the search rows.
        batch_size: of them, in this order, were in one call.
        most_lost: cascades are left out that are less accurate than their last member by more than this fraction.
    """
    if len(candidates) < 2:
        return []
    table = _Table.of(candidates, timed, batch_size)
    pairs = _undominated(plan for stage in range(len(candidates)) for plan in _endings(table, (), (), stage, most_lost))
    triples = [
        plan
        for pair in pairs
        for plan in _endings(table, (table.index[pair.keys[0]],), pair.thresholds, table.index[pair.keys[1]], most_lost)
    ]
    singles = [_single(table, stage) for stage in range(len(candidates))]
    return [plan for plan in _undominated([*singles, *pairs, *triples]) if len(plan.keys) > 1]


@dataclass(frozen=True, eq=False)
class _Table:
    """All candidates side by side, calibration rows before search rows.

    Args:
        candidates: in order.
        index: where each key is.
        calibration: how many rows are calibration's.
        timed: the timed rows, (T,).
        confidence: (K, N).
        right: 1 or 0, (K, N).
        alone_ms: what each timed row adds to a candidate's mean latency, (K, T).
        first_ms, later_ms: the same of candidates as stages, (K, T); see Candidate.
    """

    candidates: tuple[Candidate, ...]
    index: Mapping[str, int]
    calibration: int
    timed: NDArray[np.int64]
    confidence: Floats
    right: Floats
    alone_ms: Floats
    first_ms: Floats
    later_ms: Floats

    @classmethod
    def of(cls, candidates: Sequence[Candidate], timed: Sequence[int], batch_size: int) -> "_Table":
        calibration = len(candidates[0].right["calibration"])

        def shares(times: Iterable[Floats]) -> Floats:
            return np.stack([_share_ms(each, len(timed), batch_size) for each in times])

        return cls(
            candidates=tuple(candidates),
            index={candidate.key: number for number, candidate in enumerate(candidates)},
            calibration=calibration,
            timed=np.asarray(timed, dtype=np.int64) + calibration,
            confidence=np.stack([_joined(candidate.confidence) for candidate in candidates]),
            right=np.stack([_joined(candidate.right) for candidate in candidates]),
            alone_ms=shares(candidate.latency_ms for candidate in candidates),
            first_ms=shares(candidate.first_ms for candidate in candidates),
            later_ms=shares(candidate.later_ms for candidate in candidates),
        )

    def row_ms(self, stage: int, gone_on: Floats, *, first: bool) -> Floats:
        """What each timed row that reaches `stage` adds, (..., T), where it is the first or a later one.

        Args:
            gone_on: share of the rows that go on from it, (...): after such a row a first stage finds the caches taken.
        """
        taken = gone_on[..., None] if first else np.ones((*gone_on.shape, 1))
        return np.asarray((1 - taken) * self.first_ms[stage] + taken * self.later_ms[stage])

    def follow(self, stage: int) -> Mask:
        """Which candidates may come after `stage`, (K,)."""
        mean_ms, right = self.alone_ms.sum(axis=1), self.right.sum(axis=1)
        anywhere = np.array([not candidate.first_only for candidate in self.candidates])
        return np.asarray(anywhere & (mean_ms > mean_ms[stage]) & (right > right[stage]))


@dataclass(frozen=True, eq=False)
class _Walk:
    """The rows sent through some stages.

    Args:
        waiting: those that no stage was confident enough of, (N,).
        right: those that a stage answered right, (N,).
        reached: share of the rows that reached each stage.
        timed_ms: mean latency so far of the timed rows.
        expected_ms: the same of all rows, as if all took equally long.
    """

    waiting: Mask
    right: Mask
    reached: tuple[float, ...]
    timed_ms: float
    expected_ms: float


def _walk(table: _Table, stages: Sequence[int], thresholds: Sequence[float]) -> _Walk:
    waiting = np.ones(table.right.shape[1], dtype=np.bool_)
    right, timed_ms, expected_ms = ~waiting, 0.0, 0.0
    reached: list[float] = []
    for stage, threshold in zip(stages, thresholds, strict=True):
        answered = waiting & (table.confidence[stage] >= threshold)
        row_ms = table.row_ms(stage, np.asarray(1 - answered.mean()), first=not reached)
        reached.append(float(waiting.mean()))
        right = right | (answered & (table.right[stage] > 0))
        timed_ms += float(row_ms[waiting[table.timed]].sum())
        expected_ms += reached[-1] * float(row_ms.sum())
        waiting = waiting & ~answered
    return _Walk(waiting, right, tuple(reached), timed_ms, expected_ms)


def _single(table: _Table, stage: int) -> Plan:
    """A candidate by itself, for comparison."""
    alone_ms = float(table.alone_ms[stage].sum())
    return replace(_plan(table, (stage,), ()), predicted_ms=alone_ms, latency_ms=alone_ms)


def _plan(table: _Table, stages: Sequence[int], thresholds: Sequence[float]) -> Plan:
    """A whole cascade; one threshold fewer than stages."""
    walk = _walk(table, stages, (*thresholds, -np.inf))
    members = [table.candidates[stage] for stage in stages]
    return Plan(
        keys=tuple(member.key for member in members),
        temperatures=tuple(member.temperature for member in members),
        thresholds=tuple(thresholds),
        reached=walk.reached,
        accuracy=float(walk.right.mean()),
        search_accuracy=float(walk.right[table.calibration :].mean()),
        predicted_ms=walk.timed_ms,
        latency_ms=max(walk.timed_ms, walk.expected_ms),
        size=sum(member.size for member in members),
    )


def _endings(
    table: _Table, opening: tuple[int, ...], thresholds: tuple[float, ...], stage: int, most_lost: float
) -> list[Plan]:
    """The best of all cascades of the stages `opening`, then `stage` at any threshold, then any that may follow."""
    walk, rows = _walk(table, opening, thresholds), table.right.shape[1]
    levels = _levels(table, walk.waiting, stage)  # (G,)
    waiting = walk.waiting & (table.confidence[stage] < levels[:, None])  # (G, N)
    answered = walk.waiting & ~waiting
    right = walk.right.sum() + (answered @ table.right[stage])[:, None] + waiting @ table.right.T  # (G, K)
    row_ms = table.row_ms(stage, waiting.mean(axis=1), first=not opening)  # (G, T)
    timed_ms = walk.timed_ms + (row_ms @ walk.waiting[table.timed])[:, None]
    timed_ms = timed_ms + waiting[:, table.timed] @ table.later_ms.T  # (G, K)
    expected_ms = walk.expected_ms + walk.waiting.mean() * row_ms.sum(axis=1)[:, None]
    expected_ms = expected_ms + waiting.mean(axis=1)[:, None] * table.later_ms.sum(axis=1)  # (G, K)
    allowed = (table.right.sum(axis=1) - right <= most_lost * rows) & table.follow(stage)
    level, last = np.nonzero(allowed & waiting.any(axis=1)[:, None])
    best = _lowest(np.maximum(timed_ms, expected_ms)[level, last], rows - right[level, last])
    return [
        _plan(table, (*opening, stage, int(last[n])), (*thresholds, float(levels[level[n]]))) for n in best.tolist()
    ]


def _levels(table: _Table, waiting: Mask, stage: int) -> Floats:
    """Thresholds that keep evenly spaced shares of the waiting calibration rows; none where no row waits."""
    seen = table.confidence[stage, : table.calibration][waiting[: table.calibration]]
    steps = np.linspace(0, 1, _THRESHOLDS + 2)[1:-1]
    return np.unique(np.quantile(seen, steps)) if len(seen) else np.zeros(0)


def _lowest(milliseconds: Floats, wrong: Floats) -> NDArray[np.int64]:
    """Indices of the points that are less often wrong than every faster one; of equal ones the first."""
    order = np.lexsort((wrong, milliseconds))
    before = np.concatenate([[np.inf], np.minimum.accumulate(wrong[order])[:-1]])[: len(order)]
    return order[wrong[order] < before]


def _undominated(plans: Iterable[Plan]) -> list[Plan]:
    return front(list(plans), costs=lambda plan: (plan.latency_ms, ACCURACY.cost(plan.accuracy)))


def _joined(splits: Mapping[str, NDArray[np.float64] | Mask]) -> Floats:
    return np.concatenate([splits["calibration"], splits["search"]]).astype(np.float64)


def _share_ms(latency_ms: Floats, rows: int, batch_size: int) -> Floats:
    """Each timed row's share of the mean latency per call, (rows,): a call's time is its rows' in equal parts."""
    call = np.arange(rows) // batch_size
    rows_in_call = np.bincount(call)
    return np.asarray((latency_ms / rows_in_call)[call] / len(rows_in_call))
