"""A vector per row, as near as possible to the original's: nobody labels those. Knows vectors; knows no models."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from evaluators.problems.base import Function, Label, Labels, Outputs, Predictions, mean_of

if TYPE_CHECKING:
    from torch import Tensor

# Cosine above which two vectors are the same answer.
_SAME = 0.999


def _cosines(one: NDArray[Any], other: NDArray[Any]) -> NDArray[np.float64]:
    """Per row, in double precision."""
    left, right = one.astype(np.float64), other.astype(np.float64)
    lengths = np.linalg.norm(left, axis=-1) * np.linalg.norm(right, axis=-1)
    return np.asarray((left * right).sum(-1) / np.maximum(lengths, 1e-12))


# Mean over rows.
cosine = mean_of(_cosines)


def similarity(labels: Labels, predictions: Predictions) -> float:
    """Correlation of the cosines between neighbouring rows: whether the same texts are near each other."""
    theirs, own = (_cosines(vectors[:-1], vectors[1:]) for vectors in (labels, predictions))
    return float(np.corrcoef(theirs, own)[0, 1]) if theirs.std() > 0 and own.std() > 0 else 0.0


@dataclass(frozen=True)
class Embeddings:
    """Outputs (rows, width), vectors of any length; labels (rows, width) are the original's."""

    name: str = "embeddings"
    problem_type: str = "embeddings"
    words: ClassVar[int] = 0

    @property
    def metrics(self) -> Mapping[str, Function]:
        return {"cosine": cosine, "similarity": similarity}

    def predictions(self, outputs: Outputs) -> Predictions:
        return np.asarray(outputs.astype(np.float64))

    def alike(self, one: Outputs, other: Outputs) -> NDArray[np.bool_]:
        """Whether their cosine is above 0.999."""
        return _cosines(one, other) > _SAME

    def losses(self, outputs: "Tensor", labels: "Tensor") -> "Tensor":
        """Half the squared distance; of vectors of length 1, one minus their cosine."""
        return (outputs - labels.to(outputs.dtype)).square().sum(-1) / 2

    def divergences(self, original: "Tensor", outputs: "Tensor", temperature: float = 1.0) -> "Tensor":
        """One minus the cosine: Kullback-Leibler between normal distributions around the two, of variance 1, where
        vectors have length 1."""
        unit = [each / each.norm(dim=-1, keepdim=True).clamp(min=1e-12) for each in (original, outputs)]
        distances: Tensor = (unit[0] - unit[1]).square().sum(-1)
        return distances / 2

    def drawn(self, outputs: Outputs, rng: np.random.Generator) -> Labels:
        return np.asarray(outputs + rng.normal(size=outputs.shape))

    def labelled(self, labels: Any) -> Any:
        return labels[:, 0] == labels[:, 0]  # what is no number is not equal to itself

    def unlabelled(self, like: Label) -> Label:
        raise ValueError("Embeddings are never labelled.")


EMBEDDINGS = Embeddings()
