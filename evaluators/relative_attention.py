"""DeBERTa's attention, for any number of heads. Knows its linears and distances; knows no layers and no cuts."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

# Linears that distances go through where tokens do not go through the same ones.
DISTANCE_PROJECTIONS = ("pos_query_proj", "pos_key_proj")


class RelativeAttention(nn.Module):
    """Disentangled self-attention: tokens look for tokens, tokens for distances and distances for tokens.

    He et al. 2020, "DeBERTa: Decoding-enhanced BERT with Disentangled Attention" (arXiv 2006.03654). It computes what
    `DisentangledSelfAttention` of transformers' DeBERTa-v2 computes, whose linears it takes under the same names.

    Args:
        module: the one of transformers.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        taken: Any = module
        self.head_size: int = taken.attention_head_size
        self.query_proj, self.key_proj, self.value_proj = taken.query_proj, taken.key_proj, taken.value_proj
        self.dropout = taken.dropout
        kinds = taken.pos_att_type if taken.relative_attention else []
        # Names of the linears that distances go through: where tokens look for them, and where they look for tokens.
        self.position_key = ("key_proj" if taken.share_att_key else DISTANCE_PROJECTIONS[1]) if "c2p" in kinds else None
        self.position_query = (
            ("query_proj" if taken.share_att_key else DISTANCE_PROJECTIONS[0]) if "p2c" in kinds else None
        )
        self.factor = 1 + len(self.positions)
        if self.positions:
            self.span: int = taken.pos_ebd_size
            self.pos_dropout = taken.pos_dropout
            for name in self.positions:
                setattr(self, name, getattr(taken, name))

    @property
    def positions(self) -> tuple[str, ...]:
        """Names of the linears that distances go through."""
        return tuple(name for name in (self.position_query, self.position_key) if name is not None)

    def forward(
        self,
        hidden_states: Tensor,
        attention_mask: Tensor,
        output_attentions: bool = True,
        query_states: Tensor | None = None,
        relative_pos: Tensor | None = None,
        rel_embeddings: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Context (B, T, heads * head_size), and probabilities (B, heads, T, T).

        Args:
            hidden_states: (B, T, hidden).
            attention_mask: (B, 1, T, T), 0 where a token is not to be seen.
            output_attentions: as transformers calls it; probabilities come in any case.
            query_states: what queries are made of, if not of the same; (B, T, hidden).
            relative_pos: distances of queries to keys in buckets, (1, T, T).
            rel_embeddings: of the buckets, (2 * span, hidden).
        """
        query = self._heads(self.query_proj(hidden_states if query_states is None else query_states))
        key, value = self._heads(self.key_proj(hidden_states)), self._heads(self.value_proj(hidden_states))
        content = query @ key.transpose(-1, -2)  # (B, heads, T, T)
        scores = content
        if self.positions:
            assert relative_pos is not None
            assert rel_embeddings is not None
            for found in self._of_distances(query, key, content, relative_pos, rel_embeddings):
                scores = scores + found
        scores = scores * (self.head_size * self.factor) ** -0.5
        scores = scores.masked_fill(~attention_mask.bool(), torch.finfo(scores.dtype).min)
        probabilities = self.dropout(scores.softmax(-1))
        context = (probabilities @ value).transpose(1, 2)
        return context.reshape(*context.shape[:-2], -1), probabilities

    def _of_distances(
        self, query: Tensor, key: Tensor, content: Tensor, relative: Tensor, embeddings: Tensor
    ) -> Iterator[Tensor]:
        """What is added to the unscaled scores of content, all (B, heads, T, T)."""
        buckets = self.pos_dropout(embeddings)[None, : 2 * self.span]  # (1, 2 * span, hidden)
        for name in self.positions:
            projected = self._heads(self.get_submodule(name)(buckets)).transpose(-1, -2)  # (1, heads, head_size, ...)
            if name == self.position_query:
                yield self._picked(key @ projected, -relative, content).transpose(-1, -2)
            else:
                yield self._picked(query @ projected, relative, content)

    def _picked(self, scores: Tensor, relative: Tensor, like: Tensor) -> Tensor:
        """Of scores per bucket (B, heads, T, 2 * span), those of the distances, in the shape of `like`."""
        places = (relative + self.span).clamp(0, 2 * self.span - 1)[:, None]  # (1, 1, T, T)
        return scores.gather(-1, places.expand_as(like))

    def _heads(self, projected: Tensor) -> Tensor:
        """(B, T, heads * head_size) to (B, heads, T, head_size)."""
        return projected.view(*projected.shape[:-1], -1, self.head_size).transpose(1, 2)
