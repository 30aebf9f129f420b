"""A cut model's weights back in a copy of the original. Knows parameters and their names; trains nothing.

What is put back and cut by the same pruning is the cut model again: so weights that were refitted or trained are
handled like any others.
"""

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from evaluators.anatomy import Anatomy, LayerParts
from evaluators.conforming import separated
from spaces.axes.pruning import Pruning


def changed(student: PreTrainedModel, original: PreTrainedModel, pruning: Pruning) -> dict[str, Tensor]:
    """A trained student's tensors by the original's names, but for those that are the original's own.

    A weight that layers share is there once, if it is one in the student too.
    """
    names, whole = _original_names(original, pruning), dict(original.named_parameters(remove_duplicate=False))
    tensors = {names(name): tensor for name, tensor in student.named_parameters(remove_duplicate=False)}
    found: dict[int, set[int]] = {}
    for name, tensor in tensors.items():
        found.setdefault(id(whole[name]), set()).add(id(tensor))
    alike = all(len(ones) == 1 for ones in found.values())
    if alike:
        first = _first_names(original)
        tensors = {first[id(whole[name])]: tensor for name, tensor in tensors.items()}
    return {
        name: tensor.detach().clone(memory_format=torch.contiguous_format)
        for name, tensor in tensors.items()
        if not alike or tensor.shape != whole[name].shape or not torch.equal(tensor, whole[name])
    }


def put_back(original: PreTrainedModel, tensors: Mapping[str, Tensor], pruning: Pruning) -> PreTrainedModel:
    """A copy of `original` whose units that `pruning` keeps have trained weights.

    Args:
        original: stays as it was.
        tensors: of `changed`; where they differ between layers that share their weights, these no longer do.
        pruning: what the student kept.
    """
    model, kept, first = copy.deepcopy(original), _kept(original, pruning), _first_names(original)
    if tensors.keys() <= set(first.values()):
        named = dict(original.named_parameters(remove_duplicate=False))
        kept = {first[id(named[name])]: cut for name, cut in kept.items() if name in named}
    else:
        separated(model)
    parameters = dict(model.named_parameters())
    with torch.no_grad():
        for name, tensor in tensors.items():
            if name in kept:
                axis, indices = kept[name]
                parameters[name].index_copy_(axis, indices, tensor)
            else:
                parameters[name].copy_(tensor)
    return model


def _first_names(original: PreTrainedModel) -> dict[int, str]:
    """By parameter its name, the first of several."""
    return {id(parameter): name for name, parameter in original.named_parameters()}


def _original_names(original: PreTrainedModel, pruning: Pruning) -> Any:
    """From a student's parameter names to the original's: layers that stayed were numbered anew."""
    layers = [parts.name for parts in Anatomy.of(original).layers]
    renamed = {f"{layers[place]}.": f"{layers[index]}." for place, index in enumerate(pruning.kept_layers)}

    def name_of(name: str) -> str:
        prefix = next((prefix for prefix in renamed if name.startswith(prefix)), None)
        return name if prefix is None else renamed[prefix] + name.removeprefix(prefix)

    return name_of


def _kept(original: PreTrainedModel, pruning: Pruning) -> dict[str, tuple[int, Tensor]]:
    """By parameter that pruning cuts: along which axis, and the indices that stay."""
    anatomy = Anatomy.of(original)
    size, cuts = anatomy.shape.head_size, dict[str, tuple[int, Tensor]]()
    for parts, units in zip(anatomy.layers, pruning.layers, strict=True):
        if units is not None:
            dimensions = torch.tensor([head * size + offset for head in units.heads for offset in range(size)])
            cuts |= _cuts(parts, dimensions, torch.tensor(units.neurons))
    return cuts


def _cuts(parts: LayerParts, dimensions: Tensor, neurons: Tensor) -> dict[str, tuple[int, Tensor]]:
    outputs = dict.fromkeys(parts.of_heads, dimensions) | dict.fromkeys(parts.of_neurons, neurons)
    inputs = {parts.attention_output: dimensions, parts.ffn_out: neurons}
    return {
        **{f"{name}.{kind}": (0, kept) for name, kept in outputs.items() for kind in ("weight", "bias")},
        **{f"{name}.weight": (1, kept) for name, kept in inputs.items()},
    }
