"""The space that a user would write first: per block how many units stay and how wide they are, one knob each.

Knows shapes and importance; decodes to the same configs as the project's own encoding.
"""

from collections.abc import Mapping, Sequence

from spaces.axes.pruning import Importance, LayerUnits, Pruning
from spaces.axes.quantization import LayerBits, Quantization, forget_absent_parts
from spaces.knobs import Choice, Knob, Scalar
from spaces.shape import ModelShape
from spaces.space import Space

# Shares of a block's units, the most important ones.
SHARES = (1.0, 0.75, 0.5, 0.25, 0.0)


class FlatPruningAxis:
    """Knobs `heads.L` and `neurons.L`: shares that stay."""

    config = Pruning

    def __init__(self, shape: ModelShape, importance: Importance) -> None:
        self._shape = shape
        self._ranked = [
            (_ranking(importance.heads[layer]), _ranking(importance.neurons[layer])) for layer in range(shape.layers)
        ]
        names = [f"{part}.{layer}" for layer in range(shape.layers) for part in ("heads", "neurons")]
        self.knobs: Mapping[str, Knob] = dict.fromkeys(names, Choice(SHARES))

    def decode(self, knobs: Mapping[str, Scalar]) -> Pruning:
        """What stays of every layer; a layer without both blocks stays as its norms."""
        layers = []
        for layer, (heads, neurons) in enumerate(self._ranked):
            left = [
                tuple(sorted(ranked[: round(float(knobs[f"{part}.{layer}"]) * len(ranked))]))
                for part, ranked in (("heads", heads), ("neurons", neurons))
            ]
            layers.append(LayerUnits(*left))
        return Pruning(tuple(layers))

    def ladder(self) -> list[dict[str, Scalar]]:
        """Uniform shares."""
        return [dict.fromkeys(self.knobs, share) for share in SHARES[:-1]]

    def neutral(self) -> dict[str, Scalar]:
        return dict.fromkeys(self.knobs, SHARES[0])

    def extremes(self) -> dict[str, dict[str, Scalar]]:
        return {"whole": self.neutral(), "smallest": dict.fromkeys(self.knobs, SHARES[-1])}


class FlatBitsAxis:
    """Knobs `bits.L.attention`, `bits.L.ffn`, `bits.embeddings`, `bits.head`."""

    config = Quantization

    def __init__(self, shape: ModelShape, bits: Sequence[int]) -> None:
        self._shape = shape
        self._bits = tuple(sorted(bits, reverse=True))
        blocks = [f"bits.{layer}.{block}" for layer in range(shape.layers) for block in ("attention", "ffn")]
        self.knobs: Mapping[str, Knob] = dict.fromkeys([*blocks, "bits.embeddings", "bits.head"], Choice(self._bits))

    def decode(self, knobs: Mapping[str, Scalar]) -> Quantization:
        layers = tuple(
            LayerBits(int(knobs[f"bits.{layer}.attention"]), int(knobs[f"bits.{layer}.ffn"]))
            for layer in range(self._shape.layers)
        )
        return Quantization(layers, int(knobs["bits.embeddings"]), int(knobs["bits.head"]))

    def ladder(self) -> list[dict[str, Scalar]]:
        return [dict.fromkeys(self.knobs, width) for width in self._bits]

    def neutral(self) -> dict[str, Scalar]:
        return dict.fromkeys(self.knobs, self._bits[0])

    def extremes(self) -> dict[str, dict[str, Scalar]]:
        return {"whole": self.neutral(), "smallest": dict.fromkeys(self.knobs, self._bits[-1])}


def flat_space(shape: ModelShape, importance: Importance, bits: Sequence[int]) -> Space:
    """Both axes."""
    return Space([FlatPruningAxis(shape, importance), FlatBitsAxis(shape, bits)], [forget_absent_parts])


def _ranking(scores: Sequence[float]) -> list[int]:
    return sorted(range(len(scores)), key=lambda unit: (-scores[unit], unit))
