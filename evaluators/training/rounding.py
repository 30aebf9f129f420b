"""Training with weights in few bits. Knows the runtime's rounding as torch arithmetic; knows no losses and no files.

The student computes with rounded numbers, and gradients pass through the rounding as if it were the identity
(straight-through: Bengio et al. 2013, arXiv 1308.3432). What is trained are the weights in fp32 behind them.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrize
from transformers import PreTrainedModel

from evaluators.anatomy import layer_names, linear, tables
from evaluators.codebook import Codebook
from evaluators.relative_attention import DISTANCE_PROJECTIONS
from spaces.axes.quantization import Quantization
from spaces.axes.rare import RareTokens

# These follow what the onnxruntime artefact does; tests hold the two together.
SMALLEST_HEAD = 16  # outputs; narrower linears of the head stay in fp32
_LARGEST_BLOCK = 128
_SMALLEST_BLOCK = 16


@dataclass(frozen=True)
class Rounding:
    """Which weights are in few bits.

    Inputs of linears are rounded as they come. An artefact that smooths them is nearer to the student in fp32.

    Args:
        linears: by dotted name of an nn.Linear, 8 (a scale per output; what enters is in 8 bits too) or 4 (a scale per
            block of inputs).
        tables: by dotted name of an nn.Embedding, 8 or 4 (a scale per block of a row).
        shared: likewise, of which some rows are put together from shared parts.
    """

    linears: Mapping[str, int]
    tables: Mapping[str, int]
    shared: Mapping[str, "SharedRows"] = field(default_factory=dict)

    @classmethod
    def of(cls, widths: Quantization, student: PreTrainedModel, kept: Sequence[int]) -> "Rounding":
        """The rounding that `widths` mean for a pruned model.

        Args:
            widths: of the whole model's parts.
            student: the pruned model; blocks may be gone.
            kept: indices, in the whole model, of the student's layers.
        """
        linears: dict[str, int | None] = {}
        layers = layer_names(student)
        for name, index in zip(layers, kept, strict=True):
            bits = widths.layers[index]
            if bits is not None:
                attention, ffn = _blocks(student, name)
                linears |= dict.fromkeys(attention, bits.attention) | dict.fromkeys(ffn, bits.ffn)
        linears |= dict.fromkeys(_head(student, layers), widths.head)
        return cls(
            {name: bits for name, bits in linears.items() if bits is not None and bits < 32},
            dict.fromkeys(tables(student), widths.embeddings) if widths.embeddings < 32 else {},
        )

    @contextmanager
    def applied(self, model: nn.Module) -> Iterator[None]:
        """Inside, `model` computes with rounded numbers; afterwards with its own in fp32."""
        entering = _RoundedInput()
        with ExitStack() as undo:
            for name, bits in self.linears.items():
                module = linear(model, name)
                parametrize.register_parametrization(module, "weight", _Rounded(bits))
                undo.callback(parametrize.remove_parametrizations, module, "weight", leave_parametrized=False)
                if bits == 8:
                    undo.callback(module.register_forward_pre_hook(entering).remove)
            for name, bits in self.tables.items():
                undo.callback(model.get_submodule(name).register_forward_hook(_RoundedRows(bits)).remove)
            for name, rows in self.shared.items():
                undo.callback(model.get_submodule(name).register_forward_hook(rows).remove)
            yield


@dataclass(frozen=True, eq=False)
class SharedRows:
    """A forward hook of a table: some rows are others than its own, whatever training does to those.

    Args:
        which: whether a row is, (V,).
        rows: what it is then, (V, D); anything elsewhere.
    """

    which: Tensor
    rows: Tensor

    @classmethod
    def of(cls, rare: RareTokens, ranking: Sequence[int], book: Codebook) -> "SharedRows":
        """Rows of rare words as an artefact puts them together.

        Args:
            rare: how many rows stay exact.
            ranking: ids of tokens, most needed first.
            book: parts of all others.
        """
        which = torch.ones(len(book.codes), dtype=torch.bool)
        which[list(ranking[: rare.exact])] = False
        return cls(which, torch.from_numpy(book.rows()).half().float())

    def __call__(self, module: nn.Module, arguments: tuple[Tensor, ...], found: Tensor) -> Tensor:
        (ids,) = arguments  # (B, T)
        which, rows = self.which.to(found.device), self.rows.to(found.device, found.dtype)
        return torch.where(which[ids].unsqueeze(-1), rows[ids], found)


def _blocks(student: PreTrainedModel, layer: str) -> tuple[list[str], list[str]]:
    """Linears of a layer's attention and of its FFN, as far as they are left: each all or none."""
    names = [f"{layer}.{name}" for name, module in student.get_submodule(layer).named_modules() if _is_linear(module)]
    further = sum(name.endswith(DISTANCE_PROJECTIONS) for name in names)
    attention = (len(names) - further) // 4 * 4 + further  # four of attention, two or three of the FFN
    return names[:attention], names[attention:]


