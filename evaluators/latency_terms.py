"""What a member's latency is the sum of. Knows configs and how coefficients are fitted; knows no clock and no runtime.

Latencies of blocks add up (within 5 %), so the ratio to the original is linear in counts: per width, the attention
blocks and their heads, the FFN blocks and their neurons; layers that stay (their norms run even where both blocks are
gone); heads that attend in another kind than softly; the widths of embeddings and head; a constant. Two things do not
add up and have terms of their own: weights push each other out of the caches, and a runtime may leave out what the head
does not read, which is most of the last layer where the head reads the first token alone. Where rows are compressed,
part of the costs goes with the tokens that go: of layers, of weights by width, and of pairs of tokens.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from spaces.axes.attention import Attention
from spaces.axes.compression import WHOLE, Compression, compression
from spaces.axes.pruning import Pruning
from spaces.axes.quantization import Quantization
from spaces.design import Member
from spaces.errors import DesignError
from spaces.shape import ModelShape

Vector: TypeAlias = NDArray[np.float64]

# Keeps coefficients of terms that the probes hardly vary near zero; far below the noise of a timing.
_RIDGE = 1e-3
_FOLDS = 5
GONE = "gone tokens"
# Keys and values are of all tokens, queries and outputs of the first alone: half of the four products are left.
SHARE_OF_LAST_ATTENTION = 0.5


@dataclass(frozen=True)
class Shortened:
    """What compression at one level leaves of the rows that are timed.

    Args:
        level: as designs name it.
        tokens: share of the tokens that stay.
        pairs: share of the pairs of tokens of one row.
    """

    level: float
    tokens: float
    pairs: float

    @classmethod
    def of(cls, level: float, calls: Sequence[Sequence[tuple[int, int]]]) -> "Shortened":
        """From each call's rows, (tokens, special ones among them) each; the longest row decides."""
        config = Compression(level)
        before = np.array([max(tokens for tokens, _ in rows) for rows in calls])
        after = np.array([max(config.kept(*row) for row in rows) for rows in calls])
        return cls(level, float(after.sum() / before.sum()), float((after**2).sum() / (before**2).sum()))


