"""Pruning by slicing: a really smaller model. Knows linears and layer lists; knows nothing of what deserves to stay."""

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from evaluators.anatomy import Anatomy, LayerParts, linear
from evaluators.transforms.base import build
from spaces.axes.pruning import LayerUnits, Pruning
from spaces.errors import DesignError
from spaces.shape import ModelShape


class Zeros(nn.Module):
    """Stands where a linear was: nothing is computed, zeros (..., width) come out."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width

    def forward(self, hidden: Tensor) -> Tensor:
        return hidden.new_zeros(1).expand(*hidden.shape[:-1], self.width)


class NoAttention(Zeros):
    """Stands where self-attention was; returns what the attention modules of transformers return."""

    def forward(self, hidden: Tensor, *_: object, **__: object) -> tuple[Tensor, None]:  # type: ignore[override]
        return super().forward(hidden), None


@build.register
def build_pruned(config: Pruning, model: PreTrainedModel) -> PreTrainedModel:
    """A copy of `model` without the units that `config` removes.

    Raises:
        DesignError: `config` speaks of another shape.
        ModelError: `model` cannot be taken apart.
    """
    anatomy = Anatomy.of(model)
    _check(config, anatomy.shape)
    built = copy.deepcopy(model)
    gone = []
    for parts, units in zip(anatomy.layers, config.layers, strict=True):
        if units is None:
            gone.append(parts.name)
        else:
            _prune_attention(built, parts, units.heads, anatomy.shape)
            _prune_ffn(built, parts, units.neurons, anatomy.shape)
    _remove_layers(built, gone)
    return built


def _check(config: Pruning, shape: ModelShape) -> None:
    if len(config.layers) != shape.layers:
        raise DesignError(
            f"The pruning has {len(config.layers)} layers, the model {shape.layers}. Decode it for this model."
        )
    for index, units in enumerate(config.layers):
        for what, indices, count in _unit_kinds(units, shape):
            if list(indices) != sorted(set(indices)) or any(not 0 <= index < count for index in indices):
                raise DesignError(
                    f"Layer {index} keeps {what} {list(indices)}, expected ascending indices below {count}. "
                    "Decode it for this model."
                )


def _unit_kinds(units: LayerUnits | None, shape: ModelShape) -> list[tuple[str, tuple[int, ...], int]]:
    return [] if units is None else [("heads", units.heads, shape.heads), ("neurons", units.neurons, shape.ffn)]


def _prune_attention(model: PreTrainedModel, parts: LayerParts, heads: Sequence[int], shape: ModelShape) -> None:
    if not heads:
        # Where the output linear is a part of the attention module (DistilBERT, ViT), it goes with it.
        outside = not parts.attention_output.startswith(f"{parts.attention}.")
        if outside:
            model.set_submodule(parts.attention_output, Zeros(shape.hidden))
        model.set_submodule(parts.attention, NoAttention(1 if outside else shape.hidden))
        return
    starts = torch.tensor(heads)[:, None] * shape.head_size
    kept = (starts + torch.arange(shape.head_size)).flatten()  # (heads kept * head_size,)
    for name in parts.of_heads:
        _keep_outputs(linear(model, name), kept)
    _keep_inputs(linear(model, parts.attention_output), kept)


def _prune_ffn(model: PreTrainedModel, parts: LayerParts, neurons: Sequence[int], shape: ModelShape) -> None:
    if not neurons:
        for name in parts.of_neurons:
            model.set_submodule(name, Zeros(1))
        model.set_submodule(parts.ffn_out, Zeros(shape.hidden))
        return
    kept = torch.tensor(neurons)
    for name in parts.of_neurons:
        _keep_outputs(linear(model, name), kept)
    _keep_inputs(linear(model, parts.ffn_out), kept)


def _keep_outputs(layer: nn.Linear, kept: Tensor) -> None:
    layer.weight = _selected(layer.weight, 0, kept)
    if layer.bias is not None:
        layer.bias = _selected(layer.bias, 0, kept)
    layer.out_features = len(kept)


def _keep_inputs(layer: nn.Linear, kept: Tensor) -> None:
    layer.weight = _selected(layer.weight, 1, kept)
    layer.in_features = len(kept)


def _selected(parameter: Tensor, axis: int, kept: Tensor) -> nn.Parameter:
    values = parameter.detach().index_select(axis, kept.to(parameter.device))
    return nn.Parameter(values, requires_grad=parameter.requires_grad)


def _remove_layers(model: PreTrainedModel, names: Sequence[str]) -> None:
    for name in reversed(names):  # deleting from a ModuleList renumbers what follows
        parent, _, index = name.rpartition(".")
        layers = model.get_submodule(parent)
        assert isinstance(layers, nn.ModuleList), f"{parent} is a {type(layers).__name__}"
        del layers[int(index)]
    model.config.num_hidden_layers -= len(names)
