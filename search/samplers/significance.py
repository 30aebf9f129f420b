"""Significance analysis: what is insignificant goes, what matters little is approximated (arXiv 2010.03688v1).

Knows the order of elements and the thresholds; knows nothing of models. [reconstructed] Only the abstract could be
read: elements from coarse to fine are judged by the loss without them, approximations are fewer bits and sign-matching
attention, and goals decide the order. What it leaves open is decided here: steps are judged with all accepted ones
together; what is insignificant goes before anything is approximated. For speed and size a step's loss is how far it
takes the answers from the original's (divergence, in shares of the original's loss): the loss on labels falls where an
over-confident model loses parts, and a walk led by it lost 6 points of movie-reviews' accuracy for 3 % of loss.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from search.samplers.axformer import guarded
from search.samplers.greedy import Accepts, Change, Greedy
from search.samplers.walk import Figures, Walk
from spaces.design import Design
from spaces.shape import ModelShape

Goal = Literal["faster", "smaller", "accurate"]
_NARROWER = -1.0  # a shift that takes a block one width below the level


@dataclass(frozen=True)
class SignificanceSettings:
    """Goal and thresholds.

    Args:
        goal: `faster`: attention first, and only what the target runs faster; `smaller`: FFN first, and only what takes
            fewer bytes; `accurate`: FFN first, and every step must lower the loss, in most parts of the rows too.
        prune: an element goes where what is lost is then at most this share of the original's loss.
        approximate: likewise for fewer bits, or attention by matching signs; more than `prune`.
        descend: the parts of a block that stays are looked at where the loss without it would be at most this much
            above the best's.
        k: keys that attention by matching signs keeps.
        folds_agreeing: for `accurate`, of five parts of the rows.
    """

    goal: Goal = "faster"
    prune: float = 0.02
    approximate: float = 0.04
    descend: float = 0.25
    k: int = 16
    folds_agreeing: int = 4


@dataclass(frozen=True)
class _Block:
    """What takes a block away, what takes a part of it away, and what approximates it."""

    gone: Change
    parts: tuple[Change, ...]
    approximations: tuple[Change, ...]


def walk(
    start: Design, shape: ModelShape, settings: SignificanceSettings, groups: int, narrow: Sequence[Change]
) -> Walk:
    """Uniformly fewer bits, then pruning from coarse to fine, then approximation of what stays.

    Args:
        start: the original in the encoding of UnitPruningAxis, QuantizationAxis and AttentionAxis; approximations whose
            knobs it has not, as where a runtime has one width only, are left out.
        shape: the model's sizes.
        settings: goal and thresholds.
        groups: of neurons in each FFN.
        narrow: knobs of uniform widths to begin with, each on top of those before; not used for `accurate`.
    """
    greedy = Greedy(start)
    if not (yield from greedy.begin()):
        return greedy.design
    insignificant, tolerable = _rule(settings, settings.prune), _rule(settings, settings.approximate)
    for widths in () if settings.goal == "accurate" else narrow:
        yield from greedy.offer(widths, tolerable)
    kept: list[_Block] = []
    for block in _blocks(shape, settings, groups):
        gone, without = yield from greedy.offer(block.gone, insignificant)
        if gone:
            continue
        kept.append(block)
        if without and _worse(without, greedy.best, settings) <= settings.descend * greedy.best["loss"]:
            for part in block.parts:
                yield from greedy.offer(part, insignificant)
    for block in kept:
        for change in (change for change in block.approximations if change.keys() <= start.keys()):
            yield from greedy.offer(change, tolerable)
    return greedy.design


def _rule(settings: SignificanceSettings, threshold: float) -> Accepts:
    """Loss at most so much above the original's, and nearer to the goal than the best so far."""
    if settings.goal == "accurate":
        return guarded(settings.folds_agreeing)
    cost = "latency" if settings.goal == "faster" else "size"

    def rule(candidate: Figures, best: Figures, base: Figures) -> bool:
        sound = candidate["predicted_classes"] >= min(2, base["predicted_classes"])
        return sound and candidate["kl"] <= threshold * base["loss"] and candidate[cost] < best[cost]

    return rule


def _worse(candidate: Figures, best: Figures, settings: SignificanceSettings) -> float:
    """By how many nats."""
    figure = "loss" if settings.goal == "accurate" else "kl"
    return candidate[figure] - best[figure]


def _blocks(shape: ModelShape, settings: SignificanceSettings, groups: int) -> list[_Block]:
    """In the goal's order, each kind from the last layer to the first."""
    layers = range(shape.layers - 1, -1, -1)
    attention = [
        _Block(
            {f"attention_block.{layer}": 0},
            tuple({f"head.{layer}.{head}": 0} for head in range(shape.heads)),
            _approximations(settings, f"{layer}.attention", {f"attention.{layer}": f"sign@{settings.k}"}),
        )
        for layer in layers
    ]
    ffn = [
        _Block(
            {f"ffn_block.{layer}": 0},
            tuple({f"group.{layer}.{group}": 0} for group in range(groups)),
            _approximations(settings, f"{layer}.ffn"),
        )
        for layer in layers
    ]
    return [*attention, *ffn] if settings.goal == "faster" else [*ffn, *attention]


def _approximations(settings: SignificanceSettings, block: str, *matching: Change) -> tuple[Change, ...]:
    """Fewer bits save bytes, fewer keys might save time; either may do for accuracy."""
    bits: Change = {f"bits.shift.{block}": _NARROWER}
    return {"faster": matching, "smaller": (bits,), "accurate": (bits, *matching)}[settings.goal]
