"""From a torch classifier to its ONNX graph. Knows the exporter and what it must not trace; knows no designs."""

import copy
import inspect
import io
import warnings
from typing import Any

import onnx
import torch
from torch import Tensor, nn

from evaluators.runtimes.onnxruntime.graph import OPSET
from evaluators.tasks.base import TYPES

ROOT = "model"  # the scope of the model's own modules in node names
_BATCH, _TOKENS = "batch", "sequence"


class _Text(nn.Module):
    """(B, T) ids and mask to (B, C) logits, handing over what the model would else compute with dozens of small nodes.

    The mask goes in ready to be added to the scores, and the token types, unless there are any, as one id for all
    tokens: the results are equal bit by bit to those of `model(input_ids=..., attention_mask=...)`.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model
        self._types = "token_type_ids" in inspect.signature(model.forward).parameters

    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None) -> Tensor:
        hidden = 1.0 - attention_mask[:, None, None, :].to(torch.float32)  # (B, 1, 1, T)
        types = torch.zeros((1, 1), dtype=torch.int64) if token_type_ids is None else token_type_ids
        inputs = {TYPES: types} if self._types else {}
        logits: Tensor = self.model(
            input_ids=input_ids, attention_mask=hidden * torch.finfo(torch.float32).min, **inputs
        ).logits
        return logits


class _Image(nn.Module):
    """Pixels (B, channels, height, width) to (B, C) logits."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixel_values: Tensor) -> Tensor:
        logits: Tensor = self.model(pixel_values=pixel_values).logits
        return logits


def export(model: Any, *, types: bool = False) -> onnx.ModelProto:
    """The graph of a copy of `model` in fp32; nodes are named after modules: `/model/bert/pooler/dense/Gemm`.

    Inputs are `input_ids`, `attention_mask` and, if asked for, `token_type_ids` (int64, batch and sequence of any
    size), or `pixel_values` where the
    model takes images; the output is `logits`.
    """
    plain = copy.deepcopy(model).float().cpu().eval()
    plain.set_attn_implementation("eager")
    names = ["pixel_values"] if plain.main_input_name == "pixel_values" else ["input_ids", "attention_mask"]
    names += [TYPES] if types else []
    image = names == ["pixel_values"]
    axes = {name: {0: _BATCH} if image else {0: _BATCH, 1: _TOKENS} for name in names}
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore"
        )  # the tracer warns of Python branches and of being legacy; contract tests check the graph
        torch.onnx.export(
            _Image(plain) if image else _Text(plain),
            _pixels(plain) if image else _tokens(plain, types=types),
            buffer,  # type: ignore[arg-type]  # with dynamo=False it may be a file object
            input_names=names,
            output_names=["logits"],
            dynamic_axes={**axes, "logits": {0: _BATCH}},
            opset_version=OPSET,
            dynamo=False,
        )
    return onnx.load_from_string(buffer.getvalue())


def _tokens(model: Any, *, types: bool) -> tuple[Tensor, ...]:
    ids = torch.arange(2 * 7).reshape(2, 7).clamp(max=model.config.vocab_size - 1)
    return ids, torch.ones_like(ids), *([torch.zeros_like(ids)] if types else [])


def _pixels(model: Any) -> tuple[Tensor]:
    size = model.config.image_size
    height, width = size if isinstance(size, list | tuple) else (size, size)
    return (torch.zeros(2, model.config.num_channels, height, width),)
