"""A Gaussian process from a design's features to one figure. Knows numbers; knows nothing of designs or objectives."""

import warnings
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, Kernel, Matern, WhiteKernel

Vector: TypeAlias = NDArray[np.float64]

# Length scales, variances and noise are fitted anew when there are so many times as many observations.
_MORE = 1.2


class Surrogate:
    """A function that is continuous but not smooth, for what a first guess leaves over.

    Amplitude and noise are kept within bounds, in shares of what was observed: seeds that hardly differ would otherwise
    make it sure of what it has not seen.
    """

    def __init__(self) -> None:
        self._kernel: Kernel = ConstantKernel(0.5, (0.1, 4.0)) * Matern(1.0, (0.3, 10.0), nu=1.5) + WhiteKernel(
            0.1, (0.02, 1.0)
        )
        self._fitted_to = 0
        self._centre = self._spread = np.zeros(0)

    def fit(self, features: Vector, values: Vector) -> None:
        """Learn from observations.

        Args:
            features: (observations, features).
            values: (observations,).
        """
        self._centre, spread = features.mean(0), features.std(0)
        self._spread = np.where(spread > 1e-9, spread, 1.0) * np.sqrt(features.shape[1])
        anew = len(values) >= _MORE * self._fitted_to
        self._process = GaussianProcessRegressor(
            self._kernel, optimizer="fmin_l_bfgs_b" if anew else None, normalize_y=True
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # a variance at its bound is as good as gone
            self._process.fit(self._scaled(features), values)
        if anew:
            self._kernel, self._fitted_to = self._process.kernel_, len(values)

    def predict(self, features: Vector) -> tuple[Vector, Vector]:
        """Mean and standard deviation, (n,) each, of what would be observed at (n, features)."""
        mean, deviation = self._process.predict(self._scaled(features), return_std=True)
        return mean, deviation

    def _scaled(self, features: Vector) -> Vector:
        scaled: Vector = (features - self._centre) / self._spread
        return scaled
