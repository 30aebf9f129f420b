"""What every part of a model costs in quality when it alone is cut, narrowed or left out. Knows artefacts and answers.

Divergences of parts nearly add up: over designs of six layers, bits and cuts mixed, the sum's rank correlation with the
measured divergence was 0.92, where sums of importance reached 0.44. So a few dozen members that differ from the
original in one part each say where a search should look.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from evaluators.base import Score, Watch
from evaluators.latency_terms import attention, widths
from evaluators.transformer import TransformerEvaluator, Workload
from spaces.axes.attention import Attention, AttentionKind
from spaces.axes.compression import Compression, compression
from spaces.axes.pruning import Importance, LayerUnits, Pruning
from spaces.axes.quantization import LayerBits, Quantization
from spaces.axes.rare import RareTokens
from spaces.axes.vocabulary import Vocabulary
from spaces.design import Member
from spaces.objectives import KL, Complete
from spaces.shape import ModelShape
from spaces.whole import write_whole

FILE = "damage.json"  # in a run's folder
ROWS = 64
# Shares of a block's units that are left, the most important ones.
_SHARES = (0.0, 0.25, 0.5)
BLOCKS = ("attention", "ffn")


def shares(units: LayerUnits | None, shape: ModelShape) -> tuple[float, float]:
    """Of a layer's heads and neurons, those that stay."""
    return (0.0, 0.0) if units is None else (len(units.heads) / shape.heads, len(units.neurons) / shape.ffn)


def tokens(member: Member) -> tuple[int | None, int | None]:
    """How many rows of the word table stay, and how many are exact; None: all."""
    found = {type(config): config for config in member.configs}
    return getattr(found.get(Vocabulary), "size", None), getattr(found.get(RareTokens), "exact", None)


@dataclass(frozen=True)
class Damage:
    """Divergence in nats by part.

    Args:
        alone: by name: `L.BLOCK share` (of units that are left), `L.BLOCK bits`, `L.attention kind`, `embeddings bits`,
            `head bits`, `compression level`, `vocabulary rows`, `rare rows`.
        of: what the workload's scores depend on.
    """

    alone: Mapping[str, float]
    of: str

    def parts(self, member: Member, shape: ModelShape) -> list[float]:
        """What each part of a member does alone, in an order that is the same for all members."""
        pruning, bits, kinds = member.config(Pruning), widths(member, shape), attention(member, shape)
        found = [self._known(f"embeddings {bits.embeddings}"), self._known(f"head {bits.head}")]
        found.append(self._known(f"compression {compression(member).level}"))
        rows, exact = tokens(member)
        found.append(self._known(f"vocabulary {rows}") + self._known(f"rare {exact}"))
        for layer, (units, block, kind) in enumerate(zip(pruning.layers, bits.layers, kinds.layers, strict=True)):
            for name, share in zip(BLOCKS, shares(units, shape), strict=True):
                found.append(self._cut(f"{layer}.{name}", share))
                found.append(self._known(f"{layer}.{name} {getattr(block, name, None)}"))
            found.append(self._known(f"{layer}.attention {kind}"))
        return found

    def _known(self, part: str) -> float:
        """0 for what was not measured: the original's own width, kind and share."""
        return self.alone.get(part, 0.0)

    def _cut(self, block: str, share: float) -> float:
        """Interpolated between the shares that were measured; a block that is gone is a case of its own."""
        gone, *left = (self._known(f"{block} {each}") for each in _SHARES)
        if share == 0:
            return gone
        (low, high), (worse, better) = _SHARES[1:], left
        if share < low:  # on as between the two shares above
            return worse + max(0.0, worse - better) * (low - share) / (high - low)
        return float(np.interp(share, (low, high, 1.0), (worse, better, 0.0)))

    def write(self, path: Path) -> None:
        write_whole(path, json.dumps({"of": self.of, "alone": dict(self.alone)}, indent=1))

    @classmethod
    def read(cls, path: Path) -> "Damage":
        content: dict[str, Any] = json.loads(path.read_text())
        return cls(content["alone"], content["of"])


