"""What a member's latency is the sum of, in ms: products, attention, norms. Knows shapes and configs; knows no clock.

Unlike latency_terms.py, which counts blocks of one model in shares of its latency, this counts arithmetic, elements and
bytes, so that costs found on one set of sizes hold for models of other sizes on the same machine.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from evaluators.latency_terms import Vector, widths
from spaces.axes.pruning import Pruning
from spaces.design import Member
from spaces.shape import ModelShape

WIDTHS = (32, 8, 4)
# Bytes of weights beyond which they no longer fit a cache of that many megabytes; which of them exist is fitted.
_CACHES_MB = (0.5, 1, 2, 4, 8, 16)
_PER_WIDTH = ("products", "multiplications", "weights", "inputs", "outputs", "embedded")
_OTHERS = ("attention", "scores", "score multiplications", "turned", "norms", "normed", "activated")
NAMES = (
    "constant",
    *(f"{name}@{bits}" for bits in WIDTHS for name in _PER_WIDTH),
    *_OTHERS,
    *(f"beyond {size:g} MB" for size in _CACHES_MB),
)
_MILLION, _THOUSAND = 1e-6, 1e-3


@dataclass(frozen=True)
class _Product:
    """(rows, inputs) times (inputs, outputs), with weights of so many bits."""

    bits: int
    rows: int
    inputs: int
    outputs: int


@dataclass(frozen=True)
class Call:
    """One call of a member.

    Args:
        member: what is called.
        shape: of the original.
        tokens: of every row, padding included.
        batch_size: rows of the call.
        first_token: whether, from the last attention block on, the runtime works on the first token alone.
    """

    member: Member
    shape: ModelShape
    tokens: int
    batch_size: int = 1
    first_token: bool = True

    def counts(self) -> Vector:
        """How much there is of each of NAMES, (terms,): millions of multiplications and weights, thousands of
        elements."""
        found = dict.fromkeys(NAMES, 0.0)
        found["constant"] = 1.0
        pruning, bits = self.member.config(Pruning), widths(self.member, self.shape)
        found[f"embedded@{bits.embeddings}"] += self.batch_size * self.tokens * self.shape.hidden * _THOUSAND
        megabytes = 0.0
        for product in self._products():
            matrix = product.inputs * product.outputs * _MILLION
            found[f"products@{product.bits}"] += 1
            found[f"multiplications@{product.bits}"] += product.rows * matrix
            found[f"weights@{product.bits}"] += matrix
            found[f"inputs@{product.bits}"] += product.rows * product.inputs * _THOUSAND
            found[f"outputs@{product.bits}"] += product.rows * product.outputs * _THOUSAND
            megabytes += matrix * product.bits / 8
        for size in _CACHES_MB:
            found[f"beyond {size:g} MB"] = max(0.0, megabytes - size)
        for layer, (units, entering) in enumerate(zip(pruning.layers, self._entering(), strict=True)):
            if units is None:
                continue
            leaving = self._leaving(layer)
            found["norms"] += 2
            found["normed"] += 2 * leaving * self.shape.hidden * _THOUSAND
            found["activated"] += leaving * len(units.neurons) * _THOUSAND
            if units.heads:
                width = len(units.heads) * self.shape.head_size
                scores = leaving * entering / self.batch_size  # of a head: (batch, asking tokens, asked tokens)
                found["attention"] += 1
                found["scores"] += scores * len(units.heads) * _THOUSAND
                found["score multiplications"] += 2 * scores * width * _MILLION
                found["turned"] += (2 * leaving + 2 * entering) * width * _THOUSAND
        return np.array([found[name] for name in NAMES])

    def _products(self) -> Iterator[_Product]:
        pruning, bits, shape = self.member.config(Pruning), widths(self.member, self.shape), self.shape
        for layer, (units, width, rows) in enumerate(zip(pruning.layers, bits.layers, self._entering(), strict=True)):
            if units is None or width is None:
                continue
            after, attended = self._leaving(layer), len(units.heads) * shape.head_size
            if attended:
                assert width.attention is not None
                if layer == self._last:  # queries of the first token, keys and values of all
                    yield _Product(width.attention, after, shape.hidden, attended)
                    yield _Product(width.attention, rows, shape.hidden, 2 * attended)
                else:
                    yield _Product(width.attention, rows, shape.hidden, 3 * attended)
                yield _Product(width.attention, after, attended, shape.hidden)
            if units.neurons:
                assert width.ffn is not None
                yield _Product(width.ffn, after, shape.hidden, len(units.neurons))
                yield _Product(width.ffn, after, len(units.neurons), shape.hidden)
        yield _Product(bits.head, self.batch_size, shape.hidden, shape.hidden)

    @cached_property
    def _last(self) -> int:
        """The layer whose attention is the last to read all tokens; past the end if what follows needs them all."""
        layers = self.member.config(Pruning).layers
        attending = [layer for layer, units in enumerate(layers) if units is not None and units.heads]
        return attending[-1] if self.first_token and attending else len(layers)

    def _entering(self) -> list[int]:
        """Tokens of all rows that enter each layer."""
        return [self.batch_size * (1 if layer > self._last else self.tokens) for layer in range(self.shape.layers)]

    def _leaving(self, layer: int) -> int:
        """Tokens of all rows that a layer's attention hands on."""
        return self.batch_size * (1 if layer >= self._last else self.tokens)
