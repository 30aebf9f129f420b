"""Pruning as FastFormers published it: one look at first-order importance, equal counts in every layer.

Kim and Awadalla 2020, "FastFormers: Highly Efficient Transformer Models for Natural Language Understanding"
(arXiv 2010.13382), kept to be compared with. Knows gradients of batches; knows no rounds, no refit, no runtime.
"""

import copy
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor
from transformers import PreTrainedModel

from evaluators.anatomy import Anatomy, linear, sharing
from evaluators.tasks.base import Encoded
from evaluators.training.schedule import outputs_of
from evaluators.transforms.masks import Masks, masked
from spaces.axes.pruning import Importance, LayerUnits, Pruning


def first_order_importance(
    model: PreTrainedModel,
    encoded: Encoded,
    *,
    batch_size: int = 8,
    progress: Callable[[int, int], None] | None = None,
) -> Importance:
    """Sums over batches of first-order terms of the batch's mean loss L.

    Heads and layers: |dL/dgate|; layers are our addition, they were not published. Neuron i of the first FFN matrix W
    and bias b: |sum_j W_ij dL/dW_ij + b_i dL/db_i|, its gate's row added where there is one; the second matrix does not
    count, as published. The public code never sets gradients back to zero between batches, so that later batches weigh
    less and less; here every batch has its own.

    Args:
        model: a classifier; stays as it was.
        encoded: rows of the calibration split with their labels, in the order of the batches.
        batch_size: rows per backward pass; signs within a batch cancel, so it changes the figures (published: 8).
        progress: called with (rows done, rows in all) after each batch.
    """
    frozen = copy.deepcopy(model).train(False).requires_grad_(False)
    anatomy = Anatomy.of(frozen)
    entering = [
        [p.requires_grad_(True) for name in parts.of_neurons for p in linear(frozen, name).parameters()]
        for parts in anatomy.layers
    ]
    shape = anatomy.shape
    heads, neurons = torch.zeros(shape.layers, shape.heads), torch.zeros(shape.layers, shape.ffn)
    layers = torch.zeros(shape.layers)
    for batch, inputs in enumerate(encoded.batches(batch_size)):
        start = batch * batch_size
        some = encoded.take(range(len(encoded))[start : start + batch_size])
        labels = torch.tensor(some.labels, device=frozen.device)
        gates = Masks.ones(shape, device=frozen.device)
        gates.heads.requires_grad_(), gates.layers.requires_grad_()
        with masked(frozen, gates):
            found = frozen(**{name: torch.from_numpy(values).to(frozen.device) for name, values in inputs.items()})
        logits = outputs_of(some, found.logits)
        wanted = [gates.heads, gates.layers, *(parameter for layer in entering for parameter in layer)]
        of_heads, of_layers, *of_ffn = torch.autograd.grad(encoded.problem.losses(logits, labels).mean(), wanted)
        heads += of_heads.abs().cpu()
        layers += of_layers.abs().cpu()
        neurons += _of_neurons(entering, iter(of_ffn)).cpu()
        if progress is not None:
            progress(start + len(labels), len(encoded))
    for positions in sharing(frozen, anatomy.layers):
        heads[positions], neurons[positions] = heads[positions].mean(0), neurons[positions].mean(0)
    return Importance(tuple(map(tuple, heads.tolist())), tuple(map(tuple, neurons.tolist())), tuple(layers.tolist()))


def _of_neurons(entering: Sequence[Sequence[Tensor]], gradients: Iterator[Tensor]) -> Tensor:
    """(L, F), from each layer's parameters of (F, ...) and their gradients, one after the other."""
    terms = [[(p * next(gradients)).reshape(len(p), -1).sum(1) for p in layer] for layer in entering]
    return torch.stack([torch.stack(layer).sum(0).abs().detach() for layer in terms])


def uniform(importance: Importance, *, heads: int, neurons: int) -> Pruning:
    """The same counts in every layer: its most important heads and neurons, the earlier one of equals."""
    return Pruning(
        tuple(
            LayerUnits(_most_important(of_heads, heads), _most_important(of_neurons, neurons))
            for of_heads, of_neurons in zip(importance.heads, importance.neurons, strict=True)
        )
    )


def _most_important(scores: Sequence[float], count: int) -> tuple[int, ...]:
    ranked = sorted(range(len(scores)), key=lambda unit: (-scores[unit], unit))
    return tuple(sorted(ranked[:count]))
