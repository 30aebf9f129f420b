"""Elimination: the order comes back from the axis' ranking, twins part, blocks keep their last unit longest."""

import numpy as np
import pytest
import torch

from evaluators.anatomy import Anatomy, linear
from evaluators.elimination import iterative_importance
from evaluators.importance import fisher_importance
from evaluators.refit import Refit
from evaluators.transforms.base import build
from evaluators.transforms.restore import changed, put_back
from spaces.axes.pruning import LayerUnits, Pruning, PruningAxis, UnitCosts
from tests.test_importance import rows
from tests.tiny_models import FFN, HEADS, LAYERS, tiny

COSTS = UnitCosts(head=1.0, neuron=1.0)
GROUP = 8


def test_one_round_ranks_by_the_figures_of_the_whole_model() -> None:
    model, _ = tiny("bert")
    encoded = rows(30)
    found = iterative_importance(model, encoded, rounds=1, group=1)
    figures = fisher_importance(model, encoded)
    for layer in range(LAYERS):
        for scores, own in ((found.heads, figures.heads), (found.neurons, figures.neurons)):
            assert np.argsort(scores[layer]).tolist() == np.argsort(own[layer]).tolist()
    assert found.layers == pytest.approx(figures.layers)


def test_the_axis_takes_units_in_the_order_of_elimination_and_the_last_of_a_block_after_all_others() -> None:
    model, _ = tiny("bert")
    encoded = rows(60)
    importance = iterative_importance(model, encoded, rounds=4, group=GROUP)
    axis = PruningAxis(Anatomy.of(model).shape, importance, COSTS, ffn_group=GROUP)
    whole, last = 2 * HEADS + FFN // GROUP, 2 + 1  # of a layer, in groups; a head has the weights of two
    floor = axis.decode({"prune.cut": (whole - last + 0.1) / whole, "prune.per": "byte"})
    assert all(layer is not None and len(layer.heads) == 1 and len(layer.neurons) == GROUP for layer in floor.layers)
    for layer in range(LAYERS):
        assert len(set(importance.neurons[layer])) == FFN // GROUP


def test_of_two_that_do_the_same_the_other_takes_over() -> None:
    """Without its twin a neuron's gate moves the answers twice as far, which its figure, a square, shows fourfold."""
    model, _ = tiny("bert")
    first, second = (linear(model, getattr(Anatomy.of(model).layers[1], name)) for name in ("ffn_in", "ffn_out"))
    with torch.no_grad():
        first.weight[8], first.bias[8] = first.weight[3], first.bias[3]
        second.weight[:, 8] = second.weight[:, 3]
    shape, encoded = Anatomy.of(model).shape, rows(120)
    layers = list(Pruning.identity(shape).layers)
    layers[1] = LayerUnits(tuple(range(HEADS)), tuple(neuron for neuron in range(FFN) if neuron != 3))
    left = Pruning(tuple(layers))
    student = Refit(model, encoded)(build(left, model), range(LAYERS))
    alone = fisher_importance(put_back(model, changed(student, model, left), left), encoded, left=left)
    assert alone.neurons[1][8] == pytest.approx(4 * fisher_importance(model, encoded).neurons[1][8], rel=0.1)
    assert alone.neurons[1][9] == pytest.approx(fisher_importance(model, encoded).neurons[1][9], rel=0.1)


def test_the_same_rows_give_the_same_figures_and_progress_counts_rounds() -> None:
    model, _ = tiny("bert")
    encoded, seen = rows(20), list[tuple[int, int]]()
    first = iterative_importance(model, encoded, rounds=3, progress=lambda done, total: seen.append((done, total)))
    assert first == iterative_importance(model, encoded, rounds=3)
    assert seen == [(1, 3), (2, 3), (3, 3)]
