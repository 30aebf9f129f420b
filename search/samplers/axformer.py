"""AxFormer: which attention layers turn hard, which blocks, heads and neurons go (arXiv 2010.03688v2).

Knows the published walk and its rule; knows nothing of models. Its authors' code has defects that are mended here by
default: a step counts only where it also helps in most of five parts of the rows, models that predict one class only
are refused, and hard attention that would keep every key of every row is not offered. The mean is over examples, never
over batches. `literal` is the published rule alone. A block whose last head goes is gone with its bias, which the
authors' code keeps.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from evaluators.base import ROUNDING
from search.samplers.greedy import Accepts, Change, Greedy
from search.samplers.walk import Figures, Walk
from spaces.design import Design
from spaces.shape import ModelShape

# Begins the names of the mean losses of parts of the rows.
_PART = "loss."


@dataclass(frozen=True)
class AxformerSettings:
    """The walk's constants; defaults as published.

    Args:
        k: keys that hard attention keeps.
        tolerance: a block's parts are tried where the loss without the block is below this many times the best.
        folds_agreeing: of five parts of the rows, in so many a step must lower the loss.
        collapse: whether models that predict one class only are refused.
        length: whether hard attention is left out where it keeps every key of every row.
        literal: the published rule, without these guards.
    """

    k: int = 30
    tolerance: float = 1.1
    folds_agreeing: int = 4
    collapse: bool = True
    length: bool = True
    literal: bool = False


def accepts(candidate: Figures, best: Figures, base: Figures) -> bool:
    """The published rule: mean loss strictly below the best, and more than half of the rows no worse than at first.

    A step that changes nothing is not strictly below, whatever rounding says.
    """
    return candidate["loss"] < best["loss"] - ROUNDING and candidate["unharmed"] > candidate["rows"] // 2


def guarded(folds_agreeing: int, collapse: bool = True) -> Accepts:
    """The published rule where most parts of the rows agree and, with `collapse`, more than one class is predicted."""

    def rule(candidate: Figures, best: Figures, base: Figures) -> bool:
        collapsed = collapse and candidate["predicted_classes"] < 2 <= base["predicted_classes"]
        lower = sum(loss < best[name] for name, loss in candidate.items() if name.startswith(_PART))
        return accepts(candidate, best, base) and not collapsed and lower >= folds_agreeing

    return rule


def walk(
    start: Design,
    shape: ModelShape,
    settings: AxformerSettings,
    groups: int,
    longest: int,
    afterwards: Sequence[Change] = (),
) -> Walk:
    """Phase A, hard attention from the first layer to the last; phase B, pruning from the last to the first.

    Args:
        start: the original in the encoding of UnitPruningAxis and AttentionAxis.
        shape: the model's sizes.
        settings: constants.
        groups: of neurons in each FFN.
        longest: tokens of the longest row.
        afterwards: changes, such as fewer bits, under which the outcome is looked at; they decide nothing.
    """
    rule = accepts if settings.literal else guarded(settings.folds_agreeing, settings.collapse)
    greedy = Greedy(start)
    if not (yield from greedy.begin()):
        return greedy.design
    if settings.literal or not settings.length or settings.k < longest:
        for layer in range(shape.layers):
            yield from greedy.offer({f"attention.{layer}": f"hard@{settings.k}"}, rule)
    for layer in reversed(range(shape.layers)):
        neurons = [f"group.{layer}.{group}" for group in range(groups)]
        heads = [f"head.{layer}.{head}" for head in range(shape.heads)]
        for block, parts in ((f"ffn_block.{layer}", neurons), (f"attention_block.{layer}", heads)):
            gone, without = yield from greedy.offer({block: 0}, rule)
            if not gone and without.get("loss", float("inf")) < settings.tolerance * greedy.best["loss"]:
                for part in parts:
                    yield from greedy.offer({part: 0}, rule)
    for change in afterwards:
        yield Design({**greedy.design, **change})
    return greedy.design
