"""The contract of a problem: what outputs predict, what they cost. Knows arrays; knows no models and no data."""

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:  # processes that time a model read rows, and few of them need torch
    from torch import Tensor

Outputs: TypeAlias = NDArray[np.floating[Any]]  # (rows, ...), a model's `logits`, as Encoded.outputs puts them together
Labels: TypeAlias = NDArray[Any]  # (rows, ...)
Predictions: TypeAlias = NDArray[Any]  # (rows, ...), comparable with labels
Label: TypeAlias = int | float | tuple[int, ...]  # of one row, in plain numbers
# Of labels and predictions; larger is better.
Function: TypeAlias = Callable[[Labels, Predictions], float]


@dataclass(frozen=True)
class Summed:
    """A metric that is made of sums over rows, so that any selection of rows costs no more than sums.

    Args:
        terms: of labels and predictions, what each row adds, (rows, K).
        figure: of such sums (..., K), the metric (...).
    """

    terms: Callable[[Labels, Predictions], NDArray[np.float64]]
    figure: Callable[[NDArray[np.float64]], NDArray[np.float64]]

    def __call__(self, labels: Labels, predictions: Predictions) -> float:
        return float(self.figure(self.terms(labels, predictions).sum(0)))


def mean_of(values: Callable[[Labels, Predictions], NDArray[Any]]) -> Summed:
    """A metric that is the mean over rows of what `values` says of each, (rows,)."""

    def terms(labels: Labels, predictions: Predictions) -> NDArray[np.float64]:
        found = values(labels, predictions).astype(np.float64)
        return np.stack([found, np.ones(len(found))], axis=-1)

    return Summed(terms, share)


def share(sums: NDArray[np.float64], nothing: float = 0.0) -> NDArray[np.float64]:
    """Of sums (..., 2), the first as a part of the second; `nothing` where there is none."""
    of = sums[..., 1]
    return np.asarray(np.where(of > 0, sums[..., 0] / np.where(of > 0, of, 1), nothing))


class Problem(Hashable, Protocol):
    """What a model's outputs mean. A value: it pickles.

    Attributes:
        name: as in `task.problem`.
        problem_type: what `transformers` calls it, if it has a name for it.
        words: of the longest row, where each of a row's words is spoken of; 0 where rows are.
        metrics: by name, of labels and predictions; the first one is the default.
    """

    @property
    def name(self) -> str: ...

    @property
    def problem_type(self) -> str | None: ...

    @property
    def words(self) -> int: ...

    @property
    def metrics(self) -> Mapping[str, Function]: ...

    def predictions(self, outputs: Outputs) -> Predictions:
        """What a model says about each row."""
        ...

    def alike(self, one: Outputs, other: Outputs) -> NDArray[np.bool_]:
        """Per row, whether two models say the same, (rows,)."""
        ...

    def losses(self, outputs: "Tensor", labels: "Tensor") -> "Tensor":
        """Per row what training makes small, (rows,)."""
        ...

    def divergences(self, original: "Tensor", outputs: "Tensor", temperature: float = 1.0) -> "Tensor":
        """Per row how far a model's answer is from the original's, (rows,), in nats; 0 where they are equal."""
        ...

    def drawn(self, outputs: Outputs, rng: np.random.Generator) -> Labels:
        """Labels as likely as a model says they are, (rows, ...)."""
        ...

    def labelled(self, labels: Any) -> Any:
        """Which rows have a label, (rows,), of arrays and tensors alike."""
        ...

    def unlabelled(self, like: Label) -> Label:
        """Stands where a row has no label, of the shape of another row's."""
        ...


def row_losses(problem: Problem, outputs: Outputs, labels: Labels) -> NDArray[np.float64]:
    """`problem.losses` of arrays, in double precision."""
    import torch

    found: NDArray[np.float64] = problem.losses(_doubles(outputs), torch.from_numpy(labels)).numpy()
    return found


def row_divergences(problem: Problem, original: Outputs, outputs: Outputs) -> NDArray[np.float64]:
    """`problem.divergences` of arrays, in double precision."""
    found: NDArray[np.float64] = problem.divergences(_doubles(original), _doubles(outputs)).numpy()
    return found


def mean_divergence(problem: Problem, original: Outputs, outputs: Outputs) -> float:
    """Mean of `row_divergences`; never below 0, as rounding might have it."""
    return max(0.0, float(row_divergences(problem, original, outputs).mean()))


def agreement(problem: Problem, one: Outputs, other: Outputs) -> float:
    """Share of the rows on which two models say the same."""
    return float(problem.alike(one, other).mean())


def collapsed(problem: Problem, outputs: Outputs) -> bool:
    """Whether every row gets the same answer."""
    return len(np.unique(problem.predictions(outputs), axis=0)) == 1


def _doubles(outputs: Outputs) -> "Tensor":
    import torch

    return torch.from_numpy(outputs.astype(np.float64))
