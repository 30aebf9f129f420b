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
        head_matrices: of each layer that have dimensions of heads: query, key, value, output, and further ones.
        neuron_matrices: of each layer that have neurons: the first, the second, and a gate where there is one.
    """

    layers: int
    heads: int
    head_size: int
    ffn: int
    hidden: int
    vocab: int
    head_matrices: int = 4
    neuron_matrices: int = 2

    @property
    def head_weights(self) -> int:
        """Of a head: its columns of query, key and value, and its rows of the output."""
        return self.head_matrices * self.hidden * self.head_size

    @property
    def neuron_weights(self) -> int:
        """Of a neuron: its column of the first matrix of the feed-forward block, of the gate if any, and its row of the
        second."""
        return self.neuron_matrices * self.hidden
