"""The ladder's importance of heads and neurons. Knows gradients of batches; knows nothing of what is cut."""

import copy

import torch
from transformers import PreTrainedModel

from evaluators.anatomy import Anatomy
from evaluators.first_order import first_order_importance
from evaluators.tasks.base import Encoded
from evaluators.transforms.masks import Masks, masked
from spaces.axes.pruning import Importance

_BATCH = 8  # as published; signs within a batch cancel


def importance_of_both_matrices(model: PreTrainedModel, rows: Encoded) -> Importance:
    """Published importance, but a neuron's counts its column of the second FFN matrix too, which was left out.

    Args:
        model: a classifier; stays as it was.
        rows: of the calibration split with their labels.
    """
    first = first_order_importance(model, rows, batch_size=_BATCH)
    second = _second_matrix(model, rows)
    both = (torch.tensor(first.neurons) + second).tolist()  # (L, F)
    return Importance(first.heads, tuple(map(tuple, both)), first.layers)


def _second_matrix(model: PreTrainedModel, rows: Encoded) -> torch.Tensor:
    """Sums over batches of |sum_j W_ji dL/dW_ji| for every column i, (L, F): the derivative by a gate on neuron i."""
    frozen = copy.deepcopy(model).train(False).requires_grad_(False)
    shape = Anatomy.of(frozen).shape
    total = torch.zeros(shape.layers, shape.ffn)
    for batch, inputs in enumerate(rows.batches(_BATCH)):
        labels = torch.tensor(rows.labels[batch * _BATCH : (batch + 1) * _BATCH])
        gates = Masks.ones(shape)
        gates.neurons.requires_grad_()
        with masked(frozen, gates):
            logits = frozen(**{name: torch.from_numpy(values) for name, values in inputs.items()}).logits
        (gradient,) = torch.autograd.grad(rows.problem.losses(logits, labels).mean(), gates.neurons)
        total += gradient.abs()
    return total
