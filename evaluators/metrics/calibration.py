"""What a classifier's own probabilities say of its accuracy. Knows logits; knows labels but to fit a temperature."""

import math

import numpy as np
from numpy.typing import NDArray

from evaluators.problems.base import Labels, Outputs

_GOLDEN = (math.sqrt(5) - 1) / 2
_BINS = 15
_COLDEST, _HOTTEST = 0.05, 20.0


def expected_drop(original: Outputs, logits: Outputs, temperature: float = 1.0) -> float:
    """Accuracy lost against the original as the original's own probabilities p expect it, without labels.

    Mean over rows of p[original's class] - p[candidate's class], p = softmax(original / temperature). At most as
    good as the original is calibrated: fit the temperature first.
    """
    p = np.exp(log_softmax(original / temperature))
    rows = np.arange(len(p))
    return float((p[rows, original.argmax(-1)] - p[rows, logits.argmax(-1)]).mean())


def fit_temperature(logits: Outputs, labels: Labels) -> float:
    """The temperature, from 0.05 to 20, under which labels are likeliest (Guo et al. 2017).

    Golden-section search on the logarithm: the negative log likelihood has a single minimum.
    """
    low, high = math.log(_COLDEST), math.log(_HOTTEST)
    while high - low > 1e-4:
        left, right = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
        if _nll(logits, labels, math.exp(left)) < _nll(logits, labels, math.exp(right)):
            high = right
        else:
            low = left
    return math.exp((low + high) / 2)


def calibration_terms(logits: Outputs, labels: Labels) -> NDArray[np.float64]:
    """What each row adds: their mean is the expected calibration error (Guo et al. 2017, equation 3; 15 bins)."""
    p = np.exp(log_softmax(logits))
    apart = p.max(-1) - (p.argmax(-1) == labels)  # (rows,): sure, less right
    bins = np.minimum((p.max(-1) * _BINS).astype(int), _BINS - 1)
    sums = np.bincount(bins, apart, minlength=_BINS)[bins]  # of each row's bin
    return np.asarray(np.sign(sums) * apart)


def log_softmax(logits: Outputs) -> NDArray[np.float64]:
    """Over the last axis, in float64."""
    shifted = logits.astype(np.float64) - logits.max(-1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(-1, keepdims=True)))


def _nll(logits: Outputs, labels: Labels, temperature: float) -> float:
    return -float(log_softmax(logits / temperature)[np.arange(len(labels)), labels].mean())
