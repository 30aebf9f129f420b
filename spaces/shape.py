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
        gated: whether every neuron has a second column, whose output scales it.
    """

    layers: int
    heads: int
    head_size: int
    ffn: int
    hidden: int
    vocab: int
    gated: bool = False

    @property
    def head_weights(self) -> int:
        """Of a head: its columns of query, key and value, and its rows of the output."""
        return 4 * self.hidden * self.head_size

    @property
    def neuron_weights(self) -> int:
        """Of a neuron: its column of the first matrix of the feed-forward block, of the gate if any, and its row of the
        second."""
        return (3 if self.gated else 2) * self.hidden
