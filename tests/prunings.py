"""Random prunings that cover every case. Knows shapes; knows no models."""

import random

from spaces.axes.pruning import LayerUnits, Pruning
from spaces.shape import ModelShape


def random_pruning(shape: ModelShape, seed: int) -> Pruning:
    """Random heads and neurons; one layer without attention, FFN or both, and one layer gone."""
    rng = random.Random(seed)
    layers: list[LayerUnits | None] = [
        LayerUnits(
            tuple(sorted(rng.sample(range(shape.heads), rng.randint(1, shape.heads)))),
            tuple(sorted(rng.sample(range(shape.ffn), rng.randint(1, shape.ffn)))),
        )
        for _ in range(shape.layers)
    ]
    gone, hollow = rng.sample(range(shape.layers), 2)
    some = layers[hollow]
    assert some is not None
    layers[gone] = None
    layers[hollow] = rng.choice((LayerUnits((), some.neurons), LayerUnits(some.heads, ()), LayerUnits((), ())))
    return Pruning(tuple(layers))
