"""Quantization: the width of each part's weights. Knows widths; knows nothing of how a runtime executes them."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from spaces.axes.pruning import Pruning
from spaces.design import Config
from spaces.knobs import Choice, FloatRange, Knob, Scalar
from spaces.shape import ModelShape


@dataclass(frozen=True)
class LayerBits:
    """Widths of one layer's two blocks; None where the block is gone."""

    attention: int | None
    ffn: int | None


@dataclass(frozen=True)
class Quantization:
    """Width in bits of every part.

    Args:
        layers: one entry per layer of the original, None where the layer is gone.
        embeddings: word and position tables.
        head: pooler and classifier.
    """

    layers: tuple[LayerBits | None, ...]
    embeddings: int = 32
    head: int = 32

    family: ClassVar[str] = "quantization"

    @classmethod
    def uniform(cls, shape: ModelShape, bits: int = 32) -> Self:
        """The same width everywhere."""
        return cls((LayerBits(bits, bits),) * shape.layers, bits, bits)

    @property
    def used(self) -> frozenset[int]:
        """The widths that some part has."""
        blocks = {width for bits in self.layers if bits is not None for width in (bits.attention, bits.ffn)}
        return frozenset(width for width in (self.embeddings, self.head, *blocks) if width is not None)

    def to_decoded(self) -> dict[str, Any]:
        return {
            "layers": [
                None if bits is None else {"bits": {"attention": bits.attention, "ffn": bits.ffn}}
                for bits in self.layers
            ],
            "embeddings": {"bits": self.embeddings},
            "head": {"bits": self.head},
        }

    @classmethod
    def from_decoded(cls, decoded: Mapping[str, Any]) -> Self:
        layers = tuple(None if layer is None else LayerBits(**layer["bits"]) for layer in decoded["layers"])
        return cls(layers, decoded["embeddings"]["bits"], decoded["head"]["bits"])


# A block's shift must go beyond this to leave the level: most blocks of a random design share one width, because mixed
# widths everywhere are slower and larger than their accuracy is worth.
_LEAVES_LEVEL = 0.75


