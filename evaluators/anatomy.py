"""Where a model keeps its layers, tables and head. Knows module trees; knows nothing of pruning or bits."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from transformers import PreTrainedModel

from spaces.errors import ModelError
from spaces.shape import ModelShape

# Tables of fewer rows (token types) are not worth a width of their own.
SMALLEST_TABLE = 16
_CURE = (
    "Use a family whose layers are linears: BERT, DistilBERT, RoBERTa, ELECTRA, ALBERT, ModernBERT, DeBERTa-v2 or v3, "
    "GPT-2, ViT, DeiT, AST or wav2vec2."
)
_DISTANCES = ".rel_embeddings"  # the end of the name of a table that is read whole (DeBERTa)
_ORDER = "qkv"  # initials of query, key and value, which wav2vec2 registers in another order
_GATE = ".gate"  # the end of the name of a linear whose outputs scale the neurons (conforming.py)


@dataclass(frozen=True)
class LayerParts:
    """Dotted module names of one transformer layer.

    Args:
        name: the layer itself.
        attention: the module that computes self-attention; it returns (context or block output, weights).
        query, key, value: linears (hidden, heads * head_size).
        attention_output: linear (heads * head_size, hidden); returns what the block adds to the residual stream.
        ffn_in: linear (hidden, ffn).
        ffn_out: linear (ffn, hidden); returns what the block adds to the residual stream.
        gate: linear (hidden, ffn) whose outputs scale the neurons, where there is one.
        positions: linears (hidden, heads * head_size) that embedded distances go through (DeBERTa); query and key may
            be among them.
    """

    name: str
    attention: str
    query: str
    key: str
    value: str
    attention_output: str
    ffn_in: str
    ffn_out: str
    gate: str | None = None
    positions: tuple[str, ...] = ()

    @property
    def of_heads(self) -> tuple[str, ...]:
        """Linears whose outputs are dimensions of heads."""
        return tuple(dict.fromkeys((self.query, self.key, self.value, *self.positions)))

    @property
    def of_neurons(self) -> tuple[str, ...]:
        """Linears whose outputs are neurons."""
        return (self.ffn_in,) if self.gate is None else (self.ffn_in, self.gate)


@dataclass(frozen=True)
class Anatomy:
    """A model's shape and the dotted names of its parts.

    Args:
        shape: its sizes.
        layers: first to last.
        embeddings: nn.Embedding tables of words and positions; empty where the input is not text.
        head: linears behind the last layer (pooler, classifier).
    """

    shape: ModelShape
    layers: tuple[LayerParts, ...]
    embeddings: tuple[str, ...]
    head: tuple[str, ...]

    @classmethod
    def of(cls, model: PreTrainedModel) -> "Anatomy":
        """Take `model` apart without changing it.

        Raises:
            ModelError: its layers are not six linears each, all layers of equal size.
        """
        attention_class = _recorded_class(model, "attentions")
        layers = tuple(_layer_parts(model, name, attention_class) for name in layer_names(model))
        return cls(_shape(model, layers), layers, tables(model), _head(model, layers))


def layer_names(model: PreTrainedModel) -> tuple[str, ...]:
    """Dotted names of the layers, first to last; of a pruned model, those that stay."""
    return _recorded_modules(model, "hidden_states")


def attention_names(model: PreTrainedModel) -> tuple[str, ...]:
    """Dotted names of the modules that compute self-attention, first to last; of a pruned model, those that stay."""
    return _recorded_modules(model, "attentions")


def labels_words(model: PreTrainedModel) -> bool:
    """Whether it says something of every token, and not of the row."""
    return type(model).__name__.endswith("ForTokenClassification")


def states(output: Any) -> Tensor:
    """What a layer or a block returned, (B, T, hidden), without the attention probabilities behind it."""
    found: Tensor = output[0] if isinstance(output, tuple) else output
    return found


def _recorded_modules(model: PreTrainedModel, output: str) -> tuple[str, ...]:
    recorded = _recorded_class(model, output)
    return tuple(name for name, module in model.named_modules() if type(module) is recorded)


def _recorded_class(model: PreTrainedModel, output: str) -> type[nn.Module]:
    """The module class whose outputs transformers records as `output`; of several the one that the model has."""
    recorded: Any = (model._can_record_outputs or {}).get(output)
    listed = recorded if isinstance(recorded, list | tuple) else [recorded]
    classes = [getattr(each, "target_class", each) for each in listed]
    present = {type(module) for module in model.modules()}
    found = next((each for each in classes if each in present), classes[0])
    if not isinstance(found, type):
        raise ModelError(
            f"{type(model).__name__} does not say which of its modules yields {output} (found {recorded!r}). {_CURE}"
        )
    return found


def _layer_parts(model: PreTrainedModel, name: str, attention_class: type[nn.Module]) -> LayerParts:
    layer = model.get_submodule(name)
    linears = [f"{name}.{inner}" for inner, module in layer.named_modules() if isinstance(module, nn.Linear)]
    attentions = [f"{name}.{inner}" for inner, module in layer.named_modules() if type(module) is attention_class]
    gates = [linear for linear in linears if linear.endswith(_GATE)]
    inside = getattr(model.get_submodule(attentions[0]), "positions", ()) if attentions else ()
    positions = tuple(f"{attentions[0]}.{linear}" for linear in inside)
    first = [linear for linear in linears if linear not in gates]
    six = first[:3] + [linear for linear in first[3:] if linear not in positions]
    if len(six) != 6 or len(gates) > 1 or len(attentions) != 1:
        raise ModelError(
            f"Layer {name} of {type(model).__name__} has {len(linears)} linears ({_listed(name, linears)}) and "
            f"{len(attentions)} self-attention modules, expected 6 (query, key, value, output, FFN in, FFN out) and 1. "
            f"{_CURE}"
        )
    query, key, value = sorted(six[:3], key=lambda name: _ORDER.find(name.rpartition(".")[2][0]))
    output, ffn_in, ffn_out = six[3:]
    return LayerParts(
        name, attentions[0], query, key, value, output, ffn_in, ffn_out, next(iter(gates), None), positions
    )


def _listed(layer: str, linears: Sequence[str]) -> str:
    return ", ".join(linear.removeprefix(f"{layer}.") for linear in linears) or "none"


def _shape(model: PreTrainedModel, layers: tuple[LayerParts, ...]) -> ModelShape:
    config = model.config
    if not layers or len(layers) != config.num_hidden_layers:
        raise ModelError(
            f"{type(model).__name__} has {len(layers)} layer modules, its configuration says "
            f"{config.num_hidden_layers}; layers that share weights cannot be cut apart. {_CURE}"
        )
    heads, hidden = config.num_attention_heads, config.hidden_size
    context = linear(model, layers[0].query).out_features
    ffn = linear(model, layers[0].ffn_in).out_features
    into_ffn = [(hidden, ffn)] * len(layers[0].of_neurons)
    expected = [*[(hidden, context)] * len(layers[0].of_heads), *into_ffn, (context, hidden), (ffn, hidden)]
    for parts in layers:
        found = _widths(model, parts)
        if found != expected or context % heads:
            raise ModelError(
                f"Layer {parts.name} of {type(model).__name__} has linears of (in, out) widths {found}, expected "
                f"{expected} in {heads} equal heads; a pruned model cannot be taken apart again. {_CURE}"
            )
    words = model.get_input_embeddings() if model.main_input_name == "input_ids" else None
    vocab = words.num_embeddings if isinstance(words, nn.Embedding) else 0
    matrices = len(layers[0].of_heads) + 1, len(layers[0].of_neurons) + 1
    return ModelShape(len(layers), heads, context // heads, ffn, hidden, vocab, *matrices)


def _widths(model: PreTrainedModel, parts: LayerParts) -> list[tuple[int, int]]:
    names = (*parts.of_heads, *parts.of_neurons, parts.attention_output, parts.ffn_out)
    return [(linear(model, name).in_features, linear(model, name).out_features) for name in names]


def linear(model: nn.Module, name: str) -> nn.Linear:
    """The linear of that dotted name."""
    module = model.get_submodule(name)
    assert isinstance(module, nn.Linear), f"{name} is a {type(module).__name__}"
    return module


def sharing(model: PreTrainedModel, layers: Sequence[LayerParts]) -> list[list[int]]:
    """Places of layers that have the same weights (ALBERT), group by group; layers of their own are in none."""
    groups: dict[int, list[int]] = {}
    for place, parts in enumerate(layers):
        groups.setdefault(id(linear(model, parts.ffn_in).weight), []).append(place)
    return [places for places in groups.values() if len(places) > 1]


def tables(model: PreTrainedModel) -> tuple[str, ...]:
    """Dotted names of the nn.Embedding tables of words and positions."""
    return tuple(
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Embedding)
        and module.num_embeddings >= SMALLEST_TABLE
        and not name.endswith(_DISTANCES)
    )


def _head(model: PreTrainedModel, layers: tuple[LayerParts, ...]) -> tuple[str, ...]:
    """Linears registered behind the last layer; those before it (ELECTRA's projection) belong to the embeddings."""
    linears = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    return tuple(linears[linears.index(layers[-1].ffn_out) + 1 :])
