"""Rows filled up to one length, as users do it who have read no further. Knows arrays; knows no models."""

from dataclasses import replace
from typing import Any

import numpy as np

from evaluators.tasks.base import Encoded


def padded(rows: Encoded, length: int) -> Encoded:
    """The same rows, each of `length` tokens, which none exceeds; what was filled in is masked."""
    return replace(
        rows,
        inputs=tuple(
            {
                name: np.pad(values, (0, length - len(values)), constant_values=rows.pad_id * (name == "input_ids"))
                for name, values in row.items()
            }
            for row in rows.inputs
        ),
    )


def longest_input(tokenizer: Any, config: Any, max_length: int) -> int:
    """The length that inputs are filled up to: what was asked for, or less where the model takes no more."""
    return min(max_length, int(tokenizer.model_max_length), int(config.max_position_embeddings))
