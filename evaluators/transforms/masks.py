"""Gates with gradients. Knows where heads, neurons, blocks and layers meet the residual stream; knows no losses.

Setting gates to 0 computes what slicing the same units away computes (transforms/prune.py), at the full cost.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from evaluators.anatomy import Anatomy, linear, states
from spaces.axes.pruning import Pruning
from spaces.shape import ModelShape


@dataclass(frozen=True, eq=False)
class Masks:
    """One gate per unit: 1 leaves it as it is, 0 takes it away. L layers, H heads, F neurons.

    Every gate may have its own value per example: then a batch axis B follows the layer axis.

    Args:
        heads: (L, H) or (L, B, H); scale a head's context before the output projection.
        neurons: (L, F) or (L, B, F); scale a neuron after its activation.
        attention: (L,) or (L, B); scale what the attention block adds to the residual stream, bias included.
        ffn: (L,) or (L, B); the same of the FFN block.
        layers: (L,) or (L, B); between a layer's output (1) and its input (0).
    """

    heads: Tensor
    neurons: Tensor
    attention: Tensor
    ffn: Tensor
    layers: Tensor

    @classmethod
    def ones(cls, shape: ModelShape, *, batch: int | None = None, device: torch.device | str = "cpu") -> "Masks":
        """Nothing masked; with a batch axis if `batch` is given."""
        lead = (shape.layers,) if batch is None else (shape.layers, batch)

        def gates(*units: int) -> Tensor:
            return torch.ones(*lead, *units, device=device)

        return cls(gates(shape.heads), gates(shape.ffn), gates(), gates(), gates())

    @classmethod
    def of(cls, pruning: Pruning, shape: ModelShape, *, device: torch.device | str = "cpu") -> "Masks":
        """0 where `pruning` removes, 1 where it keeps."""
        heads, neurons = torch.zeros(shape.layers, shape.heads), torch.zeros(shape.layers, shape.ffn)
        attention, ffn, layers = torch.zeros(shape.layers), torch.zeros(shape.layers), torch.zeros(shape.layers)
        for index, units in enumerate(pruning.layers):
            if units is not None:
                heads[index, list(units.heads)] = 1
                neurons[index, list(units.neurons)] = 1
                attention[index], ffn[index], layers[index] = bool(units.heads), bool(units.neurons), 1
        return cls(*(gates.to(device) for gates in (heads, neurons, attention, ffn, layers)))

    def per_example(self, batch: int) -> "Masks":
        """The same gates, each example with its own: (L, ...) to (L, B, ...)."""
        gates = (self.heads, self.neurons, self.attention, self.ffn, self.layers)
        return Masks(*(each[:, None].repeat(1, batch, *[1] * (each.ndim - 1)) for each in gates))


@contextmanager
def masked(model: PreTrainedModel, masks: Masks) -> Iterator[None]:
    """Inside, `model` computes with `masks` (of its own shape, on its device); afterwards it is as it was."""
    with ExitStack() as hooks:
        for index, parts in enumerate(Anatomy.of(model).layers):
            output, ffn_out = linear(model, parts.attention_output), linear(model, parts.ffn_out)
            for handle in (
                output.register_forward_pre_hook(_Heads(masks.heads[index])),
                output.register_forward_hook(_Block(masks.attention[index])),
                ffn_out.register_forward_pre_hook(_Neurons(masks.neurons[index])),
                ffn_out.register_forward_hook(_Block(masks.ffn[index])),
                model.get_submodule(parts.name).register_forward_hook(_Layer(masks.layers[index])),
            ):
                hooks.callback(handle.remove)
        yield


@dataclass(frozen=True, eq=False)
class _Heads:
    gates: Tensor  # (H,) or (B, H)

    def __call__(self, module: object, args: tuple[Tensor, ...]) -> Tensor:
        (context,) = args  # (B, T, H * d)
        by_head = context.reshape(*context.shape[:-1], self.gates.shape[-1], -1)  # (B, T, H, d)
        return (by_head * self.gates[..., None, :, None]).flatten(-2)


@dataclass(frozen=True, eq=False)
class _Neurons:
    gates: Tensor  # (F,) or (B, F)

    def __call__(self, module: object, args: tuple[Tensor, ...]) -> Tensor:
        (activations,) = args  # (B, T, F)
        return activations * self.gates[..., None, :]


@dataclass(frozen=True, eq=False)
class _Block:
    gate: Tensor  # () or (B,)

    def __call__(self, module: object, args: object, share: Tensor) -> Tensor:
        return share * self.gate[..., None, None]  # (B, T, hidden)


@dataclass(frozen=True, eq=False)
class _Layer:
    gate: Tensor  # () or (B,)

    def __call__(self, module: object, args: tuple[Any, ...], output: Any) -> Any:
        gate = self.gate[..., None, None]
        hidden: Tensor = args[0]
        mixed = states(output) * gate + hidden * (1 - gate)  # (B, T, hidden)
        return (mixed, *output[1:]) if isinstance(output, tuple) else mixed