@dataclass(frozen=True)
class Terms:
    """The terms of the sum for one model in one runtime.

    Args:
        shape: the original's sizes; heads and neurons are counted in shares of a layer's.
        bits: widths that the runtime executes, widest first.
        first_token: whether, from the last attention block on, the runtime works on the first token alone.
        kinds: in which layers may attend, other than softly; for one query alone they cost nothing that shows.
        levels: at which rows may be compressed.
    """

    shape: ModelShape
    bits: tuple[int, ...]
    first_token: bool = False
    kinds: tuple[str, ...] = ()
    levels: tuple[Shortened, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """What each coefficient is the cost of, as a share of the original's latency."""
        parts = ("attention", "heads", "ffn", "neurons", *(["first token's neurons"] if self.first_token else []))
        blocks = [f"{part}@{width}" for width in self.bits for part in parts]
        ends = [f"{part}@{width}" for width in self.bits[1:] for part in ("embeddings", "head")]
        gone = [GONE, *(f"{GONE}@{width}" for width in self.bits), "gone pairs"]
        return (
            "constant",
            "layers",
            "crowding",
            *blocks,
            *ends,
            *self.kinds,
            *(["selecting", *gone] if self.levels else []),
        )

    def features(self, member: Member) -> Vector:
        """The factors of the coefficients, (terms,); from the member's configs alone."""
        pruning, quantization = member.config(Pruning), widths(member, self.shape)
        kinds, last = attention(member, self.shape).layers, self._last_attention(pruning)
        left = self._left(member)
        counts = dict.fromkeys(self.names, 0.0)
        counts["constant"] = 1.0
        for layer, (units, bits, kind) in enumerate(zip(pruning.layers, quantization.layers, kinds, strict=True)):
            if units is None or bits is None:
                continue
            counts["layers"] += 1
            if kind is not None and kind.k is not None and layer != last:
                counts[str(kind)] += left.pairs * len(units.heads) / self.shape.heads
            if units.heads:
                share = SHARE_OF_LAST_ATTENTION if layer == last else 1.0
                counts[f"attention@{bits.attention}"] += 1
                counts[f"heads@{bits.attention}"] += share * len(units.heads) / self.shape.heads
            if units.neurons:
                neurons = "neurons" if layer < last else "first token's neurons"
                counts[f"ffn@{bits.ffn}"] += 1
                counts[f"{neurons}@{bits.ffn}"] += len(units.neurons) / self.shape.ffn
        for part, width in (("embeddings", quantization.embeddings), ("head", quantization.head)):
            if width != self.bits[0]:
                counts[f"{part}@{width}"] += 1
        counts["crowding"] = self._crowding(pruning, quantization)
        if left.level != WHOLE:
            counts["selecting"] = 1.0
            self._subtract(counts, left, pruning, quantization)
        return np.array([counts[name] for name in self.names])

    def _left(self, member: Member) -> Shortened:
        """What the member reads of rows.

        Raises:
            DesignError: nobody timed its level.
        """
        level = compression(member).level
        known = {WHOLE: Shortened(WHOLE, 1.0, 1.0), **{each.level: each for each in self.levels}}
        if level not in known:
            raise DesignError(f"compression={level} is not among the timed levels {sorted(known)}. Take one of them.")
        return known[level]

    def _subtract(self, counts: dict[str, float], left: Shortened, pruning: Pruning, bits: Quantization) -> None:
        """What is not computed for tokens that are gone; from the last attention block on only the first token is."""
        shape, last, gone = self.shape, self._last_attention(pruning), 1 - left.tokens
        for layer, (units, width) in enumerate(zip(pruning.layers, bits.layers, strict=True)):
            if units is None or width is None or layer > last:
                continue
            heads = len(units.heads) / shape.heads
            if units.heads:
                share = SHARE_OF_LAST_ATTENTION if layer == last else 1.0
                products = share * shape.heads * shape.head_weights
                counts[f"{GONE}@{width.attention}"] -= gone * heads * products / self._layer_weights
            if layer == last:
                continue
            counts[GONE] -= gone
            counts["gone pairs"] -= (1 - left.pairs) * heads
            if units.neurons:
                weights = len(units.neurons) * shape.neuron_weights / self._layer_weights
                counts[f"{GONE}@{width.ffn}"] -= gone * weights

    @property
    def _layer_weights(self) -> int:
        return self.shape.heads * self.shape.head_weights + self.shape.ffn * self.shape.neuron_weights

    def _last_attention(self, pruning: Pruning) -> int:
        """The layer from which on only the first token matters; past the end if all tokens always do."""
        attending = [layer for layer, units in enumerate(pruning.layers) if units is not None and units.heads]
        return attending[-1] if self.first_token and attending else len(pruning.layers)

    def _crowding(self, pruning: Pruning, quantization: Quantization) -> float:
        """The share of the original's weights that stay, times the share of its bytes."""
        shape, weights, bytes_ = self.shape, 0, 0.0
        for units, bits in zip(pruning.layers, quantization.layers, strict=True):
            if units is not None and bits is not None:
                attention, ffn = 4 * len(units.heads) * shape.head_size, 2 * len(units.neurons)
                weights += attention + ffn
                bytes_ += (attention * (bits.attention or 0) + ffn * (bits.ffn or 0)) / self.bits[0]
        whole = shape.layers * (4 * shape.heads * shape.head_size + 2 * shape.ffn)
        return weights / whole * bytes_ / whole

    def error(self, factors: Vector, ratios: Vector) -> float:
        """Mean relative error on designs that a fit to the other folds predicts."""
        errors = [abs(factors[own] @ fit / ratios[own] - 1) for own, fit in self.folds(factors, ratios)]
        return float(np.mean(np.concatenate(errors)))

    def folds(self, factors: Vector, ratios: Vector) -> list[tuple[NDArray[np.intp], Vector]]:
        """Which designs are in each fold, and the coefficients fitted to all others."""
        fold = np.arange(len(ratios)) % _FOLDS
        return [
            (np.flatnonzero(fold == own), self.fit(factors[fold != own], ratios[fold != own])) for own in range(_FOLDS)
        ]

    def fit(self, factors: Vector, ratios: Vector) -> Vector:
        """Coefficients of at least zero with the least squared relative error, (terms,).

        Args:
            factors: of the terms, (designs, terms).
            ratios: measured latencies over the original's, (designs,).
        """
        weighted = factors / ratios[:, None]
        ridge = np.sqrt(_RIDGE) * np.eye(factors.shape[1])
        goal = np.concatenate([np.ones(len(ratios)), np.zeros(factors.shape[1])])
        coefficients: Vector = nnls(np.concatenate([weighted, ridge]), goal)[0]
        return coefficients


def attention(member: Member, shape: ModelShape) -> Attention:
    """How the member's layers attend; softly in a space without attention kinds."""
    try:
        return member.config(Attention)
    except KeyError:
        return Attention.soft(shape)


def widths(member: Member, shape: ModelShape) -> Quantization:
    """The member's widths; 32 bits everywhere in a space without quantization."""
    try:
        return member.config(Quantization)
    except KeyError:
        return Quantization.uniform(shape)
