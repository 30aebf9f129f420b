"""A fitted prediction of latency, as the ratio to the original beside it. Knows coefficients; knows no framework.

Ratios to a baseline that took turns with the design carry half of the noise of raw milliseconds, so those are fitted
and predicted; the baseline's own milliseconds turn them back into time.
"""

import json
import math
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Self, TypeAlias, cast

import numpy as np

from evaluators.latency_probes import probes
from evaluators.latency_terms import SHARE_OF_LAST_ATTENTION, Shortened, Terms, Vector
from evaluators.metrics.lane import Lane
from evaluators.metrics.latency import Contender, Kind, Measurement, Progress, TimingRow, measure, sample_inputs
from evaluators.runtimes.base import Runtime, Template
from evaluators.tasks.base import Encoded, Inputs
from spaces.axes.pruning import UnitCosts
from spaces.design import Member
from spaces.shape import ModelShape
from spaces.target import Target
from spaces.whole import write_whole

Keep: TypeAlias = Callable[[Sequence[TimingRow]], None]

# Of a unit that seems to be free, in shares of the original's latency: rankings divide by it.
_CHEAPEST_UNIT = 1e-7
# Of a design that seems to take no time: errors are relative.
_LEAST_RATIO = 1e-6
# Designs that take turns with one copy of the original.
_GROUP = 10
_INPUTS = 50
# Further designs for each level of compression: its terms are as many again as the widths have.
_PER_LEVEL = 4
# In one process alone, where the original's weights happen to lie shifts all ratios of a group by up to a tenth.
_PROCESSES, _ROUNDS = 3, 9
# Long calls are less noisy: when the original has had so many seconds, more rounds would only take time.
_ENOUGH_SECONDS = 4.0


@dataclass(frozen=True)
class HeldOut:
    """A design that the prediction in `predicted` did not see: ratios to the original's latency."""

    measured: float
    predicted: float


@dataclass(frozen=True)
class Seen:
    """A timed member by its key: the factors of its terms, (terms,), and its latency over the original's."""

    key: str
    factors: tuple[float, ...]
    ratio: float


@dataclass(frozen=True)
class LatencyModel:
    """Predicts the mean latency of members at one target.

    Args:
        terms: what is summed.
        coefficients: one per term, as shares of the original's latency.
        fair_ms: mean latency of the original in the runtime.
        target_key: key of the target that was timed.
        held_out: designs that were predicted before they were used.
        seen: what the coefficients were fitted to; none where the target is known by its description.
    """

    terms: Terms
    coefficients: tuple[float, ...]
    fair_ms: float
    target_key: str
    held_out: tuple[HeldOut, ...]
    seen: tuple[Seen, ...] = ()

    def predict_ratio(self, member: Member) -> float:
        """Latency of `member` over that of the original."""
        return float(self.terms.features(member) @ np.array(self.coefficients))

    def predict_ms(self, member: Member) -> float:
        """Mean latency of `member` at the target."""
        return self.predict_ratio(member) * self.fair_ms

    def predict_interval(self, member: Member, confidence: float = 0.9) -> tuple[float, float]:
        """Ends in ms between which the mean latency of `member` lies about so often: cross-conformal (CV+ of Barber et
        al. 2021, arXiv 1905.02928, of relative errors), so wider where the fits without a fold of the timings differ.
        """
        factors = self.terms.features(member)
        plausible = np.concatenate([fit @ factors * errors for fit, errors in self._folds])
        low, high = np.quantile(plausible, [(1 - confidence) / 2, (1 + confidence) / 2])
        return float(low) * self.fair_ms, float(high) * self.fair_ms

    def refined(self, timings: Sequence[tuple[Member, float]]) -> Self:
        """The same with what later timings say too: members with their latency over the original's beside them."""
        later = {each.key: each for each in _seen(self.terms, timings)} if self.seen else {}
        return self._fitted_to([*(each for each in self.seen if each.key not in later), *later.values()])

    def without(self, member: Member) -> Self:
        """The same as if `member` had never been timed: what it says of that one is a prediction."""
        return self._fitted_to([each for each in self.seen if each.key != member.key])

    def _fitted_to(self, seen: Sequence[Seen]) -> Self:
        if tuple(seen) == self.seen:
            return self
        return replace(self, seen=tuple(seen), coefficients=_coefficients(self.terms, seen))

    @cached_property
    def _folds(self) -> list[tuple[Vector, Vector]]:
        """Per fold of the timings, coefficients fitted to the others, and measured over predicted of its own."""
        if not self.seen:
            errors = [pair.measured / pair.predicted for pair in self.held_out] or [1.0]
            return [(np.array(self.coefficients), np.array(errors))]
        factors, ratios = _arrays(self.seen)
        return [
            (fit, ratios[own] / np.maximum(factors[own] @ fit, _LEAST_RATIO))
            for own, fit in self.terms.folds(factors, ratios)
        ]

    def unit_costs(self, bits: int = 8) -> UnitCosts:
        """What one head and one neuron of `bits` width take, all else equal.

        Raises:
            ValueError: the runtime has no such width.
        """
        if bits not in self.terms.bits:
            raise ValueError(f"{bits} bits are not among the timed widths {self.terms.bits}. Ask for one of them.")
        cost = dict(zip(self.terms.names, self.coefficients, strict=True))
        shape = self.terms.shape
        head = max(cost[f"heads@{bits}"] / shape.heads, _CHEAPEST_UNIT) * self.fair_ms
        neuron = max(cost[f"neurons@{bits}"] / shape.ffn, _CHEAPEST_UNIT) * self.fair_ms
        if not self.terms.first_token:
            return UnitCosts(head, neuron)
        last_neuron = max(cost[f"first token's neurons@{bits}"] / shape.ffn, _CHEAPEST_UNIT) * self.fair_ms
        return UnitCosts(head, neuron, SHARE_OF_LAST_ATTENTION * head, last_neuron)

    @property
    def spearman(self) -> float:
        """Rank correlation of predicted and measured ratios on held-out designs."""
        measured = _ranks(np.array([pair.measured for pair in self.held_out]))
        predicted = _ranks(np.array([pair.predicted for pair in self.held_out]))
        return float(np.corrcoef(measured, predicted)[0, 1])

    @property
    def mean_error(self) -> float:
        """Mean relative error of the ratio on held-out designs."""
        return float(np.mean([abs(pair.predicted / pair.measured - 1) for pair in self.held_out]))

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> "LatencyModel":
        terms = content["terms"]
        return cls(
            Terms(
                ModelShape(**terms["shape"]),
                tuple(terms["bits"]),
                terms["first_token"],
                tuple(terms.get("kinds", ())),
                tuple(Shortened(**level) for level in terms.get("levels", ())),
            ),
            tuple(content["coefficients"]),
            content["fair_ms"],
            content["target_key"],
            tuple(HeldOut(**pair) for pair in content["held_out"]),
            tuple(  # older files have none
                Seen(each["key"], tuple(each["factors"]), each["ratio"]) for each in content.get("seen", ())
            ),
        )

    def write(self, path: Path) -> None:
        write_whole(path, json.dumps(self.to_json(), indent=1))

    @classmethod
    def read(cls, path: Path) -> "LatencyModel":
        return cls.from_json(json.loads(path.read_text()))


