"""A search whose figures follow from a formula, so that nothing but the sampler takes time. Knows no model.

The default space of a model of MiniLM's shape; latency and bytes are sums, and divergence is the sum that is foreseen,
times noise with a standard deviation of a half on the logarithm.
"""

import math
import random
from collections import deque
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from evaluators.base import Foresight, Job, Score
from evaluators.damage import Damage
from evaluators.foresight import TransformerForesight
from evaluators.latency_model import LatencyModel
from evaluators.latency_terms import Terms
from spaces.axes.pruning import Importance, Pruning, PruningAxis
from spaces.axes.quantization import Quantization, QuantizationAxis, forget_absent_parts
from spaces.design import Member
from spaces.objectives import LATENCY, Complete, Evaluation
from spaces.shape import ModelShape
from spaces.space import Space
from spaces.target import Target

SHAPE, BITS = ModelShape(layers=6, heads=12, head_size=32, ffn=1536, hidden=384, vocab=30522), (32, 8, 4)


@dataclass
class Queue:
    """A runner with many slots whose jobs end in their order, at once."""

    foresight: TransformerForesight
    slots: int
    _running: deque[Score] = field(default_factory=deque)

    def submit(self, job: Job) -> None:
        assert isinstance(job, Score)
        self._running.append(job)

    def next_done(self, timeout: float | None = None) -> Evaluation | None:
        if not self._running or timeout == 0:
            return None
        job = self._running.popleft()
        seen: Foresight = self.foresight.foresee(job.member)
        noise = math.exp(random.Random(job.key).gauss(0.5, 0.5))
        values = {**seen.figures, "kl": noise * seen.expected["kl"]}
        drop = 0.3 * values["kl"]
        return Evaluation(job.key, Complete(values, {"accuracy": 0.9 - drop, "accuracy_drop": drop}))

    def close(self) -> None:
        """Nothing runs."""


def closed_form(seed: int) -> tuple[Space, TransformerForesight]:
    """Of a model whose later layers matter less, as in those that were measured."""
    rng, layers = random.Random(seed), range(SHAPE.layers)
    weight = [2.0 ** (SHAPE.layers - layer) for layer in layers]
    importance = Importance(
        heads=tuple(tuple(weight[layer] * rng.expovariate(1) for _ in range(SHAPE.heads)) for layer in layers),
        neurons=tuple(tuple(weight[layer] * rng.expovariate(20) for _ in range(SHAPE.ffn)) for layer in layers),
        layers=tuple(20 * weight[layer] for layer in layers),
    )
    alone = {f"embeddings {width}": 0.003 / width for width in BITS[1:]}
    for layer in layers:
        for block in ("attention", "ffn"):
            alone |= {
                f"{layer}.{block} {share}": 0.002 * weight[layer] * (1 - share) ** 2 for share in (0.0, 0.25, 0.5)
            }
            alone |= {f"{layer}.{block} {width}": 1e-4 * weight[layer] * 8 / width for width in BITS[1:]}
    terms = Terms(SHAPE, BITS)
    costs = {"constant": 0.02, "layers": 0.01, "crowding": 0.1}
    per_width = {32: 0.05, 8: 0.02, 4: 0.045}
    coefficients = [costs.get(name, per_width.get(int(name.partition("@")[2] or 0), 0.0)) for name in terms.names]
    model = LatencyModel(terms, tuple(coefficients), 5.0, Target().key, ())
    axes = [PruningAxis(SHAPE, importance, model.unit_costs()), QuantizationAxis(SHAPE, BITS)]
    space = Space(axes, [forget_absent_parts])
    template = SimpleNamespace(shape=SHAPE, size=_bytes)
    work: Any = SimpleNamespace(template=template, runtime=SimpleNamespace(bits=BITS), speeds=_Speeds(model))
    members = [space.decode(space.sample(rng)) for _ in range(48)]
    return space, TransformerForesight.fitted(work, Damage(alone, ""), members)


@dataclass(frozen=True)
class _Speeds:
    model: LatencyModel

    def __call__(self, member: Member) -> dict[str, float]:
        return {LATENCY.name: self.model.predict_ms(member)}


def _bytes(member: Member) -> float:
    """A byte for eight bits of every weight that stays, and a little for the graph."""
    pruning, bits = member.config(Pruning), member.config(Quantization)
    total = 2e5 + SHAPE.vocab * SHAPE.hidden * bits.embeddings / 8
    for units, block in zip(pruning.layers, bits.layers, strict=True):
        if units is not None and block is not None:
            total += len(units.heads) * SHAPE.head_weights * (block.attention or 0) / 8
            total += len(units.neurons) * SHAPE.neuron_weights * (block.ffn or 0) / 8
    return total