class QuantizationAxis:
    """A width for most blocks, shifts for those that need another, and widths for the tables and the head.

    Knobs: `bits.level`, `bits.shift.L.attention`, `bits.shift.L.ffn` (above 0.75: one width wider, below -0.75: one
    narrower), `bits.embeddings`, `bits.head`. Level and shifts reach every mix of neighbouring widths.

    Args:
        shape: the model's sizes.
        bits: widths that the runtime really executes.
        embeddings: widths of the tables; those of `bits` if None.
        sensitive: parts that few bits hurt (`0.attention`, `0.ffn`, ..., `embeddings`, `head`): on every rung of the
            ladder one width wider.
    """

    config = Quantization

    def __init__(
        self,
        shape: ModelShape,
        bits: Sequence[int],
        embeddings: Sequence[int] | None = None,
        sensitive: Collection[str] = (),
    ) -> None:
        self._shape = shape
        self._bits = tuple(sorted(bits, reverse=True))
        self._embeddings = tuple(sorted(embeddings if embeddings is not None else bits, reverse=True))
        self._sensitive = frozenset(sensitive)
        parts = [f"bits.shift.{layer}.{part}" for layer in range(shape.layers) for part in ("attention", "ffn")]
        self.knobs: Mapping[str, Knob] = {
            "bits.level": Choice(self._bits),
            **({name: FloatRange(-1.0, 1.0, step=0.125) for name in parts} if len(self._bits) > 1 else {}),
            "bits.embeddings": Choice(self._embeddings),
            "bits.head": Choice(self._bits),
        }

    def decode(self, knobs: Mapping[str, Scalar]) -> Quantization:
        """The widths; knobs that are absent take the widest, or no shift."""
        level = self._bits.index(int(knobs.get("bits.level", self._bits[0])))

        def width(layer: int, part: str) -> int:
            shift = float(knobs.get(f"bits.shift.{layer}.{part}", 0.0))
            steps = (shift < -_LEAVES_LEVEL) - (shift > _LEAVES_LEVEL)
            return self._bits[min(max(level + steps, 0), len(self._bits) - 1)]

        layers = tuple(LayerBits(width(layer, "attention"), width(layer, "ffn")) for layer in range(self._shape.layers))
        embeddings = int(knobs.get("bits.embeddings", self._embeddings[0]))
        return Quantization(layers, embeddings, int(knobs.get("bits.head", self._bits[0])))

    def ladder(self) -> list[dict[str, Scalar]]:
        """Every level but the widest, with the widest and the narrowest table no wider; sensitive parts are spared."""
        levels = self._bits[1:] or self._bits
        rungs = [(bits, table) for bits in levels for table in dict.fromkeys((self._table(bits), self._embeddings[-1]))]
        return [self._sparing(self._uniform(bits, table)) for bits, table in rungs]

    def neutral(self) -> dict[str, Scalar]:
        """The knobs of the widest design."""
        return self._uniform(self._bits[0], self._embeddings[0])

    def extremes(self) -> dict[str, dict[str, Scalar]]:
        """The designs at the ends of the axis, by name."""
        return {"whole": self.neutral(), "smallest": self._uniform(self._bits[-1], self._embeddings[-1])}

    def parts(self, config: Quantization) -> tuple[str, ...]:
        """Blocks that could be a width narrower, such as `3.ffn`."""
        widths = {
            f"{layer}.{part}": getattr(bits, part)
            for layer, bits in enumerate(config.layers)
            if bits is not None
            for part in ("attention", "ffn")
        }
        return tuple(part for part, bits in widths.items() if bits is not None and bits > self._bits[-1])

    def narrow(self, config: Quantization, parts: Collection[str]) -> Quantization:
        """The same with each of `parts` a width narrower."""

        def width(layer: int, part: str, bits: int | None) -> int | None:
            return self._bits[self._bits.index(bits) + 1] if bits is not None and f"{layer}.{part}" in parts else bits

        layers = tuple(
            None
            if bits is None
            else LayerBits(width(layer, "attention", bits.attention), width(layer, "ffn", bits.ffn))
            for layer, bits in enumerate(config.layers)
        )
        return Quantization(layers, config.embeddings, config.head)

    def _table(self, bits: int) -> int:
        return next((width for width in self._embeddings if width <= bits), self._embeddings[-1])

    def _uniform(self, bits: int, table: int) -> dict[str, Scalar]:
        widths: dict[str, Scalar] = {"bits.level": bits, "bits.embeddings": table, "bits.head": bits}
        return {name: widths.get(name, 0.0) for name in self.knobs}

    def _sparing(self, rung: dict[str, Scalar]) -> dict[str, Scalar]:
        """The rung with its sensitive parts one width wider."""
        spared: dict[str, Scalar] = {}
        for part in self._sensitive:
            if part in ("embeddings", "head"):
                widths, name = (self._embeddings if part == "embeddings" else self._bits), f"bits.{part}"
                spared[name] = widths[max(0, widths.index(int(rung[name])) - 1)]
            else:
                spared[f"bits.shift.{part}"] = 1.0
        return {name: spared.get(name, value) for name, value in rung.items()}


def forget_absent_parts(configs: tuple[Config, ...]) -> tuple[Config, ...]:
    """A rule of spaces with pruning: the width of a block that is gone is not a choice."""
    pruning = next((config for config in configs if isinstance(config, Pruning)), None)
    if pruning is None:
        return configs

    def bits_left(config: Config) -> Config:
        if not isinstance(config, Quantization):
            return config
        layers = tuple(
            None
            if units is None or bits is None
            else LayerBits(bits.attention if units.heads else None, bits.ffn if units.neurons else None)
            for units, bits in zip(pruning.layers, config.layers, strict=True)
        )
        return Quantization(layers, config.embeddings, config.head)

    return tuple(bits_left(config) for config in configs)
