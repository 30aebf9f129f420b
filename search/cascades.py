"""Cascades as values: what they may be made of, what is planned, and which are worth building. Knows no model.

A plan's figures come from kept logits (cascade_front.py). Thresholds are taken from the calibration rows, and plans are
ranked on the calibration and search rows together: the best of thousands look better there than they are. Only confirm
rows, which nothing here has seen, decide about them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from search.candidates import Point
from search.candidates import choose as spread
from search.figures import AccuracyFigure, LatencyFigure, MemberFigures, SizeFigure
from spaces.design import content_key
from spaces.objectives import ACCURACY, Bound

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Candidate:
    """A model that may become a stage, and what it did on rows in a fixed order.

    Args:
        key: the member's.
        temperature: divides its logits; fitted on calibration.
        confidence: on `calibration` and `search`, per row the largest probability of its softmax.
        right: on the same rows, whether its answer is right.
        latency_ms: per timed call, alone.
        first_ms: as a cascade's first stage, its caches as they were left after the row before.
        later_ms: as a later stage, or a first one where the row before went on: other models took the caches.
        size: bytes, without the tokenizer's.
        first_only: it may be a first stage only (the linear baseline).
    """

    key: str
    temperature: float
    confidence: Mapping[str, Floats]
    right: Mapping[str, Mask]
    latency_ms: Floats
    first_ms: Floats
    later_ms: Floats
    size: int
    first_only: bool = False


@dataclass(frozen=True)
class Plan:
    """A cascade that nobody has built yet.

    Args:
        keys: its members, in order.
        temperatures: one per member.
        thresholds: the least confidence with which an answer stands, for every member but the last.
        reached: share of the calibration and search rows that reach each stage.
        accuracy: share of these rows answered right.
        search_accuracy: share of the search rows alone, on which `select` holds it against limits.
        predicted_ms: mean latency of the timed rows, which a measurement on them can be held against.
        latency_ms: what it is ranked by: `predicted_ms`, or the mean expected of all rows where that is worse.
            A hundred timed rows tell the share that goes on to 4 points, and the luckiest would win.
        size: bytes of all members.
    """

    keys: tuple[str, ...]
    temperatures: tuple[float, ...]
    thresholds: tuple[float, ...]
    reached: tuple[float, ...]
    accuracy: float
    search_accuracy: float
    predicted_ms: float
    latency_ms: float
    size: int

    @property
    def stages(self) -> tuple[dict[str, Any], ...]:
        """As front.json lists them."""
        columns = zip(self.keys, self.temperatures, (*self.thresholds, None), self.reached, strict=True)
        return tuple(dict(zip(("key", "temperature", "threshold", "reached"), stage, strict=True)) for stage in columns)

    @property
    def key(self) -> str:
        """Names this cascade everywhere, like a member's."""
        return content_key(
            {
                "cascade": list(self.keys),
                "temperatures": list(self.temperatures),
                "thresholds": list(self.thresholds),
            }
        )


def choose(plans: Sequence[Plan], fair: tuple[float, float], bounds: Sequence[Bound], count: int) -> list[Plan]:
    """The plans worth building and measuring, most necessary first.

    The fastest within each limit on accuracy always, on search rows alone too, then as members are (candidates.py).

    Args:
        plans: of `cascade_front`.
        fair: accuracy of `fair` on the calibration and search rows, and on the search rows alone.
        bounds: limits of the run.
        count: how many, unless there are more limits on accuracy.
    """
    known = {plan.key: plan for plan in plans}
    points = [
        Point(key, 1 + ACCURACY.cost(plan.accuracy), fair[0] - plan.accuracy, plan.latency_ms, plan.size)
        for key, plan in known.items()
    ]
    fastest = []
    for bound in bounds:
        within = [
            key
            for key, plan in known.items()
            if max(fair[0] - plan.accuracy, fair[1] - plan.search_accuracy) <= bound.at_most
        ]
        if bound.name == "accuracy_drop" and within:
            fastest.append(min(within, key=lambda key: (known[key].latency_ms, -known[key].accuracy, key)))
    fastest = list(dict.fromkeys(fastest))
    keys = dict.fromkeys([*fastest, *(point.key for point in spread(points, bounds, count))])
    return [known[key] for key in list(keys)[: max(count, len(fastest))]]


def cascade_figures(
    plan: Plan,
    *,
    accuracy: Mapping[str, AccuracyFigure],
    latency: LatencyFigure,
    size: SizeFigure,
    agreement: float,
    artifact: str,
    note: str | None = None,
) -> MemberFigures:
    """What was measured of an exported cascade, and what had been predicted.

    Args:
        plan: the cascade.
        accuracy: by split.
        latency, size: measured.
        agreement: share of the rows on which it answers what its members' kept logits say.
        artifact: its folder, relative to the run's.
        note: why it must not be picked.
    """
    return MemberFigures(
        key=plan.key,
        kind="cascade",
        recipe="cascade",
        parents=plan.keys,
        stages=plan.stages,
        verified=True,
        accuracy=accuracy,
        latency=latency,
        size=size,
        fidelity={
            "agreement": agreement,
            "predicted_ms": plan.predicted_ms,
            "predicted_bytes": float(plan.size),
        },
        artifact=artifact,
        note=note,
    )
