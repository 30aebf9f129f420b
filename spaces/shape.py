"""What axes need to know of a model, as integers. Knows no tensors and no model families."""

from dataclasses import dataclass


@dataclass(frozen=True)
class ModelShape:
    """The sizes of an encoder.

    Args:
        layers: transformer layers.
        heads: attention heads in each layer.
        head_size: width of one head.
        ffn: neurons of the feed-forward block in each layer.
        hidden: width of the residual stream.
        vocab: rows of the word embedding; 0 where the input is not text.
    """

    layers: int
    heads: int
    head_size: int
    ffn: int
    hidden: int
    vocab: int
