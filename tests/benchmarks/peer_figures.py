"""What peers.py measured, as rows and claims. Knows figures of contenders; measures nothing.

"The best of the peers" is the fastest in time, the smallest in bytes and, in accuracy, the one that turns out best on
the very rows that are compared: a choice that favours the peers.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from report import Claim

from evaluators.metrics.accuracy import Metric, paired_drop
from evaluators.metrics.latency import Latency
from evaluators.problems.classes import accuracy

OURS, CASCADE = "ours", "ours, cascade"
# Bounds of the "done when", line 5.
FASTER, SMALLER, MOST_LOST = 1.5, 2.0, 0.01


@dataclass(frozen=True)
class Measured:
    """One contender on one seed.

    Args:
        about: a peer's versions, or the key of what a run made.
        size: bytes.
        latency: beside the others.
        logits: of the scored rows, (rows, classes).
    """

    about: str
    size: int
    latency: Latency
    logits: NDArray[np.float32]


@dataclass(frozen=True)
class Outcome:
    """One seed.

    Args:
        seed: of its splits, checkpoint and run.
        peers: by name.
        others: ours and the original, by name.
        refused: by name, what the peers said that cannot be compared.
        labels: of the scored rows, (rows,).
    """

    seed: int
    peers: Mapping[str, Measured]
    others: Mapping[str, Measured]
    refused: Mapping[str, str]
    labels: NDArray[np.int64]

    @property
    def measured(self) -> dict[str, Measured]:
        return {**self.others, **self.peers}

    @property
    def fastest(self) -> Latency:
        """The fastest peer's."""
        return min((each.latency for each in self.peers.values()), key=lambda latency: latency.mean_ms)

    @property
    def smallest(self) -> int:
        """The smallest peer's bytes."""
        return min(each.size for each in self.peers.values())


def rows(outcome: Outcome) -> list[dict[str, Any]]:
    """A line per contender; those that are missing say why."""
    best = _best_peer([outcome])
    found = [_row(outcome, name, each, best) for name, each in outcome.measured.items()]
    empty = dict.fromkeys(found[0])
    return found + [
        {**empty, "seed": outcome.seed, "contender": name, "about": why} for name, why in outcome.refused.items()
    ]


def claims(outcomes: Sequence[Outcome]) -> list[Claim]:
    """The issue's line 5: a single model of ours, then a cascade in those seeds that have one."""
    smaller = tuple(outcome.smallest / outcome.others[OURS].size for outcome in outcomes)
    found = [
        Claim("2.5a", "speed-up over the fastest peer", ">=", FASTER, _speedups(outcomes, OURS)),
        Claim("2.5b", "times smaller than the smallest peer", ">=", SMALLER, smaller),
        *_accuracy_claims(outcomes, OURS, ("2.5c", "2.5d")),
    ]
    with_cascade = [outcome for outcome in outcomes if CASCADE in outcome.others]
    if with_cascade:
        times = _speedups(with_cascade, CASCADE)
        found.append(Claim("2.5e", "cascade: speed-up over the fastest peer", ">=", FASTER, times))
        found += _accuracy_claims(with_cascade, CASCADE, ("2.5f", "2.5g"))
    return found


def _row(outcome: Outcome, name: str, each: Measured, best: str) -> dict[str, Any]:
    times, low, high = each.latency.speedup(outcome.fastest, outcome.seed)
    drop, drop_low, drop_high = _lost([outcome], name, best)
    return {
        "seed": outcome.seed,
        "contender": name,
        "ms": each.latency.mean_ms,
        "x fastest peer": times,
        "x low": low,
        "x high": high,
        "MB": each.size / 1e6,
        "x smallest peer": outcome.smallest / each.size,
        "accuracy": accuracy(outcome.labels, each.logits.argmax(-1)),
        "drop to best peer": drop,
        "drop low": drop_low,
        "drop high": drop_high,
        "about": each.about,
    }


def _accuracy_claims(outcomes: Sequence[Outcome], name: str, ids: tuple[str, str]) -> list[Claim]:
    best = _best_peer(outcomes)
    drop, low, _ = _lost(outcomes, name, best)
    return [
        Claim(ids[0], f"{name}: test accuracy less that of {best}, pooled", ">=", -MOST_LOST, (-drop,)),
        Claim(ids[1], f"{name}: drop to {best}, pooled: low end of its interval", "<=", 0.0, (low,)),
    ]


def _speedups(outcomes: Sequence[Outcome], name: str) -> tuple[float, ...]:
    return tuple(outcome.fastest.mean_ms / outcome.others[name].latency.mean_ms for outcome in outcomes)


def _best_peer(outcomes: Sequence[Outcome]) -> str:
    """The most accurate over all seeds, among the peers that every seed has."""
    everywhere = [name for name in outcomes[0].peers if all(name in outcome.peers for outcome in outcomes)]

    def right(name: str) -> int:
        return sum(int((each.peers[name].logits.argmax(-1) == each.labels).sum()) for each in outcomes)

    return max(everywhere, key=right)


def _lost(outcomes: Sequence[Outcome], name: str, base: str) -> tuple[float, float, float]:
    """Accuracy lost against `base` on the same rows, pooled over seeds, with its 95 % interval."""
    base_logits, logits = (np.concatenate([each.measured[one].logits for each in outcomes]) for one in (base, name))
    return paired_drop(Metric("accuracy"), base_logits, logits, np.concatenate([each.labels for each in outcomes]))
