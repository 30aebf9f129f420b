"""Quantization: the width of each part's weights. Knows widths; knows nothing of how a runtime executes them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from spaces.axes.pruning import Pruning
from spaces.design import Config
from spaces.knobs import Choice, Knob, Scalar
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


class QuantizationAxis:
    """One width per layer and block, one for the embeddings, one for the head.

    Args:
        shape: the model's sizes.
        bits: widths that the runtime really executes.
        embeddings: widths of the tables; those of `bits` if None.
    """

    config = Quantization

    def __init__(self, shape: ModelShape, bits: Sequence[int], embeddings: Sequence[int] | None = None) -> None:
        self._shape = shape
        self._bits = tuple(bits)
        self._embeddings = tuple(embeddings if embeddings is not None else bits)
        parts = [f"bits.{layer}.{part}" for layer in range(shape.layers) for part in ("attention", "ffn")]
        self.knobs: Mapping[str, Knob] = {
            **{name: Choice(self._bits) for name in (*parts, "bits.head")},
            "bits.embeddings": Choice(self._embeddings),
        }

    def decode(self, knobs: Mapping[str, Scalar]) -> Quantization:
        """The widths; knobs that are absent take the widest."""

        def width(name: str, widths: Sequence[int]) -> int:
            return int(knobs.get(name, max(widths)))

        layers = tuple(
            LayerBits(width(f"bits.{layer}.attention", self._bits), width(f"bits.{layer}.ffn", self._bits))
            for layer in range(self._shape.layers)
        )
        return Quantization(layers, width("bits.embeddings", self._embeddings), width("bits.head", self._bits))

    def ladder(self) -> list[dict[str, Scalar]]:
        """Uniform layers in every width, each with the widest table of that width or narrower."""
        rungs: list[dict[str, Scalar]] = []
        for bits in sorted(self._bits, reverse=True):
            tables = (
                sorted({self._table(bits), min(self._embeddings)}, reverse=True)
                if bits < max(self._bits)
                else [self._table(bits)]
            )
            rungs += [self._uniform(bits, table) for table in tables]
        return rungs

    def neutral(self) -> dict[str, Scalar]:
        """The knobs of the identity."""
        return self._uniform(max(self._bits), max(self._embeddings))

    def extremes(self) -> dict[str, dict[str, Scalar]]:
        """The designs at the ends of the axis, by name."""
        return {"whole": self.neutral(), "smallest": self._uniform(min(self._bits), min(self._embeddings))}

    def _table(self, bits: int) -> int:
        fitting = [width for width in self._embeddings if width <= bits]
        return max(fitting) if fitting else min(self._embeddings)

    def _uniform(self, bits: int, table: int) -> dict[str, Scalar]:
        return {name: table if name == "bits.embeddings" else bits for name in self.knobs}


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
