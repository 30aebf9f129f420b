"""Bands of input length, to tell latency on short texts from that on long ones. Knows lengths; times nothing."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

# So many, about equally full, where the lengths differ enough.
_WANTED = 4


@dataclass(frozen=True)
class Stretch:
    """Calls of like length.

    Args:
        tokens: the shortest and the longest length that belong to it.
        calls: their places among all calls.
    """

    tokens: tuple[int, int]
    calls: tuple[int, ...]


def stretches(lengths: Sequence[int]) -> list[Stretch]:
    """Bands without gaps from the shortest to the longest of the lengths; one length is never in two of them.

    A band ends where the share of calls up to it is nearest to a quarter, a half or three quarters. Where many calls
    have one length, as those cut at the longest one have, bands are fewer or less equally full.
    """
    if not lengths:
        return []
    values, counts = np.unique(np.asarray(lengths, dtype=int), return_counts=True)
    ends = counts.cumsum()[:-1]  # calls up to each place where one may end: not behind the last length
    asked = [len(lengths) * part / _WANTED for part in range(1, _WANTED)] if len(ends) else []
    last = [int(values[place]) for place in sorted({int(np.abs(ends - calls).argmin()) for calls in asked})]
    bounds = zip([int(values[0]), *(end + 1 for end in last)], [*last, int(values[-1])], strict=True)
    return [
        Stretch((low, high), tuple(call for call, length in enumerate(lengths) if low <= length <= high))
        for low, high in bounds
    ]