def calibrate(
    template: Template,
    runtime: Runtime,
    shape: ModelShape,
    inputs: Sequence[Inputs],
    *,
    target: Target,
    fair: Path,
    seed: int,
    kinds: Sequence[str] = (),
    levels: Sequence[float] = (),
    timings: int = 50,
    held_out: int = 16,
    progress: Progress | None = None,
    lane: Lane | None = None,
    keep: Keep = lambda rows: None,
) -> LatencyModel:
    """Assemble and time probes beside the original, and fit the model to them. Nothing of ours may run meanwhile.

    Args:
        template: assembles the probes.
        runtime: where they run.
        shape: the original's sizes.
        inputs: tokenised rows, per input (length,); up to 50 of them, spread over the lengths, are timed.
        target: threads, batch and device.
        fair: the original's artefact in the same runtime.
        seed: draws the probes and the inputs, and shuffles turns.
        kinds: in which layers may attend, other than softly.
        levels: at which rows may be compressed.
        timings: designs to time, and some more for each level.
        held_out: how many of them, the last drawn, to predict before they are used.
        progress: told after each group how many designs are timed.
        lane: where to time; this machine if None.
        keep: told of every timing round.

    Raises:
        ParetoformerError: a probe cannot be loaded or timed.
    """
    members = probes(shape, runtime.bits, timings + _PER_LEVEL * len(levels), seed, kinds, levels)
    rows = timed_rows(inputs, seed)
    timed = time_beside(
        members, template, runtime, rows, target=target, fair=fair, seed=seed, progress=progress, lane=lane, keep=keep
    )
    return fitted(
        shape,
        runtime.bits,
        list(zip(members, timed.ratios, strict=True)),
        kinds=tuple(kinds),
        levels=_shortened(levels, template, rows, target.batch_size),
        held_out=min(held_out, len(members) // 2),
        fair_ms=timed.fair_ms,
        target_key=target.key,
    )


def timed_rows(inputs: Sequence[Inputs], seed: int) -> list[Inputs]:
    """Those that a calibration times: up to 50, spread over the lengths."""
    return [inputs[row] for row in sample_inputs(Encoded(tuple(inputs), ()), _INPUTS, seed=seed)]


@dataclass(frozen=True)
class Timed:
    """Mean latencies of members over the original's beside them, in their order, and the original's own in ms."""

    ratios: tuple[float, ...]
    fair_ms: float


def time_beside(
    members: Sequence[Member],
    template: Template,
    runtime: Runtime,
    rows: Sequence[Inputs],
    *,
    target: Target,
    fair: Path,
    seed: int,
    progress: Progress | None = None,
    lane: Lane | None = None,
    keep: Keep = lambda rows: None,
) -> Timed:
    """Assemble members and time them, a few at a time in turns with the original; arguments as of `calibrate`."""
    ratios: list[float] = []
    fair_ms: list[float] = []
    for start in range(0, len(members), _GROUP):
        group, rounds = members[start : start + _GROUP], _rounds(fair_ms, len(rows))
        measured = _timed(template, runtime, group, rows, target, fair, seed + start, rounds, lane)
        keep(measured.timings)
        fair_ms.append(measured["fair"].mean_ms)
        ratios += [measured[member.key].mean_ms / fair_ms[-1] for member in group]
        if progress is not None:
            progress(len(ratios), len(members))
    return Timed(tuple(ratios), float(np.median(fair_ms)))


def _rounds(fair_ms: Sequence[float], inputs: int) -> int:
    """Rounds of the next group, given the original's mean latency in earlier ones."""
    if not fair_ms:
        return _ROUNDS
    seconds = inputs * float(np.median(fair_ms)) / 1000  # of a round
    return min(_ROUNDS, max(_PROCESSES, math.ceil(_ENOUGH_SECONDS / seconds)))


def _shortened(
    levels: Sequence[float], template: Template, rows: Sequence[Inputs], batch_size: int
) -> tuple[Shortened, ...]:
    """What each level leaves of the timed rows."""
    if not levels:
        return ()
    assert template.grades is not None, "a template that compresses knows grades"
    counts = [(len(row["input_ids"]), template.grades.special(row["input_ids"].tolist())) for row in rows]
    calls = [counts[start : start + batch_size] for start in range(0, len(counts), batch_size)]
    return tuple(Shortened.of(level, calls) for level in levels)


def _timed(
    template: Template,
    runtime: Runtime,
    group: Sequence[Member],
    rows: Sequence[Inputs],
    target: Target,
    fair: Path,
    seed: int,
    rounds: int,
    lane: Lane | None,
) -> Measurement:
    """Latencies of `group` by key and of the original, which took turns with them in fresh processes."""
    kind = cast(Kind, runtime.name)
    with tempfile.TemporaryDirectory() as folder:
        contenders = [Contender("fair", kind, fair)]
        for member in group:
            path = Path(folder) / f"{member.key}{Path(runtime.filename).suffix}"
            path.write_bytes(template.assemble(member))
            contenders.append(Contender(member.key, kind, path))
        return measure(contenders, rows, target=target, rounds=rounds, processes=_PROCESSES, seed=seed, lane=lane)


def fitted(
    shape: ModelShape,
    bits: tuple[int, ...],
    timings: Sequence[tuple[Member, float]],
    *,
    kinds: tuple[str, ...] = (),
    levels: tuple[Shortened, ...] = (),
    held_out: int,
    fair_ms: float,
    target_key: str,
) -> LatencyModel:
    """The model fitted to all timings, with the errors that a fit without the last `held_out` makes on those.

    Args:
        shape: the original's sizes.
        bits: widths that the runtime executes.
        timings: designs and their latencies over the original's, measured beside it.
        kinds: in which layers may attend, other than softly.
        levels: at which rows may be compressed.
        held_out: how many, from the end, are predicted before they are used.
        fair_ms: the original's mean latency.
        target_key: key of the target.
    """
    first = len(timings) - held_out
    # Whether the runtime drops tokens that the head does not read shows in the timings.
    both = [Terms(shape, bits, first_token, kinds, levels) for first_token in (False, True)]
    terms = min(both, key=lambda terms: terms.error(*_arrays(_seen(terms, timings[:first]))))
    seen = _seen(terms, timings)
    early = np.array(_coefficients(terms, seen[:first]))
    unseen = tuple(HeldOut(each.ratio, float(early @ each.factors)) for each in seen[first:])
    return LatencyModel(terms, _coefficients(terms, seen), fair_ms, target_key, unseen, seen)


def _seen(terms: Terms, timings: Sequence[tuple[Member, float]]) -> tuple[Seen, ...]:
    return tuple(Seen(member.key, tuple(terms.features(member).tolist()), ratio) for member, ratio in timings)


def _arrays(seen: Sequence[Seen]) -> tuple[Vector, Vector]:
    """Factors (designs, terms) and ratios (designs,)."""
    return np.array([each.factors for each in seen]), np.array([each.ratio for each in seen])


def _coefficients(terms: Terms, seen: Sequence[Seen]) -> tuple[float, ...]:
    return tuple(terms.fit(*_arrays(seen)).tolist())


def _ranks(values: Vector) -> Vector:
    """Ranks from 0, ties sharing the mean of theirs."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks: Vector = (np.cumsum(counts) - (counts + 1) / 2)[inverse]
    return ranks
