"""Compression in torch: which tokens of a row a model reads. Knows grades and counts; knows no layers.

A hook in front of the model selects, so everything behind it has shorter rows. Definition: spaces/axes/compression.py.
"""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from evaluators.grades import SPECIAL, UNGRADED
from evaluators.transforms.base import build
from spaces.axes.compression import WHOLE, Compression
from spaces.errors import DesignError

GRADES = "paretoformer_grades"  # the buffer's name, in artefacts too
_PERCENT = "paretoformer_percent"


@dataclass(frozen=True, eq=False)
class Selected:
    """What stays of B rows, K tokens of the fullest.

    Args:
        places: of the tokens that stay, ascending, (B, K); the last token's where a row has fewer.
        mask: 1 at tokens, 0 behind them, (B, K).
    """

    places: Tensor
    mask: Tensor

    def of(self, values: Tensor) -> Tensor:
        """Those of `values` (B, T, ...), (B, K, ...)."""
        places = self.places.reshape(*self.places.shape, *[1] * (values.ndim - 2))
        return values.gather(1, places.expand(*self.places.shape, *values.shape[2:]))


def graded(model: PreTrainedModel, grades: Tensor) -> PreTrainedModel:
    """A copy of `model` that knows how significant each token is, (V,) of uint8, and reads all of them."""
    built = copy.deepcopy(model)
    built.register_buffer(GRADES, grades)
    return built


@build.register
def build_compressed(config: Compression, model: PreTrainedModel) -> PreTrainedModel:
    """A copy of `model` that reads a share of its tokens; `model` itself where it reads all.

    Raises:
        DesignError: `model` does not know which of them are significant.
    """
    if config.level == WHOLE:
        return model
    if not hasattr(model, GRADES):
        raise DesignError(f"The design reads {config.percent} % of the tokens, {UNGRADED}")
    built = copy.deepcopy(model)
    setattr(built, _PERCENT, config.percent)
    built.register_forward_pre_hook(_before, with_kwargs=True)
    return built


def selected(model: nn.Module, inputs: Mapping[str, Tensor]) -> Selected | None:
    """What `model` reads of padded `inputs`, each (B, T); None: all of it."""
    percent: int | None = getattr(model, _PERCENT, None)
    if percent is None:
        return None
    mask = inputs["attention_mask"]
    grade = model.get_buffer(GRADES)[inputs["input_ids"]].long() * mask  # (B, T), padding 0
    share = (mask.sum(1, keepdim=True) * percent + 99) // 100
    count = torch.maximum(share, (grade == SPECIAL).sum(1, keepdim=True))  # (B, 1)
    length, most = mask.shape[1], int(count.max())
    order = grade * length - mask.cumsum(1)  # no two of a row are alike: the earlier of one grade comes first
    best = order.topk(most, dim=1).indices  # (B, K)
    valid = torch.arange(most, device=mask.device) < count
    places = torch.where(valid, best, length - 1).sort(dim=1).values
    return Selected(places, valid.long())


def _before(model: nn.Module, arguments: tuple[Any, ...], named: dict[str, Any]) -> tuple[Any, ...]:
    """A hook in front of a model that is called by the names of its inputs."""
    assert not arguments, "inputs are given by name"
    found = selected(model, named)
    assert found is not None, "the hook came with a percentage"
    padding = getattr(model.config, "pad_token_id", None) or 0
    rows = {name: found.of(values) for name, values in named.items() if name in ("input_ids", "token_type_ids")}
    rows["input_ids"] = torch.where(found.mask.bool(), rows["input_ids"], padding)
    return (), {**named, **rows, "attention_mask": found.mask}
