"""What the inputs of a linear that stay take over from those that go. Knows moments and matrices; knows no model.

The weights that stay are refitted so that the linear's output on calibration rows changes least: with the second
moments G = sum x x^T of its inputs x (and a constant 1 for the bias), the least of tr(D^T G D) over changes D of the
weights that cancel the rows R is D = -G^-1[:, R] (G^-1[R, R])^-1 W[R] (Hassibi and Stork 1993, Optimal Brain Surgeon,
for groups). No gradient, no label, no retraining.
"""

from collections.abc import Mapping, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve

Doubles: TypeAlias = NDArray[np.float64]
Floats: TypeAlias = NDArray[np.float32]

# By dotted name of a linear whose inputs may go, the inverse (K + 1, K + 1) of its second moments; last comes the bias.
InverseMoments: TypeAlias = Mapping[str, Doubles]

# Added to the moments' diagonal, in shares of its mean: directions that calibration hardly shows stay as they are.
_RIDGE = 1e-3


def inverted(moments: Doubles) -> Doubles:
    """The inverse of second moments (K + 1, K + 1), slightly damped."""
    damped = moments + _RIDGE * np.mean(np.diag(moments)) * np.eye(len(moments))
    inverse: Doubles = cho_solve(cho_factor(damped, lower=True), np.eye(len(moments)))
    return inverse


def compensated(matrix: Floats, bias: Floats, inverse: Doubles, kept: Sequence[int]) -> tuple[Floats, Floats]:
    """The rows `kept` of a linear and its bias, refitted to stand in for all rows.

    Args:
        matrix: (K, N), inputs by outputs.
        bias: (N,).
        inverse: (K + 1, K + 1) of InverseMoments.
        kept: rows that stay, ascending.

    Returns:
        (len(kept), N) and (N,).
    """
    stays = np.append(np.asarray(kept, dtype=np.intp), len(matrix))
    refitted = _refitted(np.concatenate([matrix, bias[None]]), inverse, stays)
    return refitted[:-1], refitted[-1]


def compensated_without_bias(matrix: Floats, inverse: Doubles, kept: Sequence[int]) -> Floats:
    """The same of a linear without a bias: (len(kept), N)."""
    last = inverse[:-1, -1:]
    without = inverse[:-1, :-1] - last @ last.T / inverse[-1, -1]  # the inverse of the moments of the inputs alone
    return _refitted(matrix, without, np.asarray(kept, dtype=np.intp))


def _refitted(weights: Floats, inverse: Doubles, stays: NDArray[np.intp]) -> Floats:
    """The rows `stays` of weights (rows, N), standing in for all of them."""
    gone, whole = np.setdiff1d(np.arange(len(weights)), stays), weights.astype(np.float64)
    share = cho_solve(cho_factor(inverse[np.ix_(gone, gone)], lower=True), whole[gone])  # (gone, N)
    refitted: Floats = (whole[stays] - inverse[np.ix_(stays, gone)] @ share).astype(np.float32)
    return refitted
