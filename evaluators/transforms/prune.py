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

# What attention modules say of their size, in heads and in dimensions: some compute with it (DeBERTa, GPT-2).
_COUNTS = ("num_attention_heads", "num_heads", "n_heads")
_WIDTHS = ("all_head_size", "split_size")


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


class OnlyNorm(nn.Module):
    """Stands where self-attention was that adds what it reads and normalises the sum itself (ALBERT)."""

    def __init__(self, norm: nn.LayerNorm) -> None:
        super().__init__()
        self.LayerNorm = norm

    def forward(self, hidden: Tensor, *_: object, **__: object) -> tuple[Tensor, None]:
        return self.LayerNorm(hidden), None


@build.register
def build_pruned(config: Pruning, model: PreTrainedModel) -> PreTrainedModel:
    """A copy of `model` without the units that `config` removes.

    Raises:
        DesignError: `config` speaks of another shape.
        ModelError: `model` cannot be taken apart.
    """
    anatomy = Anatomy.of(model)
    _check(config, anatomy.shape)
    built, slices = copy.deepcopy(model), _Slices()
    gone = []
    for parts, units in zip(anatomy.layers, config.layers, strict=True):
        if units is None:
            gone.append(parts.name)
        else:
            _prune_attention(built, parts, units.heads, anatomy.shape, slices)
            _prune_ffn(built, parts, units.neurons, anatomy.shape, slices)
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


def _prune_attention(
    model: PreTrainedModel, parts: LayerParts, heads: Sequence[int], shape: ModelShape, slices: "_Slices"
) -> None:
    if not heads:
        norm = getattr(model.get_submodule(parts.attention), "LayerNorm", None)
        if isinstance(norm, nn.LayerNorm):
            model.set_submodule(parts.attention, OnlyNorm(norm))
            return
        # Where the output linear is a part of the attention module (DistilBERT, ViT), it goes with it.
        outside = not parts.attention_output.startswith(f"{parts.attention}.")
        if outside:
            model.set_submodule(parts.attention_output, Zeros(shape.hidden))
        model.set_submodule(parts.attention, NoAttention(1 if outside else shape.hidden))
        return
    kept = [head * shape.head_size + offset for head in heads for offset in range(shape.head_size)]
    for name in parts.of_heads:
        slices.keep_outputs(linear(model, name), kept)
    slices.keep_inputs(linear(model, parts.attention_output), kept)
    attention, said = model.get_submodule(parts.attention), {_COUNTS: len(heads), _WIDTHS: len(kept)}
    for name, value in ((name, value) for names, value in said.items() for name in names if hasattr(attention, name)):
        setattr(attention, name, value)


def _prune_ffn(
    model: PreTrainedModel, parts: LayerParts, neurons: Sequence[int], shape: ModelShape, slices: "_Slices"
) -> None:
    if not neurons:
        for name in parts.of_neurons:
            model.set_submodule(name, Zeros(1))
        model.set_submodule(parts.ffn_out, Zeros(shape.hidden))
        return
    for name in parts.of_neurons:
        slices.keep_outputs(linear(model, name), neurons)
    slices.keep_inputs(linear(model, parts.ffn_out), neurons)


class _Slices:
    """Slices of linears; of a weight that several share, those that are alike are shared too."""

    def __init__(self) -> None:
        self._made: dict[tuple[int, int | None, tuple[int, ...]], tuple[Tensor, nn.Parameter]] = {}

    def keep_outputs(self, layer: nn.Linear, kept: Sequence[int]) -> None:
        layer.weight = self._of(layer.weight, 0, kept)
        if layer.bias is not None:
            layer.bias = self._of(layer.bias, 0, kept)
        layer.out_features = len(kept)

    def keep_inputs(self, layer: nn.Linear, kept: Sequence[int]) -> None:
        """With a bias for these inputs, which may stand in for those that go (standing_in.py)."""
        layer.weight = self._of(layer.weight, 1, kept)
        if layer.bias is not None:
            layer.bias = self._of(layer.bias, None, kept)
        layer.in_features = len(kept)

    def _of(self, parameter: Tensor, axis: int | None, kept: Sequence[int]) -> nn.Parameter:
        key = id(parameter), axis, tuple(kept)
        if key not in self._made:
            indices = torch.tensor(kept, device=parameter.device)
            values = parameter.detach()
            values = values.clone() if axis is None else values.index_select(axis, indices)
            self._made[key] = parameter, nn.Parameter(values, requires_grad=parameter.requires_grad)
        return self._made[key][1]


def _remove_layers(model: PreTrainedModel, names: Sequence[str]) -> None:
    for name in reversed(names):  # deleting from a ModuleList renumbers what follows
        parent, _, index = name.rpartition(".")
        layers = model.get_submodule(parent)
        assert isinstance(layers, nn.ModuleList), f"{parent} is a {type(layers).__name__}"
        del layers[int(index)]
    model.config.num_hidden_layers -= len(names)
