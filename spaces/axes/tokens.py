"""A number of tokens, the first of a ranking, as an axis. Knows one knob; knows nothing of what the tokens are for."""

from collections.abc import Mapping, Sequence

from spaces.knobs import Choice, Knob, Scalar
from spaces.shape import ModelShape


class TokensAxis:
    """All tokens of a model, or one of some smaller numbers of them.

    Args:
        knob: its name; the size of the model's vocabulary stands for all.
        shape: the model's sizes.
        sizes: numbers besides all; larger ones are left out.
    """

    def __init__(self, knob: str, shape: ModelShape, sizes: Sequence[int]) -> None:
        smaller = sorted({size for size in sizes if size < shape.vocab}, reverse=True)
        self._knob, self._sizes = knob, (shape.vocab, *smaller)
        self.knobs: Mapping[str, Knob] = {knob: Choice(self._sizes)}

    def count(self, knobs: Mapping[str, Scalar]) -> int | None:
        """The number; None: all, also where the knob is absent."""
        size = int(knobs.get(self._knob, self._sizes[0]))
        return None if size == self._sizes[0] else size

    def ladder(self) -> list[dict[str, Scalar]]:
        """Every number, all first."""
        return [{self._knob: size} for size in self._sizes]

    def neutral(self) -> dict[str, Scalar]:
        """The knob of all."""
        return {self._knob: self._sizes[0]}

    def extremes(self) -> dict[str, dict[str, Scalar]]:
        """The designs at the ends of the axis, by name."""
        return {"whole": self.neutral(), "smallest": {self._knob: self._sizes[-1]}}
