"""Families whose layers are not six plain linears, rewritten so that they are. Knows their modules; knows no cuts.

A conformed model answers as before, and every consumer of anatomy.py sees plain linears. What `save_pretrained` shall
write is the family's own state dict: `published` puts it together again.
"""

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput
from transformers.pytorch_utils import Conv1D

from evaluators.relative_attention import RelativeAttention
from spaces.errors import ModelError

_QUERY_KEY_VALUE = ("query", "key", "value")


class Turned(nn.Linear):
    """A linear in place of a `Conv1D`, which has the same weight with its axes exchanged."""

    @classmethod
    def of(cls, conv: Conv1D) -> "Turned":
        made = cls(conv.nx, conv.nf, device="meta")
        made.weight, made.bias = nn.Parameter(conv.weight.detach().T.contiguous()), conv.bias
        return made

    def published(self, name: str, state: dict[str, Tensor]) -> None:
        """Exchange the axes in `state`, where the weight is under `name`."""
        state[f"{name}.weight"] = state[f"{name}.weight"].T.contiguous()


class Joined(nn.Module):
    """Linears whose outputs come out side by side, in place of the one that had the rows of all.

    Args:
        whole: the one, (in, n * out).
        names: of the n linears.
    """

    def __init__(self, whole: nn.Linear, names: Sequence[str]) -> None:
        super().__init__()
        self.turned = isinstance(whole, Turned)
        weights = whole.weight.detach().chunk(len(names))
        biases = [None] * len(names) if whole.bias is None else whole.bias.detach().chunk(len(names))
        for name, weight, bias in zip(names, weights, biases, strict=True):
            self.add_module(name, _linear(weight, bias))

    def forward(self, hidden: Tensor) -> Tensor:
        return torch.cat([linear(hidden) for linear in self.children()], dim=-1)

    def published(self, name: str, state: dict[str, Tensor]) -> None:
        """Put the one together again in `state`, where the linears are under `name`."""
        parts = [inner for inner, _ in self.named_children()]
        for kind in ("weight", "bias"):
            if f"{name}.{parts[0]}.{kind}" in state:
                state[f"{name}.{kind}"] = torch.cat([state.pop(f"{name}.{part}.{kind}") for part in parts])
        if self.turned:
            state[f"{name}.weight"] = state[f"{name}.weight"].T.contiguous()


class Unrolled(nn.Module):
    """ALBERT's stack with a module for every position, where one stood for several; these share their weights.

    Args:
        stack: `AlbertTransformer` whose groups are of one layer each.
    """

    def __init__(self, stack: nn.Module) -> None:
        super().__init__()
        config: Any = stack.config
        self.embedding_hidden_mapping_in = stack.get_submodule("embedding_hidden_mapping_in")
        per_group = config.num_hidden_layers / config.num_hidden_groups
        self.groups = tuple(int(place / per_group) for place in range(config.num_hidden_layers))
        self.layers = nn.ModuleList(
            _sharing_copy(stack.get_submodule(f"albert_layer_groups.{group}.albert_layers.0")) for group in self.groups
        )

    def forward(self, hidden: Tensor, attention_mask: Tensor | None = None, **named: Any) -> BaseModelOutput:
        hidden = self.embedding_hidden_mapping_in(hidden)
        for layer in self.layers:
            hidden = layer(hidden, attention_mask, **named)
        return BaseModelOutput(last_hidden_state=hidden)

    def published(self, name: str, state: dict[str, Tensor]) -> None:
        """Put the layers in `state` back where their groups have them."""
        for place, group in enumerate(self.groups):
            own = f"{name}.layers.{place}."
            for key in [key for key in state if key.startswith(own)]:
                inner = key.removeprefix(own)
                state[f"{name}.albert_layer_groups.{group}.albert_layers.0.{inner}"] = state.pop(key)


class Layers(nn.ModuleList):
    """A list of which a loop runs once if nothing is left: DeBERTa's returns what its last layer returned."""

    def __iter__(self) -> Iterator[Any]:
        return super().__iter__() if len(self) else iter([lambda hidden, *_, **__: (hidden, None)])


def conform(model: PreTrainedModel) -> PreTrainedModel:
    """Rewrite `model` in place where its family needs it; any other stays as it is."""
    for name, module in list(model.named_modules()):
        rewrite = _ROWS.get(type(module).__name__)
        if rewrite is not None:
            rewrite(model, name)
    return model


