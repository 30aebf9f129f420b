"""Pruning: which layers, heads and neurons stay. Knows rankings and shapes; knows no tensors."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import compress
from typing import Any, ClassVar, Self

from spaces.knobs import Choice, FloatRange, IntRange, Knob, Scalar
from spaces.shape import ModelShape


@dataclass(frozen=True)
class LayerUnits:
    """What stays of one layer.

    Args:
        heads: indices of the heads that stay, ascending; empty: the attention block is the identity.
        neurons: indices of the FFN neurons that stay, ascending; empty: the FFN block is the identity.

    A block that is gone leaves the residual stream alone and keeps its layer norm; its output bias goes with it.
    """

    heads: tuple[int, ...]
    neurons: tuple[int, ...]


@dataclass(frozen=True)
class Pruning:
    """What stays of a model: one entry per layer of the original, None where the whole layer is gone."""

    layers: tuple[LayerUnits | None, ...]

    family: ClassVar[str] = "pruning"

    @classmethod
    def identity(cls, shape: ModelShape) -> Self:
        """Nothing removed."""
        whole = LayerUnits(tuple(range(shape.heads)), tuple(range(shape.ffn)))
        return cls((whole,) * shape.layers)

    @property
    def kept_layers(self) -> tuple[int, ...]:
        """Indices of the layers that stay, at least in part."""
        return tuple(index for index, units in enumerate(self.layers) if units is not None)

    def to_decoded(self) -> dict[str, Any]:
        """Heads by index, neurons as a count and, for the record, a hexadecimal bit mask (bit i: neuron i stays)."""
        return {
            "layers": [
                None
                if units is None
                else {"heads": list(units.heads), "ffn": len(units.neurons), "ffn_mask": _to_mask(units.neurons)}
                for units in self.layers
            ]
        }

    @classmethod
    def from_decoded(cls, decoded: Mapping[str, Any]) -> Self:
        return cls(
            tuple(
                None if layer is None else LayerUnits(tuple(layer["heads"]), _from_mask(layer["ffn_mask"]))
                for layer in decoded["layers"]
            )
        )


def _to_mask(indices: Sequence[int]) -> str:
    digits, one = bytearray(b"0") * (max(indices, default=0) + 1), ord("1")
    for index in indices:
        digits[~index] = one
    return format(int(digits, 2), "x")


def _from_mask(mask: str) -> tuple[int, ...]:
    bits = int(mask, 16)
    return tuple(index for index in range(bits.bit_length()) if bits >> index & 1)


@dataclass(frozen=True)
class UnitCosts:
    """Latency of one unit in ms at the target, all else equal (from the latency model).

    Args:
        head, neuron: in any layer but the last that stays.
        last_head, last_neuron: in the last one, of which a classifier may need one token only; the same if None.
    """

    head: float
    neuron: float
    last_head: float | None = None
    last_neuron: float | None = None

    def of_head(self, last: bool) -> float:
        return self.last_head if last and self.last_head is not None else self.head

    def of_neuron(self, last: bool) -> float:
        return self.last_neuron if last and self.last_neuron is not None else self.neuron


@dataclass(frozen=True)
class Importance:
    """How much the loss suffers when a unit goes (diagonal Fisher information), in arbitrary common units.

    Args:
        heads: per layer, one figure per head.
        neurons: per layer, one figure per FFN neuron.
        layers: one figure per whole layer.
    """

    heads: tuple[tuple[float, ...], ...]
    neurons: tuple[tuple[float, ...], ...]
    layers: tuple[float, ...]

    @classmethod
    def equal(cls, shape: ModelShape) -> Self:
        """Of units that nobody ranked."""
        heads, neurons = (1.0,) * shape.heads, (1.0,) * shape.ffn
        return cls((heads,) * shape.layers, (neurons,) * shape.layers, (1.0,) * shape.layers)

    def groups(self, layer: int, size: int) -> tuple[tuple[int, ...], ...]:
        """Neurons of a layer in groups of `size`, most important group first."""
        scores = self.neurons[layer]
        ranked = sorted(range(len(scores)), key=lambda neuron: (-scores[neuron], neuron))
        return tuple(tuple(ranked[start : start + size]) for start in range(0, len(ranked), size))


@dataclass(frozen=True)
class _Unit:
    layer: int
    head: int | None  # a head's index, or None for a group of neurons
    neurons: tuple[int, ...]
    importance: float

    @property
    def place(self) -> tuple[int, bool, int, tuple[int, ...]]:
        """Decides between units of equal score."""
        return self.layer, self.head is None, self.head or 0, self.neurons

    def cost(self, costs: UnitCosts, last: bool) -> float:
        """Latency in ms."""
        return costs.of_neuron(last) * len(self.neurons) if self.head is None else costs.of_head(last)


# What importance is divided by before units are ranked.
PER = ("ms", "byte")


class PruningAxis:
    """A cut on one global ranking of importance per millisecond or byte, a shift per layer, and a depth.

    Knobs: `prune.cut` (share of the units' cost removed), `prune.per` (what cost is: latency, `ms`, or weights, `byte`;
    what makes a model fast need not make it small), `prune.shift.L` (added to the log importance of layer L's units
    before ranking) and `prune.depth` (how many layers stay; the least important go first).

    Args:
        shape: the model's sizes.
        importance: rankings from the calibration split.
        costs: latency of one head and one neuron.
        ffn_group: neurons that go together, a size the hardware likes.
        blocks: whether whole blocks and layers may go.
        heads: whether heads may go.
        ffn: whether neurons may go.
    """

    config = Pruning

    def __init__(
        self,
        shape: ModelShape,
        importance: Importance,
        costs: UnitCosts,
        *,
        ffn_group: int = 64,
        blocks: bool = True,
        heads: bool = True,
        ffn: bool = True,
    ) -> None:
        self._shape = shape
        self._blocks = blocks
        self._costs = costs
        self._units = _units(shape, importance, ffn_group, heads, ffn)
        self._prices: dict[tuple[int, bool, str], list[tuple[_Unit, float, float]]] = {}
        self._layer_order = sorted(range(shape.layers), key=lambda layer: (-importance.layers[layer], layer))
        self.knobs: Mapping[str, Knob] = {
            **({"prune.cut": FloatRange(0.0, 0.9, step=0.01), "prune.per": Choice(PER)} if heads or ffn else {}),
            **(
                {f"prune.shift.{layer}": FloatRange(-3.0, 3.0, step=0.25) for layer in range(shape.layers)}
                if heads or ffn
                else {}
            ),
            **({"prune.depth": IntRange(1, shape.layers)} if blocks and shape.layers > 1 else {}),
        }

    def decode(self, knobs: Mapping[str, Scalar]) -> Pruning:
        """The units that stay; knobs that are absent take their neutral value."""
        depth = int(knobs.get("prune.depth", self._shape.layers))
        staying = set(self._layer_order[:depth])
        shift = {layer: float(knobs.get(f"prune.shift.{layer}", 0.0)) for layer in staying}
        ranked = self._ranked(staying, shift, str(knobs.get("prune.per", PER[0])))
        budget = float(knobs.get("prune.cut", 0.0)) * sum(cost for _, cost in ranked)
        gone, spent = [], 0.0
        for unit, cost in ranked:
            if spent + cost > budget + 1e-12:
                break
            gone.append(unit)
            spent += cost
        return self._without(gone, staying)

    def _ranked(self, staying: set[int], shift: Mapping[int, float], per: str) -> list[tuple[_Unit, float]]:
        """Units of the staying layers with their cost, least important for it first."""
        last = max(staying)
        priced = [pair for layer in sorted(staying) for pair in self._priced(layer, layer == last, per)]
        scores = [ratio + shift[unit.layer] for unit, _, ratio in priced]
        order = sorted(range(len(priced)), key=scores.__getitem__)  # of equal ones in the order of their places
        return [priced[index][:2] for index in order]

    def _priced(self, layer: int, last: bool, per: str) -> list[tuple[_Unit, float, float]]:
        """A layer's units in the order of their places, each with its cost and the log of importance per cost."""
        key = layer, last, per
        if key not in self._prices:
            costs = [(unit, self._cost(unit, last, per)) for unit in self._units if unit.layer == layer]
            costs.sort(key=lambda pair: pair[0].place)
            self._prices[key] = [(unit, cost, _log_ratio(unit.importance, cost)) for unit, cost in costs]
        return self._prices[key]

    def _cost(self, unit: _Unit, last: bool, per: str) -> float:
        """Milliseconds, or weights: of a head its columns of four projections, of a neuron those of two."""
        if per == "byte":
            shape = self._shape
            return shape.head_weights if unit.head is not None else len(unit.neurons) * shape.neuron_weights
        return unit.cost(self._costs, last)

    def ladder(self) -> list[dict[str, Scalar]]:
        """Evenly spread cuts without shifts, for speed and for size, then depths down to half."""
        cuts = {"ms": (0.0, 0.2, 0.3, 0.4, 0.55, 0.75), "byte": (0.2, 0.35, 0.5)} if "prune.cut" in self.knobs else {}
        rungs: list[dict[str, Scalar]] = [{"prune.cut": cut, "prune.per": per} for per in cuts for cut in cuts[per]]
        shallowest = max(1, self._shape.layers // 2)
        depths = range(self._shape.layers - 1, shallowest - 1, -1) if "prune.depth" in self.knobs else ()
        shallower: list[dict[str, Scalar]] = [{"prune.depth": depth} for depth in depths]
        return (rungs or [{}]) + shallower

    def neutral(self) -> dict[str, Scalar]:
        """The knobs of the identity."""
        return self._with(cut=0.0, depth=self._shape.layers)

    def extremes(self) -> dict[str, dict[str, Scalar]]:
        """The designs at the ends of the axis, by name."""
        return {"whole": self.neutral(), "smallest": self._with(cut=0.9, depth=1)}

    def _with(self, cut: float, depth: int) -> dict[str, Scalar]:
        values: dict[str, Scalar] = {"prune.cut": cut, "prune.per": PER[0], "prune.depth": depth}
        return {name: values.get(name, 0.0) for name in self.knobs}

    def _without(self, gone: Sequence[_Unit], staying: set[int]) -> Pruning:
        """What stays once `gone` went in its order; the last unit of a block stays if blocks may not go."""
        left = {layer: (_Block(self._shape.heads), _Block(self._shape.ffn)) for layer in staying}
        for unit in gone:
            heads, neurons = left[unit.layer]
            if unit.head is not None:
                heads.lose((unit.head,), whole=self._blocks)
            else:
                neurons.lose(unit.neurons, whole=self._blocks)
        return Pruning(
            tuple(
                LayerUnits(*(block.left for block in left[layer])) if layer in staying else None
                for layer in range(self._shape.layers)
            )
        )


class _Block:
    """Which of so many units stay."""

    def __init__(self, count: int) -> None:
        self._stays = bytearray(b"\1") * count
        self._count = count

    def lose(self, units: Sequence[int], *, whole: bool) -> None:
        """Without `units`, which it still has; unless they are the last and the whole block must not go."""
        if whole or self._count > len(units):
            self._count -= len(units)
            for unit in units:
                self._stays[unit] = 0

    @property
    def left(self) -> tuple[int, ...]:
        return tuple(compress(range(len(self._stays)), self._stays))


def _units(shape: ModelShape, importance: Importance, group: int, heads: bool, ffn: bool) -> list[_Unit]:
    units = []
    for layer in range(shape.layers):
        units += [_Unit(layer, head, (), importance.heads[layer][head]) for head in range(shape.heads if heads else 0)]
        for neurons in importance.groups(layer, group) if ffn else ():
            units.append(_Unit(layer, None, neurons, sum(importance.neurons[layer][n] for n in neurons)))
    return units


def _log_ratio(importance: float, cost: float) -> float:
    return math.log(max(importance, 1e-30) / max(cost, 1e-12))


class UnitPruningAxis:
    """One 0/1 knob per unit: `layer.L`, `attention_block.L`, `head.L.H`, `ffn_block.L`, `group.L.G` (of neurons).

    Used by recipes that walk the units one by one, in a study of their own. Decodes to the same config as PruningAxis.

    Args:
        shape: the model's sizes.
        groups: per layer, the groups of neurons that go together.
    """

    config = Pruning

    def __init__(self, shape: ModelShape, groups: Sequence[Sequence[Sequence[int]]]) -> None:
        self._shape = shape
        self._groups = groups
        self.knobs: Mapping[str, Knob] = {name: Choice((0, 1)) for name in self._names()}

    def _names(self) -> list[str]:
        names = []
        for layer in range(self._shape.layers):
            names += [f"layer.{layer}", f"attention_block.{layer}", f"ffn_block.{layer}"]
            names += [f"head.{layer}.{head}" for head in range(self._shape.heads)]
            names += [f"group.{layer}.{group}" for group in range(len(self._groups[layer]))]
        return names

    def decode(self, knobs: Mapping[str, Scalar]) -> Pruning:
        """Units whose knob, block knob and layer knob are all 1 stay; absent knobs count as 1."""
        layers: list[LayerUnits | None] = []
        for layer, groups in enumerate(self._groups):
            heads = [head for head in range(self._shape.heads) if knobs.get(f"head.{layer}.{head}", 1)]
            neurons = sorted(n for g, group in enumerate(groups) if knobs.get(f"group.{layer}.{g}", 1) for n in group)
            units = LayerUnits(
                tuple(heads) if knobs.get(f"attention_block.{layer}", 1) else (),
                tuple(neurons) if knobs.get(f"ffn_block.{layer}", 1) else (),
            )
            layers.append(units if knobs.get(f"layer.{layer}", 1) else None)
        return Pruning(tuple(layers))

    def ladder(self) -> list[dict[str, Scalar]]:
        """The identity alone: a walk starts there."""
        return [{}]

    def neutral(self) -> dict[str, Scalar]:
        return dict.fromkeys(self.knobs, 1)

    def extremes(self) -> dict[str, dict[str, Scalar]]:
        nothing = {name: 0 if name.startswith(("attention_block", "ffn_block")) else 1 for name in self.knobs}
        return {"whole": self.neutral(), "smallest": dict(nothing)}
