"""One of several classes per word of a row: names, parts of speech. Knows scores of classes; knows no models."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from evaluators.problems.base import Function, Label, Labels, Outputs, Predictions, Summed, share

if TYPE_CHECKING:
    from torch import Tensor

# Stands where a row has no such word, or nobody labelled it; as in the field.
IGNORED = -100
OF_WORDS = "token-classification"
OUTSIDE = "O"  # the class of words that belong to no entity
_BEGIN, _INSIDE = "B-", "I-"


@dataclass(frozen=True)
class TokenClassification:
    """Outputs (rows, words, classes), those of each word's first token, 0 where a row has no such word; labels
    (rows, words) are class indices, IGNORED where there is none.

    Args:
        classes: their names; those of entities are `B-kind` at their first word and `I-kind` at the others, any other
            name than `O` is an entity of one word.
        words: of the longest row; further ones are not told apart.
    """

    classes: tuple[str, ...]
    words: int
    name: str = OF_WORDS
    problem_type: None = None

    @classmethod
    def reading(cls, texts: Sequence[object], classes: Sequence[str]) -> Self:
        """For texts that nobody labelled."""
        return cls(tuple(classes), max((len(str(text).split()) for text in texts), default=1))

    @property
    def metrics(self) -> Mapping[str, Function]:
        """`f1` is of entities, which are right where kind, first and last word are (Tjong Kim Sang and De Meulder 2003,
        section 2.2), and 1 where there are none and none are found; `accuracy` of labelled words."""
        return {"f1": Summed(self._found, partial(share, nothing=1.0)), "accuracy": Summed(_right, share)}

    def predictions(self, outputs: Outputs) -> Predictions:
        return np.asarray(outputs.argmax(-1))

    def alike(self, one: Outputs, other: Outputs) -> NDArray[np.bool_]:
        """Whether all words are answered the same."""
        return np.asarray((one.argmax(-1) == other.argmax(-1)).all(-1))

    def losses(self, outputs: "Tensor", labels: "Tensor") -> "Tensor":
        """Mean over a row's labelled words of the cross-entropy."""
        known = labels >= 0
        of_label = outputs.log_softmax(-1).gather(-1, labels.clamp(min=0)[..., None])[..., 0]
        return -of_label.where(known, 0.0).sum(-1) / known.sum(-1).clamp(min=1)

    def divergences(self, original: "Tensor", outputs: "Tensor", temperature: float = 1.0) -> "Tensor":
        """Mean over a row's words of the Kullback-Leibler divergence of softmaxes at a temperature, by its square."""
        p, q = ((logits / temperature).log_softmax(-1) for logits in (original, outputs))
        words = (original != 0).any(-1)
        each = (p.exp() * (p - q)).sum(-1).where(words, 0.0)
        return temperature**2 * each.sum(-1) / words.sum(-1).clamp(min=1)

    def drawn(self, outputs: Outputs, rng: np.random.Generator) -> Labels:
        found = (outputs + rng.gumbel(size=outputs.shape)).argmax(-1)
        return np.where((outputs != 0).any(-1), found, IGNORED)

    def labelled(self, labels: Any) -> Any:
        return (labels >= 0).any(-1)

    def unlabelled(self, like: Label) -> Label:
        return (IGNORED,) * self.words

    def _found(self, labels: Labels, predictions: Predictions) -> NDArray[np.float64]:
        """Per row, twice the entities that are found, and those there and those said."""
        named = labels >= 0
        true, said = (self._entities(np.where(named, each, -1)) for each in (labels, predictions))
        both, entities = (true > 0) & (true == said), (true > 0) * 1 + (said > 0)
        return np.stack([2 * both.sum(-1), entities.sum(-1)], -1).astype(np.float64)

    def _entities(self, classes: NDArray[Any]) -> NDArray[np.int64]:
        """Where an entity begins, a number that stands for its kind and length; 0 elsewhere. As conlleval, an `I-`
        behind anything but its own kind begins an entity, too."""
        kinds, begins = self._kinds()
        kind, begin = kinds[classes], begins[classes]  # (rows, words); class -1 is outside
        before = np.pad(kind[:, :-1], ((0, 0), (1, 0)))
        first = (kind > 0) & (begin | (before != kind))
        number = first.cumsum().reshape(kind.shape) * (kind > 0)  # of the entity, from 1; 0 outside
        lengths = np.bincount(number.ravel(), minlength=number.max(initial=0) + 1)
        return np.where(first, kind * (classes.shape[1] + 1) + lengths[number], 0)

    def _kinds(self) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """By class the number of its kind, 0 outside, and whether it begins an entity; at -1 outside."""
        parted = [name.removeprefix(_BEGIN).removeprefix(_INSIDE) for name in self.classes]
        numbers = {kind: place for place, kind in enumerate(dict.fromkeys(parted), start=1) if kind != OUTSIDE}
        kinds = [numbers.get(kind, 0) for kind in parted]
        begins = [not name.startswith(_INSIDE) for name in self.classes]
        return np.array([*kinds, 0]), np.array([*begins, False])


def _right(labels: Labels, predictions: Predictions) -> NDArray[np.float64]:
    """Per row, labelled words predicted right, and all of them."""
    named = labels >= 0
    return np.stack([(named & (labels == predictions)).sum(-1), named.sum(-1)], -1).astype(np.float64)


def order(name: str) -> tuple[int, str, str]:
    """Of classes: outside first, then by kind, its beginning before its inside."""
    kind = name.removeprefix(_BEGIN).removeprefix(_INSIDE)
    return int(name != OUTSIDE), kind, name