def published(model: PreTrainedModel) -> dict[str, Tensor]:
    """The state dict of an uncut model as its family publishes it."""
    state: dict[str, Tensor] = model.state_dict()
    for name, module in model.named_modules():
        if isinstance(module, Turned | Joined | Unrolled):
            module.published(name, state)
    return state


def rewritten(model: PreTrainedModel) -> bool:
    """Whether `conform` put modules into `model` that its family does not have."""
    ours = Turned, Joined, Unrolled, Layers, RelativeAttention
    return any(isinstance(module, ours) for module in model.modules())


def separated(model: PreTrainedModel) -> PreTrainedModel:
    """Give all modules of `model`, in place, weights of their own where they share them."""
    first = dict(model.named_parameters())
    for name, parameter in list(model.named_parameters(remove_duplicate=False)):
        if name not in first:
            owner, _, own = name.rpartition(".")
            setattr(model.get_submodule(owner), own, nn.Parameter(parameter.detach().clone(), parameter.requires_grad))
    return model


def _sharing_copy(module: nn.Module) -> nn.Module:
    """A module of the same parameters and configuration."""
    shared = [*module.parameters(), *(inner.config for inner in module.modules() if hasattr(inner, "config"))]
    return copy.deepcopy(module, {id(one): one for one in shared})


def _linear(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    """A linear of these values, (out, in) and (out,)."""
    made = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None, device="meta")
    made.weight = nn.Parameter(weight.clone())
    if bias is not None:
        made.bias = nn.Parameter(bias.clone())
    return made


def _split(model: nn.Module, name: str, names: Sequence[str]) -> None:
    whole = model.get_submodule(name)
    if isinstance(whole, nn.Linear):
        model.set_submodule(name, Joined(whole, names))


def _unroll(model: nn.Module, name: str) -> None:
    stack = model.get_submodule(name)
    if stack.config.inner_group_num == 1:  # type: ignore[union-attr]
        model.set_submodule(name, Unrolled(stack))


def _turn(model: nn.Module, name: str) -> None:
    conv = model.get_submodule(name)
    if isinstance(conv, Conv1D):
        model.set_submodule(name, Turned.of(conv))


def _gpt2_attention(model: nn.Module, name: str) -> None:
    _turn(model, f"{name}.c_attn")
    _turn(model, f"{name}.c_proj")
    _split(model, f"{name}.c_attn", _QUERY_KEY_VALUE)


def _gpt2_mlp(model: nn.Module, name: str) -> None:
    _turn(model, f"{name}.c_fc")
    _turn(model, f"{name}.c_proj")


def _without_cache(model: nn.Module, name: str) -> None:
    """A classifier reads each row once."""
    model.get_submodule(name).config.use_cache = False  # type: ignore[union-attr]


def _deberta(model: nn.Module, name: str) -> None:
    """Also says which modules yield hidden states and attention, which this family does not."""
    encoder = model.get_submodule(f"{name}.encoder" if name else "encoder")
    if getattr(encoder, "conv", None) is not None:
        raise ModelError(
            f"{type(model).__name__} has a convolution beside its first layer (conv_kernel_size), which cannot be cut. "
            "Use a DeBERTa without, such as the v3 models."
        )
    for module in encoder.modules():
        if type(module).__name__ == "DebertaV2Attention":
            attention = module.get_submodule("self")
            module.self = attention if isinstance(attention, RelativeAttention) else RelativeAttention(attention)
    layers = encoder.get_submodule("layer")
    encoder.layer = Layers(layers)  # type: ignore[arg-type]
    model._can_record_outputs = {"hidden_states": type(layers[0]), "attentions": RelativeAttention}  # type: ignore


def _last_state_alone(model: nn.Module, name: str) -> None:
    if model.get_submodule(name).config.use_weighted_layer_sum:  # type: ignore[union-attr]
        raise ModelError(
            f"The head of {type(model).__name__} reads a sum of all layers (use_weighted_layer_sum), so none can go. "
            "Use a checkpoint whose head reads the last layer."
        )


# By class name of a module, how it is rewritten in the model where it has that dotted name.
_ROWS: Mapping[str, Callable[[nn.Module, str], None]] = {
    "AlbertTransformer": _unroll,
    "DebertaV2Model": _deberta,
    "GPT2Attention": _gpt2_attention,
    "GPT2MLP": _gpt2_mlp,
    "GPT2Model": _without_cache,
    "ModernBertAttention": lambda model, name: _split(model, f"{name}.Wqkv", _QUERY_KEY_VALUE),
    "Wav2Vec2ForSequenceClassification": _last_state_alone,
    "ModernBertMLP": lambda model, name: _split(model, f"{name}.Wi", ("into", "gate")),
}
