"""Attention kinds: which keys each layer's queries attend to. Knows kinds and counts; knows no arithmetic.

`hard` keeps the k largest probabilities of each query and head and zeroes the rest, without renormalising (AxFormer,
arXiv 2010.03688v2); all that equal the k-th stay. `sign` lets each query attend to the k keys whose signs match most of
its own, the earlier one of two that match as well, and to those exactly (approximate computing by significance
analysis, arXiv 2010.03688v1). Both are `soft` where a row has no more than k keys.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from spaces.axes.pruning import LayerUnits, Pruning
from spaces.design import Config
from spaces.knobs import Choice, Knob, Scalar
from spaces.shape import ModelShape

SOFT, HARD, SIGN = "soft", "hard", "sign"
NONE = "none"  # of a layer whose attention block is gone


@dataclass(frozen=True)
class AttentionKind:
    """What one layer does: a kind, and how many keys a query keeps; None where it keeps all."""

    name: str
    k: int | None = None

    def __str__(self) -> str:
        return self.name if self.k is None else f"{self.name}@{self.k}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """What `str` wrote."""
        name, _, k = text.partition("@")
        return cls(name, int(k) if k else None)


@dataclass(frozen=True)
class Attention:
    """The kind of every layer.

    Args:
        layers: one entry per layer of the original, None where the layer is gone.
    """

    layers: tuple[AttentionKind | None, ...]

    family: ClassVar[str] = "attention"

    @classmethod
    def soft(cls, shape: ModelShape) -> Self:
        """As the original attends."""
        return cls((AttentionKind(SOFT),) * shape.layers)

    def to_decoded(self) -> dict[str, Any]:
        """Says nothing of layers that attend softly, so that a model is one member with and without this family."""
        return {"layers": [None if kind is None else _decoded(kind) for kind in self.layers]}

    @classmethod
    def from_decoded(cls, decoded: Mapping[str, Any]) -> Self:
        """Soft where nothing is said, but for layers without heads."""
        return cls(tuple(None if layer is None else _kind(layer) for layer in decoded["layers"]))


def _decoded(kind: AttentionKind) -> dict[str, Any]:
    return {} if kind.name in (SOFT, NONE) else {"attention": str(kind)}


def _kind(layer: Mapping[str, Any]) -> AttentionKind:
    return AttentionKind.parse(layer.get("attention", SOFT if layer.get("heads", True) else NONE))


class AttentionAxis:
    """A kind for each layer: the knobs `attention.L`.

    Args:
        shape: the model's sizes.
        options: kinds beside soft, as `str` writes them; at least one.
    """

    config = Attention

    def __init__(self, shape: ModelShape, options: Sequence[str]) -> None:
        self._shape = shape
        self._options = tuple(options)
        self.knobs: Mapping[str, Knob] = {
            f"attention.{layer}": Choice((SOFT, *self._options)) for layer in range(shape.layers)
        }

    def decode(self, knobs: Mapping[str, Scalar]) -> Attention:
        """The kinds; soft where the knob is absent."""
        chosen = [str(knobs.get(f"attention.{layer}", SOFT)) for layer in range(self._shape.layers)]
        return Attention(tuple(map(AttentionKind.parse, chosen)))

    def ladder(self) -> list[dict[str, Scalar]]:
        """Every kind in all layers."""
        return [dict.fromkeys(self.knobs, option) for option in (SOFT, *self._options)]

    def neutral(self) -> dict[str, Scalar]:
        """The knobs of the original."""
        return dict.fromkeys(self.knobs, SOFT)

    def extremes(self) -> dict[str, dict[str, Scalar]]:
        """The original twice: no kind makes a model smaller."""
        return {"whole": self.neutral(), "smallest": self.neutral()}


def forget_absent_attention(configs: tuple[Config, ...]) -> tuple[Config, ...]:
    """A rule of spaces with pruning: the kind of an attention block that is gone is not a choice."""
    pruning = next((config for config in configs if isinstance(config, Pruning)), None)
    if pruning is None:
        return configs

    def kind_left(units: LayerUnits | None, kind: AttentionKind | None) -> AttentionKind | None:
        if units is None or kind is None:
            return None
        return kind if units.heads else AttentionKind(NONE)

    def kinds_left(config: Config) -> Config:
        if not isinstance(config, Attention):
            return config
        return Attention(tuple(kind_left(*both) for both in zip(pruning.layers, config.layers, strict=True)))

    return tuple(kinds_left(config) for config in configs)
