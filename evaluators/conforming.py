"""Families whose layers are not six plain linears, rewritten so that they are. Knows their modules; knows no cuts.

A conformed model answers as before, and every consumer of anatomy.py sees plain linears. What `save_pretrained` shall
write is the family's own state dict: `published` puts it together again.
"""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

_QUERY_KEY_VALUE = ("query", "key", "value")


class Joined(nn.Module):
    """Linears whose outputs come out side by side, in place of the one that had the rows of all.

    Args:
        whole: the one, (in, n * out).
        names: of the n linears.
    """

    def __init__(self, whole: nn.Linear, names: Sequence[str]) -> None:
        super().__init__()
        weights = whole.weight.detach().chunk(len(names))
        biases = [None] * len(names) if whole.bias is None else whole.bias.detach().chunk(len(names))
        for name, weight, bias in zip(names, weights, biases, strict=True):
            self.add_module(name, _linear(weight, bias))

    def forward(self, hidden: Tensor) -> Tensor:
        return torch.cat([linear(hidden) for linear in self.children()], dim=-1)


def conform(model: PreTrainedModel) -> PreTrainedModel:
    """Rewrite `model` in place where its family needs it; any other stays as it is."""
    for module in list(model.modules()):
        rewrite = _ROWS.get(type(module).__name__)
        if rewrite is not None:
            rewrite(module)
    return model


def published(model: PreTrainedModel) -> dict[str, Tensor]:
    """The state dict of an uncut model as its family publishes it."""
    state: dict[str, Tensor] = model.state_dict()
    for name, module in model.named_modules():
        if isinstance(module, Joined):
            parts = [inner for inner, _ in module.named_children()]
            for kind in ("weight", "bias"):
                if f"{name}.{parts[0]}.{kind}" in state:
                    state[f"{name}.{kind}"] = torch.cat([state.pop(f"{name}.{part}.{kind}") for part in parts])
    return state


def _linear(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    """A linear of these values, (out, in) and (out,)."""
    made = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None, device="meta")
    made.weight = nn.Parameter(weight.clone())
    if bias is not None:
        made.bias = nn.Parameter(bias.clone())
    return made


def _split(module: nn.Module, name: str, names: Sequence[str]) -> None:
    whole = module.get_submodule(name)
    if isinstance(whole, nn.Linear):
        module.set_submodule(name, Joined(whole, names))


# By class name of a module, how it is rewritten.
_ROWS: Mapping[str, Callable[[nn.Module], None]] = {
    "ModernBertAttention": lambda module: _split(module, "Wqkv", _QUERY_KEY_VALUE),
    "ModernBertMLP": lambda module: _split(module, "Wi", ("into", "gate")),
}
