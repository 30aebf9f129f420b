"""Linears whose inputs that stay stand in for those that go. Knows modules and moments; slices nothing."""

import copy
from collections.abc import Sequence

import torch
from torch import nn
from transformers import PreTrainedModel

from evaluators.anatomy import Anatomy, linear
from evaluators.compensation import Doubles, InverseMoments, compensated, compensated_without_bias
from spaces.axes.pruning import Pruning


def standing_in(pruning: Pruning, model: PreTrainedModel, moments: InverseMoments) -> PreTrainedModel:
    """A copy of `model` that is best cut by `pruning`: weights that stay are refitted (compensation.py).

    Args:
        pruning: what will stay.
        model: the original, whole; returned itself if there are no moments.
        moments: by module name; linears without any stay as they are.
    """
    if not moments:
        return model
    refitted = copy.deepcopy(model)
    anatomy = Anatomy.of(refitted)
    size = anatomy.shape.head_size
    for parts, units in zip(anatomy.layers, pruning.layers, strict=True):
        if units is None:
            continue
        dimensions = [head * size + offset for head in units.heads for offset in range(size)]
        for name, kept in ((parts.attention_output, dimensions), (parts.ffn_out, units.neurons)):
            if name in moments:
                _refit(linear(refitted, name), moments[name], kept)
    return refitted


def _refit(module: nn.Linear, inverse: Doubles, kept: Sequence[int]) -> None:
    """Refit the columns `kept` of a linear's weight (N, K); nothing to do where all or none stay."""
    if not 0 < len(kept) < module.in_features:
        return
    weight = module.weight.detach().T.numpy()
    with torch.no_grad():
        if module.bias is None:
            matrix = compensated_without_bias(weight, inverse, kept)
        else:
            matrix, constant = compensated(weight, module.bias.numpy(), inverse, kept)
            module.bias.copy_(torch.from_numpy(constant))
        module.weight[:, list(kept)] = torch.from_numpy(matrix.T)
