"""Designs whose timings tell the costs of parts apart. Knows shapes and widths; times nothing."""

import random
from collections.abc import Sequence

from spaces.axes.attention import SOFT, Attention, AttentionKind, forget_absent_attention
from spaces.axes.compression import Compression
from spaces.axes.pruning import LayerUnits, Pruning
from spaces.axes.quantization import LayerBits, Quantization, forget_absent_parts
from spaces.design import Config, Member
from spaces.shape import ModelShape

_GROUP = 64
_BLOCK_GONE = 0.12
_LOWEST_LEVEL = 0.1
_ONE_WIDTH = 0.5
_ALL_SOFT = 0.5
_ALL_TOKENS = 0.5
_DRAWS_PER_PROBE = 100


def probes(
    shape: ModelShape,
    bits: Sequence[int],
    n: int,
    seed: int,
    kinds: Sequence[str] = (),
    levels: Sequence[float] = (),
) -> list[Member]:
    """Up to `n` different members: `anchors` first, then random ones.

    Random ones spread over depths, sizes (of heads and of neurons a level for the model, varied from layer to layer),
    blocks that are gone and widths (one for all blocks, or mixed); where there are kinds of attention, half of them
    have layers of one, and where rows may be compressed, half of them do. A small model may have fewer than `n`
    different ones.

    Args:
        shape: the model's sizes.
        bits: widths that the runtime executes.
        n: how many are wanted.
        seed: of the draws.
        kinds: in which layers may attend, other than softly.
        levels: at which rows may be compressed.
    """
    rng = random.Random(seed)
    first = (*anchors(shape, bits), *_attending(shape, bits, kinds), *_compressed(shape, bits, levels))
    unique = {member.key: member for member in first[:n]}
    for _ in range(n * _DRAWS_PER_PROBE):
        if len(unique) >= n:
            break
        configs = (_pruning(shape, rng), _quantization(shape, bits, rng))
        further: list[Config] = [*_attention(shape, kinds, rng), *_compression(levels, rng)]
        member = Member(forget_absent_attention(forget_absent_parts((*configs, *further))))
        unique.setdefault(member.key, member)
    return list(unique.values())


def anchors(shape: ModelShape, bits: Sequence[int]) -> list[Member]:
    """The ends of every sum: in each width the whole model and its first layer alone, and a model without any block."""
    whole = Pruning.identity(shape)
    first = Pruning((whole.layers[0], *(None,) * (shape.layers - 1)))
    bare = Pruning((LayerUnits((), ()), *(None,) * (shape.layers - 1)))
    drawn = [(cut, width) for width in bits for cut in (whole, first)] + [(bare, max(bits))]
    members = [Member(forget_absent_parts((cut, Quantization.uniform(shape, width)))) for cut, width in drawn]
    return list({member.key: member for member in members}.values())


def _attending(shape: ModelShape, bits: Sequence[int], kinds: Sequence[str]) -> list[Member]:
    """The whole model in each kind, in a width that runtimes are fast in."""
    whole, narrow = Pruning.identity(shape), Quantization.uniform(shape, 8 if 8 in bits else max(bits))
    uniform = [Attention((AttentionKind.parse(kind),) * shape.layers) for kind in kinds]
    return [Member((whole, narrow, attention)) for attention in uniform]


def _compressed(shape: ModelShape, bits: Sequence[int], levels: Sequence[float]) -> list[Member]:
    """The whole model at each level, in a width that runtimes are fast in, and in every width at the lowest."""
    whole, fast = Pruning.identity(shape), 8 if 8 in bits else max(bits)
    drawn = [(fast, level) for level in levels] + [(width, min(levels)) for width in bits if levels and width != fast]
    return [Member((whole, Quantization.uniform(shape, width), Compression(level))) for width, level in drawn]


def _compression(levels: Sequence[float], rng: random.Random) -> list[Compression]:
    """All tokens in about half of the draws, else a level; nothing where there are no levels."""
    if not levels:
        return []
    return [Compression.none() if rng.random() < _ALL_TOKENS else Compression(rng.choice(levels))]


def _attention(shape: ModelShape, kinds: Sequence[str], rng: random.Random) -> list[Attention]:
    """Soft layers, and in about half of the draws layers of one kind among them; nothing where there are no kinds."""
    if not kinds:
        return []
    kind = SOFT if rng.random() < _ALL_SOFT else rng.choice(kinds)
    return [Attention(tuple(AttentionKind.parse(rng.choice((SOFT, kind))) for _ in range(shape.layers)))]


def _pruning(shape: ModelShape, rng: random.Random) -> Pruning:
    # The deeper of two draws: a search looks at few models of one layer, and their latency is mostly the constant.
    depth = max(rng.randint(1, shape.layers), rng.randint(1, shape.layers))
    staying = set(rng.sample(range(shape.layers), depth))
    # Each of its own level: designs with many heads and few neurons are what a search comes to.
    levels = rng.uniform(_LOWEST_LEVEL, 1.0), rng.uniform(_LOWEST_LEVEL, 1.0)
    return Pruning(tuple(_layer(shape, *levels, rng) if layer in staying else None for layer in range(shape.layers)))


def _layer(shape: ModelShape, heads_level: float, neurons_level: float, rng: random.Random) -> LayerUnits:
    group = min(_GROUP, max(1, shape.ffn // 8))
    heads = rng.sample(range(shape.heads), _count(shape.heads, heads_level, rng))
    neurons = rng.sample(range(shape.ffn), group * _count(shape.ffn // group, neurons_level, rng))
    return LayerUnits(tuple(sorted(heads)), tuple(sorted(neurons)))


def _count(most: int, level: float, rng: random.Random) -> int:
    """None, or about `level` of `most`, at least one."""
    if rng.random() < _BLOCK_GONE:
        return 0
    return min(most, max(1, round(most * level * rng.uniform(0.5, 1.5))))


def _quantization(shape: ModelShape, bits: Sequence[int], rng: random.Random) -> Quantization:
    widths = [rng.choice(bits)] if rng.random() < _ONE_WIDTH else list(bits)
    layers = tuple(LayerBits(rng.choice(widths), rng.choice(widths)) for _ in range(shape.layers))
    return Quantization(layers, rng.choice(bits), rng.choice(bits))
