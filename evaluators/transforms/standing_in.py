"""Linears whose inputs that stay stand in for those that go. Knows modules and moments; slices nothing."""

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn
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
    refitted, made = copy.deepcopy(model), _Refits()
    anatomy = Anatomy.of(refitted)
    size = anatomy.shape.head_size
    for parts, units in zip(anatomy.layers, pruning.layers, strict=True):
        if units is None:
            continue
        dimensions = [head * size + offset for head in units.heads for offset in range(size)]
        for name, kept in ((parts.attention_output, dimensions), (parts.ffn_out, units.neurons)):
            if name in moments:
                made.refit(linear(refitted, name), moments[name], kept)
    return refitted


class _Refits:
    """Refitted weights; layers that share theirs go on sharing where the same inputs stay."""

    def __init__(self) -> None:
        self._made: dict[tuple[int, tuple[int, ...]], tuple[Tensor, nn.Parameter, nn.Parameter | None]] = {}

    def refit(self, module: nn.Linear, inverse: Doubles, kept: Sequence[int]) -> None:
        """Refit the columns `kept` of a linear's weight (N, K); nothing to do where all or none stay."""
        if not 0 < len(kept) < module.in_features:
            return
        key = id(module.weight), tuple(kept)
        if key not in self._made:
            self._made[key] = module.weight, *_refitted(module, inverse, kept)
        _, module.weight, bias = self._made[key]
        module.register_parameter("bias", bias)


def _refitted(module: nn.Linear, inverse: Doubles, kept: Sequence[int]) -> tuple[nn.Parameter, nn.Parameter | None]:
    whole, bias = module.weight.detach().clone(), module._parameters["bias"]
    if bias is None:
        matrix = compensated_without_bias(whole.T.numpy(), inverse, kept)
    else:
        matrix, constant = compensated(whole.T.numpy(), bias.detach().numpy(), inverse, kept)
        bias = nn.Parameter(torch.from_numpy(constant), bias.requires_grad)
    whole[:, list(kept)] = torch.from_numpy(matrix.T)
    return nn.Parameter(whole, module.weight.requires_grad), bias
