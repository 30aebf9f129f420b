"""Attention kinds in torch: which keys a query attends to. Knows scores and masks; knows no layers' weights.

One function stands in for the model's own in all layers (transformers' `AttentionInterface`); what a layer does is
written on its attention module. Definitions: spaces/axes/attention.py.
"""

import copy
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.masking_utils import eager_mask

from evaluators.anatomy import attention_names
from evaluators.transforms.base import build
from spaces.axes.attention import HARD, NONE, SIGN, SOFT, Attention, AttentionKind
from spaces.errors import DesignError, ModelError

_IMPLEMENTATION = "paretoformer"
_KIND = "paretoformer_kind"


@build.register
def build_attending(config: Attention, model: PreTrainedModel) -> PreTrainedModel:
    """A copy of `model` whose layers attend as `config` says; `model` itself where all are soft.

    Raises:
        DesignError: `config` speaks of another number of layers.
        ModelError: the model's attention cannot be replaced.
    """
    kinds = [kind for kind in config.layers if kind is not None and kind.name != NONE]
    if all(kind.name == SOFT for kind in kinds):
        return model
    check_replaceable(model)
    built = copy.deepcopy(model)
    names = attention_names(built)
    if len(names) != len(kinds):
        raise DesignError(
            f"The design says how {len(kinds)} layers attend, the model has {len(names)} that do. "
            "Decode it for this model."
        )
    for name, kind in zip(names, kinds, strict=True):
        setattr(built.get_submodule(name), _KIND, kind)
    built.set_attn_implementation(_IMPLEMENTATION)
    return built


def check_replaceable(model: PreTrainedModel) -> None:
    """Refuse families without transformers' attention interface.

    Raises:
        ModelError: the model computes attention in a way of its own (DeBERTa).
    """
    if not model._can_set_attn_implementation():
        raise ModelError(
            "Attention kinds other than soft need an attention that can be replaced, "
            f"found {type(model).__name__}, which computes its own. Leave attention out of the space."
        )


def attends_softly(model: PreTrainedModel) -> bool:
    """Whether all layers attend as in the original, so that any implementation will do."""
    return str(model.config._attn_implementation) != _IMPLEMENTATION


def kept_of_largest(values: Tensor, k: int) -> Tensor:
    """Which of the last axis are as large as its k-th largest, of the shape of `values`."""
    return values >= values.topk(min(k, values.shape[-1]), dim=-1).values[..., -1:]


def sign_matches(query: Tensor, key: Tensor) -> Tensor:
    """How well signs match, (B, H, Q, K): by matching signs, of equal matches the earlier key; no two alike.

    Args:
        query: (B, H, Q, D).
        key: (B, H, K, D).
    """
    signs = (_signs(query) @ _signs(key).transpose(-1, -2)).float()  # half precision has no room for the places
    keys = key.shape[-2]
    return signs * keys - torch.arange(keys, device=key.device)


def _signs(values: Tensor) -> Tensor:
    return torch.where(values < 0, -1.0, 1.0)


def _attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **_: Any,
) -> tuple[Tensor, Tensor]:
    """Context (B, Q, H, D) and probabilities (B, H, Q, K), as transformers' attention functions return them."""
    kind: AttentionKind = getattr(module, _KIND, AttentionKind(SOFT))
    most = kind.k or key.shape[-2]
    scores = query @ key.transpose(-1, -2) * (query.shape[-1] ** -0.5 if scaling is None else scaling)
    hidden = 0.0 if attention_mask is None else attention_mask
    scores = scores + hidden
    if kind.name == SIGN:
        kept = kept_of_largest(sign_matches(query, key) + hidden, most)
        scores = scores.masked_fill(~kept, torch.finfo(scores.dtype).min)
    probabilities = scores.softmax(-1)
    if kind.name == HARD:
        probabilities = probabilities.masked_fill(~kept_of_largest(probabilities, most), 0.0)
    probabilities = nn.functional.dropout(probabilities, p=dropout, training=module.training)
    return (probabilities @ value).transpose(1, 2).contiguous(), probabilities


AttentionInterface.register(_IMPLEMENTATION, _attend)
AttentionMaskInterface.register(_IMPLEMENTATION, eager_mask)