@dataclass(frozen=True)
class Varied:
    """What a space varies besides pruning: by family, the values other than the original's."""

    bits: Sequence[int] = ()
    embeddings: Sequence[int] = ()
    kinds: Sequence[str] = ()
    levels: Sequence[float] = ()
    vocabulary: Sequence[int] = ()
    exact: Sequence[int] = ()


def damage(workload: Workload, importance: Importance, varied: Varied, path: Path, watch: Watch) -> Damage:
    """Of every part; what `path` holds already is not measured again.

    Args:
        workload: scores members.
        importance: of heads and neurons: the least important are cut.
        varied: what is tried in each part.
        path: where it is kept.
        watch: told how many parts are measured.
    """
    known = Damage.read(path) if path.exists() else Damage({}, workload.origin)
    if known.of != workload.origin:  # it only says where to look, so that nothing depends on the old one
        known = Damage({}, workload.origin)
    wide = workload.runtime.bits[0]
    wanted = {
        **_of_tables(workload.template.shape, varied, wide),
        **_of_layers(workload.template.shape, importance, varied, wide),
    }
    missing = [name for name in wanted if name not in known.alone]
    evaluator, alone = TransformerEvaluator(workload, reuse_prefixes=True), dict(known.alone)
    for done, name in enumerate(missing):
        watch("damage", done, len(missing))
        outcome = evaluator.evaluate(Score(wanted[name], ROWS)).outcome
        assert isinstance(outcome, Complete)
        alone[name] = outcome.values[KL.name]
    found = Damage(alone, workload.origin)
    if missing:
        found.write(path)
    return found


def _of_tables(shape: ModelShape, varied: Varied, wide: int) -> dict[str, Member]:
    """Members that differ from the original in what all layers share, by the part's name."""
    whole, blocks = Pruning.identity(shape), Quantization.uniform(shape, wide).layers
    original = (whole, Quantization(blocks, wide, wide))
    return {
        **{f"compression {level}": Member((*original, Compression(level))) for level in varied.levels},
        **{f"vocabulary {rows}": Member((*original, Vocabulary(rows))) for rows in varied.vocabulary},
        **{f"rare {rows}": Member((*original, RareTokens(rows))) for rows in varied.exact},
        **{f"head {width}": Member((whole, Quantization(blocks, wide, width))) for width in varied.bits},
        **{f"embeddings {width}": Member((whole, Quantization(blocks, width, wide))) for width in varied.embeddings},
    }


def _of_layers(shape: ModelShape, importance: Importance, varied: Varied, wide: int) -> dict[str, Member]:
    """Members that differ from the original in one block, by its name; the last layers first: they share the others."""
    found = dict[str, Member]()
    original = Pruning.identity(shape), Quantization.uniform(shape, wide), Attention.soft(shape)
    for layer in reversed(range(shape.layers)):

        def instead(configs: Sequence[Any], config: Any, layer: int = layer) -> tuple[Any, ...]:
            return (*configs[:layer], config, *configs[layer + 1 :])

        pruning, bits, soft = original
        for kind in varied.kinds:
            attending = Attention(instead(soft.layers, AttentionKind.parse(kind)))
            found[f"{layer}.attention {kind}"] = Member((pruning, bits, attending))
        for block in BLOCKS:
            for width in varied.bits:
                narrow = instead(bits.layers, LayerBits(**{**dict.fromkeys(BLOCKS, wide), block: width}))
                found[f"{layer}.{block} {width}"] = Member((pruning, Quantization(narrow, wide, wide)))
            for share in _SHARES:
                cut = Pruning(instead(pruning.layers, _left(shape, importance, layer, block, share)))
                found[f"{layer}.{block} {share}"] = Member((cut, bits))
    return found


def _left(shape: ModelShape, importance: Importance, layer: int, block: str, share: float) -> LayerUnits:
    """The layer with the most important share of one block's units."""
    units = {"attention": tuple(range(shape.heads)), "ffn": tuple(range(shape.ffn))}
    scores = importance.heads[layer] if block == "attention" else importance.neurons[layer]
    ranked = sorted(units[block], key=lambda unit: (-scores[unit], unit))
    units[block] = tuple(sorted(ranked[: round(share * len(ranked))]))
    return LayerUnits(units["attention"], units["ffn"])
