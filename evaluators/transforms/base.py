"""build(config, model): what each compression family does to a torch model. Knows the dispatch; knows no slicing."""

from functools import singledispatch

from transformers import PreTrainedModel

from spaces.axes.quantization import Quantization
from spaces.design import Config, Member
from spaces.errors import ModelError


@singledispatch
def build(config: Config, model: PreTrainedModel) -> PreTrainedModel:
    """The model that `config` makes of `model`, which stays as it was.

    Raises:
        ModelError: torch cannot execute this config.
    """
    raise ModelError(
        f"torch cannot build {type(config).__name__}. Leave its axis out of the space, or use another runtime."
    )


@build.register
def build_quantized(config: Quantization, model: PreTrainedModel) -> PreTrainedModel:
    """`model` itself at 32 bits, the only width torch executes here."""
    blocks = [
        bits
        for layer in config.layers
        if layer is not None
        for bits in (layer.attention, layer.ffn)
        if bits is not None
    ]
    widths = {*blocks, config.embeddings, config.head}
    if widths != {32}:
        raise ModelError(
            f"The torch runtime executes 32 bits only, found {sorted(widths)}. Use runtime onnxruntime, or bits: [32]."
        )
    return model


def apply(member: Member, model: PreTrainedModel) -> PreTrainedModel:
    """The model that `member` makes of `model`: its configs one after the other. `model` stays as it was."""
    for config in member.configs:
        model = build(config, model)
    return model
