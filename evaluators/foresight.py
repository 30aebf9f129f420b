"""What is known of a member before it runs. Knows configs, rankings and fitted costs; assembles nothing.

Latency is the latency model's. Bytes are a sum over parts by width, fitted to sizes that the template says of a few
members: asking it takes too long for every design that a sampler thinks of. Divergence is expected to be the sum of
what the parts do alone.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from evaluators.base import Foresight
from evaluators.damage import Damage, shares, tokens
from evaluators.latency_terms import widths
from evaluators.transformer import Workload
from spaces.axes.compression import compression
from spaces.axes.pruning import Pruning
from spaces.design import Member
from spaces.objectives import KL, SIZE

Vector: TypeAlias = NDArray[np.float64]
_LITTLE = 1e-4  # nats, below which nothing shows


@dataclass(frozen=True)
class TransformerForesight:
    """Foresees members of one workload.

    Args:
        workload: says latencies.
        damage: what parts do alone.
        bytes_per: the sum that bytes are; see `fitted`.
    """

    workload: Workload
    damage: Damage
    bytes_per: tuple[float, ...] = field(repr=False)

    @classmethod
    def fitted(cls, workload: Workload, damage: Damage, members: Sequence[Member]) -> "TransformerForesight":
        """With a sum for bytes that fits the sizes of `members`, which should differ in all that the space varies."""
        factors = np.stack([_parts(member, workload) for member in members])
        sizes = np.array([workload.template.size(member) for member in members], dtype=np.float64)
        found, *_ = np.linalg.lstsq(factors / sizes[:, None], np.ones(len(members)), rcond=1e-9)
        return cls(workload, damage, tuple(found.tolist()))

    def foresee(self, member: Member) -> Foresight:
        """Speeds as predicted, bytes as fitted, and divergence as the sum over parts, which are the features."""
        size = float(_parts(member, self.workload) @ np.array(self.bytes_per))
        parts = self.damage.parts(member, self.workload.template.shape)
        total = sum(parts)
        features = (math.log(total + _LITTLE), *(math.sqrt(part) for part in parts))
        return Foresight({**self.workload.speeds(member), SIZE.name: size}, features, {KL.name: total})


def _parts(member: Member, workload: Workload) -> Vector:
    """What bytes are a sum of: per width, blocks of either kind, weights, and rows of the word table, exact or not."""
    shape, known = workload.template.shape, workload.runtime.bits
    pruning, bits = member.config(Pruning), widths(member, shape)
    rows, exact = (1.0 if each is None else each / max(shape.vocab, 1) for each in tokens(member))
    counts = {width: np.zeros(7) for width in known}
    counts[bits.embeddings][:3] += (1.0, rows, rows * (1 - exact))
    counts[bits.head][3] += 1.0
    layers = 0
    for units, block in zip(pruning.layers, bits.layers, strict=True):
        if units is None or block is None:
            continue
        layers += 1
        heads, neurons = shares(units, shape)
        if block.attention is not None:
            counts[block.attention][4:] += (1.0, 0.0, heads)
        if block.ffn is not None:
            weights = neurons * shape.ffn * shape.neuron_weights / (shape.heads * shape.head_weights)
            counts[block.ffn][4:] += (0.0, 1.0, weights)
    return np.concatenate([[1.0, layers, compression(member).level < 1], *counts.values()])