def _head(student: PreTrainedModel, layers: Sequence[str]) -> list[str]:
    """Linears behind the last layer that are wide enough."""
    modules = dict(student.named_modules())
    names = list(modules)
    behind = names[names.index(layers[-1]) :] if layers else []
    return [
        name
        for name in behind
        if not name.startswith(f"{layers[-1]}.")
        and _is_linear(modules[name])
        and linear(student, name).out_features >= SMALLEST_HEAD
    ]


def _is_linear(module: nn.Module) -> bool:
    return isinstance(module, nn.Linear)


class _Rounded(nn.Module):
    """The parametrization of a linear's weight."""

    def __init__(self, bits: int) -> None:
        super().__init__()
        self.rounded: Callable[[Tensor], Tensor] = by_output if bits == 8 else partial(by_block, bits=bits)

    def forward(self, weight: Tensor) -> Tensor:
        return straight_through(weight, self.rounded)


class _RoundedInput:
    """A hook in front of linears; query, key and value have the same input, which is rounded once."""

    def __init__(self) -> None:
        self._last: tuple[Tensor | None, Tensor | None] = None, None

    def __call__(self, module: nn.Module, arguments: tuple[Tensor, ...]) -> Tensor | None:
        (entering,) = arguments
        if entering is not self._last[0]:
            self._last = entering, straight_through(entering, by_range)
        return self._last[1]


@dataclass(frozen=True)
class _RoundedRows:
    """A forward hook of a table: no scale spans two rows, so rounding those looked up is rounding all of them."""

    bits: int

    def __call__(self, module: nn.Module, arguments: object, found: Tensor) -> Tensor:
        rows = found.flatten(0, -2)  # (B * T, width)
        return straight_through(rows, partial(by_block, bits=self.bits)).reshape(found.shape)


def straight_through(values: Tensor, rounded: Callable[[Tensor], Tensor]) -> Tensor:
    """`rounded(values)`, with the gradient of the identity."""
    result: Tensor = _StraightThrough.apply(values, rounded)  # type: ignore[no-untyped-call]
    return result


class _StraightThrough(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, rounded: Callable[[Tensor], Tensor]) -> Tensor:
        return rounded(values)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient, None


def by_output(weight: Tensor) -> Tensor:
    """What is left of a linear's weight (N, K) in 8 bits: symmetric, a scale per output."""
    largest = weight.abs().amax(1, keepdim=True)  # (N, 1)
    scales = torch.where(largest > 0, largest / 127, 1)
    return (weight / scales).round_().mul_(scales)


def by_block(rows: Tensor, bits: int) -> Tensor:
    """What is left of rows (N, K) in 8 or 4 bits: symmetric, a scale per block; in 4 bits the extreme becomes -8."""
    count, length = rows.shape
    block = min(_LARGEST_BLOCK, max(_SMALLEST_BLOCK, 1 << (length - 1).bit_length()))
    blocks, zero = -(-length // block), 1 << (bits - 1)
    grouped = functional.pad(rows, (0, blocks * block - length)).reshape(count, blocks, block)
    if bits == 4:
        low, high = grouped.aminmax(dim=2, keepdim=True)
        scales = torch.where(high > -low, high, low) / -zero  # (N, blocks, 1)
    else:
        scales = grouped.abs().amax(2, keepdim=True) / (zero - 1)
    inverse = torch.where(scales != 0, 1 / scales, 0)
    codes = (grouped * inverse).round_().clamp_(-zero, zero - 1)
    return codes.mul_(scales).reshape(count, -1)[:, :length]


def by_range(inputs: Tensor) -> Tensor:
    """What is left of activations (B, ..., K) in 8 bits: ONNX's DynamicQuantizeLinear of each row by itself.

    An artefact takes a range per batch; batches of one are what it mostly runs at.
    """
    low, high = inputs.flatten(1).float().aminmax(dim=1)  # (B,) each
    low, high = (edge.view(-1, *[1] * (inputs.ndim - 1)) for edge in (low.clamp(max=0), high.clamp(min=0)))
    scale = torch.where(high > low, (high - low) / 255, 1)
    zero = (-low / scale).round()
    return (inputs / scale).round_().add_(zero).clamp_(0, 255).sub_(zero).mul_(scale)
