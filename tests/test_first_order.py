"""Published importance: sums over batches, each with its own gradients; equal counts in every layer."""

import numpy as np
import torch
from torch.nn.functional import cross_entropy
from transformers import PreTrainedModel

from evaluators.anatomy import Anatomy, linear
from evaluators.first_order import first_order_importance, uniform
from evaluators.tasks.base import Encoded
from evaluators.transforms.masks import Masks, masked
from spaces.axes.pruning import Importance, LayerUnits
from tests.test_importance import rows
from tests.tiny_models import tiny

BATCH = 4


def batch_by_batch(model: PreTrainedModel, encoded: Encoded) -> tuple[torch.Tensor, torch.Tensor]:
    """The definition: `backward` on each batch's mean loss, gradients set to zero before it."""
    anatomy = Anatomy.of(model)
    heads = torch.zeros(anatomy.shape.layers, anatomy.shape.heads)
    neurons = torch.zeros(anatomy.shape.layers, anatomy.shape.ffn)
    for number, inputs in enumerate(encoded.batches(BATCH)):
        model.zero_grad()
        gates = Masks.ones(anatomy.shape)
        gates.heads.requires_grad_()
        with masked(model, gates):
            logits = model(**{name: torch.from_numpy(values) for name, values in inputs.items()}).logits
            labels = encoded.labels[number * BATCH : (number + 1) * BATCH]
            cross_entropy(logits, torch.tensor(labels)).backward()
        assert gates.heads.grad is not None
        heads += gates.heads.grad.abs()
        for layer, parts in enumerate(anatomy.layers):
            first = linear(model, parts.ffn_in)
            assert first.weight.grad is not None
            assert first.bias.grad is not None
            sums = (first.weight * first.weight.grad).sum(1) + first.bias * first.bias.grad
            neurons[layer] += sums.abs().detach()
    return heads, neurons


def test_figures_are_sums_of_absolute_first_order_terms_of_batches() -> None:
    model, _ = tiny("bert")
    encoded = rows()
    found = first_order_importance(model, encoded, batch_size=BATCH)
    heads, neurons = batch_by_batch(model, encoded)
    torch.testing.assert_close(torch.tensor(found.heads), heads, rtol=1e-3, atol=1e-6)
    torch.testing.assert_close(torch.tensor(found.neurons), neurons, rtol=1e-3, atol=1e-6)


def test_batches_add_up() -> None:
    model, _ = tiny("bert")
    encoded = rows(8)
    halves = [
        first_order_importance(model, part, batch_size=4) for part in (encoded.first(4), encoded.take(range(4, 8)))
    ]
    together = first_order_importance(model, encoded, batch_size=4)
    np.testing.assert_allclose(together.neurons, np.add(halves[0].neurons, halves[1].neurons), rtol=1e-4)
    np.testing.assert_allclose(together.layers, np.add(halves[0].layers, halves[1].layers), rtol=1e-4)


def test_the_model_stays_as_it_was() -> None:
    model, _ = tiny("bert")
    before = [(parameter.clone(), parameter.requires_grad) for parameter in model.parameters()]
    first_order_importance(model, rows())
    for parameter, (value, needs) in zip(model.parameters(), before, strict=True):
        assert torch.equal(parameter, value)
        assert parameter.requires_grad == needs
        assert parameter.grad is None


def test_the_same_counts_stay_in_every_layer_and_they_are_the_most_important() -> None:
    importance = Importance(((0.1, 3.0, 2.0), (5.0, 5.0, 5.0)), ((1.0, 4.0), (0.2, 0.1)), (1.0, 1.0))
    assert uniform(importance, heads=2, neurons=1).layers == (LayerUnits((1, 2), (1,)), LayerUnits((0, 1), (0,)))
