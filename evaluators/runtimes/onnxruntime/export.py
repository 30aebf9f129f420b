"""From a torch classifier to its ONNX graph. Knows the exporter and what it must not trace; knows no designs."""

import copy
import inspect
import io
import warnings
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import onnx
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from evaluators.anatomy import labels_words
from evaluators.runtimes.onnxruntime.graph import IDS, MASK, OPSET, STATES
from evaluators.sentence_encoder import SentenceEncoder
from evaluators.tasks.base import TYPES
from spaces.errors import ModelError

_ReadyMask: TypeAlias = Callable[[Tensor, Any], Any]

ROOT = "model"  # the scope of the model's own modules in node names
_BATCH, _TOKENS = "batch", "sequence"
_WAVE = 16_000  # samples


class _Text(nn.Module):
    """(B, T) ids and mask to (B, C) logits, handing over what the model would else compute with dozens of small nodes.

    Behind the head's own use of it, the mask goes in ready to be added to the scores, and the token types, unless there
    are any, as one id for all tokens: the results are equal bit by bit to those of
    `model(input_ids=..., attention_mask=...)`.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model
        takes = "token_type_ids" in inspect.signature(model.forward).parameters
        self._types = takes and getattr(model.config, "type_vocab_size", 0) > 0  # GPT-2 takes words for types
        model.base_model.register_forward_pre_hook(_with_ready_mask, with_kwargs=True)

    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None) -> Any:
        types = torch.zeros((1, 1), dtype=torch.int64) if token_type_ids is None else token_type_ids
        inputs = {TYPES: types} if self._types else {}
        found = self.model(input_ids=input_ids, attention_mask=attention_mask, **inputs)
        logits: Tensor = found.logits
        return (logits, found.hidden_states[-1]) if isinstance(self.model, SentenceEncoder) else logits


def _with_ready_mask(model: Any, arguments: Any, named: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    ready: _ReadyMask = _MASKS.get(model.config.model_type, _of_padding)
    return arguments, {**named, "attention_mask": ready(named["attention_mask"], model.config)}


def _of_padding(mask: Tensor, _: Any) -> Tensor:
    """(B, 1, 1, T), 0 at tokens and the lowest float at padding."""
    hidden = 1.0 - mask[:, None, None, :].to(torch.float32)
    return hidden * torch.finfo(torch.float32).min


def _of_windows(mask: Tensor, config: Any) -> dict[str, Tensor]:
    """For layers that see all tokens, and for those that see `sliding_window` to each side, (B, 1, T, T)."""
    places, everywhere = torch.arange(mask.shape[1]), _of_padding(mask, config)
    far = (places[:, None] - places).abs() > config.sliding_window  # (T, T)
    near = everywhere.masked_fill(far, torch.finfo(torch.float32).min)
    return {"full_attention": everywhere, "sliding_attention": near}


def _of_the_past(mask: Tensor, config: Any) -> Tensor:
    """Tokens see themselves and those before them, (B, 1, T, T)."""
    places = torch.arange(mask.shape[1])
    return _of_padding(mask, config).masked_fill(places[:, None] < places, torch.finfo(torch.float32).min)


# By type of model, what its layers want for a mask.
_MASKS: Mapping[str, _ReadyMask] = {
    "deberta-v2": lambda mask, _: mask,  # which embeddings are scaled by, too
    "gpt2": _of_the_past,
    "modernbert": _of_windows,
}


class _Values(nn.Module):
    """What a model reads that reads no tokens, such as pixels (B, channels, height, width) or waves (B, samples), to
    (B, C) logits."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, values: Tensor) -> Tensor:
        logits: Tensor = self.model(**{self.model.main_input_name: values}).logits
        return logits


def export(model: Any, *, types: bool = False) -> onnx.ModelProto:
    """The graph of a copy of `model` in fp32; nodes are named after modules: `/model/bert/pooler/dense/Gemm`.

    Inputs are `input_ids`, `attention_mask` and, if asked for, `token_type_ids` (int64, batch and sequence of any
    size), or `pixel_values` or `input_values` where the model takes images or sounds; the output is `logits`, of a
    classifier of words those of all tokens, and, of an encoder of sentences, the tokens' states (STATES), which loaders
    that pool by themselves ask for.

    Raises:
        ModelError: the model reads something else.
    """
    if model.main_input_name != IDS and model.main_input_name not in _EXAMPLES:
        raise ModelError(
            f"{type(model).__name__} reads {model.main_input_name}, onnxruntime models here read {IDS} or "
            f"{' or '.join(_EXAMPLES)}. Use runtime torch."
        )
    plain = with_plain_weights(copy.deepcopy(model).float().cpu().eval())
    plain.set_attn_implementation("eager")
    main = plain.main_input_name
    names = [IDS, MASK, *([TYPES] if types else [])] if main == IDS else [main]
    asked = _tokens(plain, types=types) if main == IDS else (_EXAMPLES[main](plain.config),)
    # Tokens and waves are of any length; pixels and spectrograms are of the model's own size.
    axes = {name: {0: _BATCH, 1: _TOKENS} if asked[0].ndim == 2 else {0: _BATCH} for name in names}
    outputs = {"logits": {0: _BATCH, 1: _TOKENS} if labels_words(plain) else {0: _BATCH}}
    outputs |= {STATES: {0: _BATCH, 1: _TOKENS}} if isinstance(plain, SentenceEncoder) else {}
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore"
        )  # the tracer warns of Python branches and of being legacy; contract tests check the graph
        torch.onnx.export(
            _Text(plain) if main == IDS else _Values(plain),
            asked,
            buffer,  # type: ignore[arg-type]  # with dynamo=False it may be a file object
            input_names=names,
            output_names=list(outputs),
            dynamic_axes={**axes, **outputs},
            opset_version=OPSET,
            dynamo=False,
        )
    return onnx.load_from_string(buffer.getvalue())


def with_plain_weights(model: nn.Module) -> Any:
    """`model`, in place, with weights as they are used where it keeps what they are computed from (weight norms).

    `remove_parametrizations` would also take them from models that this one was copied from: they share a class.
    """
    for module in list(model.modules()):
        if parametrize.is_parametrized(module):
            names: Any = module.parametrizations
            values = {name: getattr(module, name).detach().clone() for name in names}
            module.__class__ = parametrize.type_before_parametrizations(module)
            del module.parametrizations
            for name, value in values.items():
                module.register_parameter(name, nn.Parameter(value, requires_grad=False))
    return model


def _tokens(model: Any, *, types: bool) -> tuple[Tensor, ...]:
    ids = torch.arange(2 * 7).reshape(2, 7).clamp(max=model.config.vocab_size - 1)
    return ids, torch.ones_like(ids), *([torch.zeros_like(ids)] if types else [])


def _pixels(config: Any) -> Tensor:
    size = config.image_size
    height, width = size if isinstance(size, list | tuple) else (size, size)
    return torch.zeros(2, config.num_channels, height, width)


def _sound(config: Any) -> Tensor:
    """Of AST a spectrogram; of others a wave, of at least one token."""
    bins = getattr(config, "num_mel_bins", None)
    return torch.zeros(2, _WAVE) if bins is None else torch.zeros(2, config.max_length, bins)


# By the name of an input that is no tokens, one that a model can be traced with.
_EXAMPLES: Mapping[str, Callable[[Any], Tensor]] = {"pixel_values": _pixels, "input_values": _sound}
