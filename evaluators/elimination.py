"""Ranking by elimination: the least important units go, the rest takes over, and what is left is judged anew.

Knows rounds and the order of units; knows no gradients, no axes and no runtimes.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from transformers import PreTrainedModel

from evaluators.anatomy import Anatomy
from evaluators.importance import fisher_importance
from evaluators.refit import Refit
from evaluators.tasks.base import Encoded
from evaluators.transforms.base import build
from evaluators.transforms.restore import changed, put_back
from spaces.axes.pruning import Importance, LayerUnits, Pruning
from spaces.shape import ModelShape

_FAINTEST = 1e-24  # figure per weight of units that do nothing
_NEXT = 1 + 1e-9  # a unit that goes later scores higher by at least this factor


def iterative_importance(
    model: PreTrainedModel,
    encoded: Encoded,
    *,
    rounds: int,
    group: int = 64,
    progress: Callable[[int, int], None] | None = None,
) -> Importance:
    """Figures whose ranking per weight is the order in which units went, an equal share of the weights in each round.

    Each round judges what earlier rounds left, refitted to stand in for what they took: of two units that do the same
    one goes, and then the other matters. A block's last head and last group of neurons wait until nothing else is left,
    because the block's bias goes with them.

    Args:
        model: a classifier; stays as it was.
        encoded: calibration rows with their labels.
        rounds: how often what is left is judged.
        group: neurons that go together, as in PruningAxis.
        progress: called with (rounds done, rounds in all) after each.
    """
    shape, refit = Anatomy.of(model).shape, Refit(model, encoded)
    whole = shape.layers * (shape.heads * shape.head_weights + shape.ffn * shape.neuron_weights)
    taken: list[_Unit] = []
    layers: tuple[float, ...] = ()
    for number in range(1, rounds + 1):
        left = _without(taken, shape)
        figures = fisher_importance(_refitted(model, left, refit) if taken else model, encoded, left=left)
        layers = layers or figures.layers
        gone = sum(unit.weights for unit in taken)
        for unit in _units(left, figures, shape, group):
            gone += unit.weights
            if gone > whole * number / rounds:
                break
            taken.append(unit)
        if progress is not None:
            progress(number, rounds)
    return _importance(taken, layers, shape)


def _refitted(model: PreTrainedModel, left: Pruning, refit: Refit) -> PreTrainedModel:
    """The original, whole, in which what is left stands in for what went."""
    student = refit(build(left, model), range(len(left.layers)))
    return put_back(model, changed(student, model, left), left)


@dataclass(frozen=True)
class _Unit:
    """A head, or a group of neurons, with its number of weights and its figure for each of them."""

    layer: int
    head: int | None
    neurons: tuple[int, ...]
    weights: int
    density: float


def _units(left: Pruning, figures: Importance, shape: ModelShape, group: int) -> list[_Unit]:
    """What is left, the next to go first; the most important unit of each block after all others."""
    blocks = [
        block
        for layer, kept in enumerate(left.layers)
        if kept is not None
        for block in (
            _heads(layer, kept.heads, figures.heads[layer], shape),
            _groups(layer, kept.neurons, figures.neurons[layer], shape, group),
        )
    ]
    entries = [(place == 0, unit.density, unit) for block in blocks for place, unit in enumerate(block)]
    return [unit for _, _, unit in sorted(entries, key=lambda entry: entry[:2])]


def _heads(layer: int, kept: Sequence[int], figures: Sequence[float], shape: ModelShape) -> list[_Unit]:
    """Most important first."""
    weights = shape.head_weights
    ranked = sorted(kept, key=figures.__getitem__, reverse=True)
    return [_Unit(layer, head, (), weights, figures[head] / weights) for head in ranked]


def _groups(layer: int, kept: Sequence[int], figures: Sequence[float], shape: ModelShape, size: int) -> list[_Unit]:
    """Most important first; the least important may be smaller."""
    ranked = sorted(kept, key=figures.__getitem__, reverse=True)
    groups = [tuple(ranked[start : start + size]) for start in range(0, len(ranked), size)]
    weights = [len(neurons) * shape.neuron_weights for neurons in groups]
    return [
        _Unit(layer, None, neurons, count, sum(figures[neuron] for neuron in neurons) / count)
        for neurons, count in zip(groups, weights, strict=True)
    ]


def _without(taken: Sequence[_Unit], shape: ModelShape) -> Pruning:
    heads = [set(range(shape.heads)) for _ in range(shape.layers)]
    neurons = [set(range(shape.ffn)) for _ in range(shape.layers)]
    for unit in taken:
        if unit.head is not None:
            heads[unit.layer].remove(unit.head)
        neurons[unit.layer].difference_update(unit.neurons)
    kept = zip(heads, neurons, strict=True)
    return Pruning(
        tuple(LayerUnits(tuple(sorted(of_heads)), tuple(sorted(of_neurons))) for of_heads, of_neurons in kept)
    )


def _importance(taken: Sequence[_Unit], layers: Sequence[float], shape: ModelShape) -> Importance:
    """Every unit's own figure at the time it went, raised where the one before it had more."""
    heads = [[0.0] * shape.heads for _ in range(shape.layers)]
    neurons = [[0.0] * shape.ffn for _ in range(shape.layers)]
    density = _FAINTEST
    for unit in taken:
        density = max(density * _NEXT, unit.density)
        if unit.head is not None:
            heads[unit.layer][unit.head] = density * unit.weights
        for neuron in unit.neurons:
            neurons[unit.layer][neuron] = density * unit.weights / len(unit.neurons)
    return Importance(tuple(map(tuple, heads)), tuple(map(tuple, neurons)), tuple(layers))
