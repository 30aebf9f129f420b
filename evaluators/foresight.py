"""What is known of a member before it runs. Knows configs, rankings and fitted costs; assembles nothing.

Latency is the latency model's. Bytes are a sum over parts by width, fitted to sizes that the template says of a few
members: asking it takes too long for every design that a sampler thinks of. What quality depends on is handed on as
numbers: how much importance goes and how much few bits hurt, as if parts added up, and what is left of every layer.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from evaluators.base import Foresight
from evaluators.latency_terms import attention, widths
from evaluators.transformer import Workload
from spaces.axes.compression import compression
from spaces.axes.pruning import Importance, LayerUnits, Pruning
from spaces.axes.quantization import Quantization
from spaces.axes.rare import RareTokens
from spaces.axes.vocabulary import Vocabulary
from spaces.design import Member
from spaces.objectives import SIZE
from spaces.shape import ModelShape

Vector: TypeAlias = NDArray[np.float64]
# Of the whole importance, and in nats: below it nothing shows, and logarithms stay near one another.
_LITTLE = 1e-4


@dataclass(frozen=True)
class TransformerForesight:
    """Foresees members of one workload.

    Args:
        workload: says latencies.
        importance: of heads and neurons, by which pruning removes them.
        alone: by part, the divergence in nats when it alone is narrow; empty where it was not measured.
        bytes_per: the sum that bytes are; see `fitted`.
    """

    workload: Workload
    importance: Importance
    alone: Mapping[str, float]
    bytes_per: tuple[float, ...] = field(repr=False)

    @classmethod
    def fitted(
        cls, workload: Workload, importance: Importance, alone: Mapping[str, float], members: Sequence[Member]
    ) -> "TransformerForesight":
        """With a sum for bytes that fits the sizes of `members`, which should differ in all that the space varies."""
        factors = np.stack([_parts(member, workload) for member in members])
        sizes = np.array([workload.template.size(member) for member in members], dtype=np.float64)
        weighted = factors / sizes[:, None]
        found, *_ = np.linalg.lstsq(weighted, np.ones(len(members)), rcond=1e-9)
        return cls(workload, importance, alone, tuple(found.tolist()))

    def foresee(self, member: Member) -> Foresight:
        """Speeds as predicted, bytes as fitted, and the numbers that quality depends on."""
        size = float(_parts(member, self.workload) @ np.array(self.bytes_per))
        return Foresight({**self.workload.speeds(member), SIZE.name: size}, tuple(self._features(member)))

    def _features(self, member: Member) -> Iterator[float]:
        shape, pruning = self.workload.template.shape, member.config(Pruning)
        bits = widths(member, shape)
        yield math.log(_LITTLE + self._removed(pruning))
        for width in self.workload.runtime.bits[1:]:
            yield math.log(_LITTLE + self._rounded(bits, width))
        step = {width: place for place, width in enumerate(self.workload.runtime.bits)}
        yield step[bits.embeddings]
        yield step[bits.head]
        kinds = attention(member, shape).layers
        for units, block, kind in zip(pruning.layers, bits.layers, kinds, strict=True):
            heads, neurons = _shares(units, shape)
            yield heads
            yield neurons
            yield 0.0 if block is None or block.attention is None else step[block.attention]
            yield 0.0 if block is None or block.ffn is None else step[block.ffn]
            yield 0.0 if kind is None or kind.k is None else 1.0
        yield compression(member).level
        yield from _tokens(member, shape)

    def _removed(self, pruning: Pruning) -> float:
        """Share of all importance that goes."""
        known, gone, whole = self.importance, 0.0, 0.0
        for layer, units in enumerate(pruning.layers):
            heads, neurons = known.heads[layer], known.neurons[layer]
            whole += sum(heads) + sum(neurons)
            if units is None:
                gone += known.layers[layer]
            else:
                gone += sum(heads) - sum(heads[head] for head in units.heads)
                gone += sum(neurons) - sum(neurons[neuron] for neuron in units.neurons)
        return gone / whole

    def _rounded(self, bits: Quantization, width: int) -> float:
        """What the parts of a width would do, each alone when narrow."""
        parts = {"embeddings": bits.embeddings, "head": bits.head}
        for layer, block in enumerate(bits.layers):
            if block is not None:
                parts |= {f"{layer}.{name}": getattr(block, name) for name in ("attention", "ffn")}
        return sum(self.alone.get(part, 0.0) for part, of in parts.items() if of == width)


def _shares(units: LayerUnits | None, shape: ModelShape) -> tuple[float, float]:
    return (0.0, 0.0) if units is None else (len(units.heads) / shape.heads, len(units.neurons) / shape.ffn)


def _tokens(member: Member, shape: ModelShape) -> tuple[float, float]:
    """Shares of the word table's rows that stay, and that are exact."""
    found = {type(config): config for config in member.configs}
    size = getattr(found.get(Vocabulary), "size", None)
    exact = getattr(found.get(RareTokens), "exact", None)
    rows = max(shape.vocab, 1)
    return (1.0 if size is None else size / rows), (1.0 if exact is None else exact / rows)


def _parts(member: Member, workload: Workload) -> Vector:
    """What bytes are a sum of: per width, blocks of either kind, weights, and rows of the word table, exact or not."""
    shape, known = workload.template.shape, workload.runtime.bits
    pruning, bits = member.config(Pruning), widths(member, workload.template.shape)
    rows, exact = _tokens(member, shape)
    counts = {width: np.zeros(7) for width in known}
    counts[bits.embeddings][:3] += (1.0, rows, rows * (1 - exact))
    counts[bits.head][3] += 1.0
    layers = 0
    for units, block in zip(pruning.layers, bits.layers, strict=True):
        if units is None or block is None:
            continue
        layers += 1
        heads, neurons = _shares(units, shape)
        if block.attention is not None:
            counts[block.attention][4:] += (1.0, 0.0, heads)
        if block.ffn is not None:
            counts[block.ffn][4:] += (0.0, 1.0, neurons * shape.ffn * shape.neuron_weights / _attention_weights(shape))
    return np.concatenate([[1.0, layers, compression(member).level < 1], *counts.values()])


def _attention_weights(shape: ModelShape) -> float:
    return float(shape.heads * shape.head_weights)
