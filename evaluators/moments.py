"""Second moments of what enters the linears that pruning cuts, on calibration rows. Knows hooks; knows no cuts."""

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from evaluators.anatomy import Anatomy, linear
from evaluators.compensation import InverseMoments, inverted
from evaluators.tasks.base import Encoded
from evaluators.training.schedule import as_batch, token_mask


def inverse_moments(
    model: PreTrainedModel,
    encoded: Encoded,
    *,
    first_token: bool,
    batch_size: int = 32,
    progress: Callable[[int, int], None] | None = None,
) -> InverseMoments:
    """For every attention output and second FFN matrix, the inverse second moments of its inputs over all tokens.

    Args:
        model: a classifier; stays as it was.
        encoded: calibration rows; no labels are needed.
        first_token: whether the head reads the first token alone: then only that one counts in the last layer.
        batch_size: rows per forward pass.
        progress: called with (rows done, rows in all) after each batch.
    """
    layers = Anatomy.of(model).layers
    names = [name for layer in layers for name in (layer.attention_output, layer.ffn_out)]
    sums = {name: _Sum() for name in names}
    for name in (layers[-1].attention_output, layers[-1].ffn_out):
        sums[name].first_token = first_token
    rows = encoded.take(sorted(range(len(encoded)), key=encoded.lengths.__getitem__))  # batches hold little padding
    with ExitStack() as hooks, torch.inference_mode():
        for name, total in sums.items():
            hooks.callback(linear(model, name).register_forward_pre_hook(total).remove)
        for group in rows.groups(batch_size):
            tensors = as_batch(rows.take(group), str(model.device))
            for total in sums.values():
                total.inputs = tensors
            model(**tensors)
            if progress is not None:
                progress(group[-1] + 1, len(rows))
    pooled: dict[int, Tensor] = {}  # by weight: layers that share one stay equal
    for name, total in sums.items():
        weight = id(linear(model, name).weight)
        pooled[weight] = pooled.get(weight, torch.zeros(())) + total.moments
    inverses = {weight: inverted(moments.numpy()) for weight, moments in pooled.items()}
    return {name: inverses[id(linear(model, name).weight)] for name in names}


class _Sum:
    """A forward hook that adds up x x^T over the tokens x that count, a constant 1 behind each."""

    def __init__(self) -> None:
        self.first_token = False
        self.inputs: Mapping[str, Tensor] = {}
        self.moments = torch.zeros(())

    def __call__(self, module: Any, arguments: tuple[Tensor, ...]) -> None:
        entering = arguments[0]  # (B, T, K)
        tokens = token_mask(self.inputs, entering).bool()
        counting = entering[:, 0] if self.first_token else entering[tokens]  # (tokens, K)
        extended = torch.cat([counting, counting.new_ones(len(counting), 1)], dim=1)
        self.moments = self.moments + (extended.T @ extended).double().cpu()  # (K + 1, K + 1)
