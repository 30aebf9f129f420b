"""How sure a claim about accuracy is. Knows paired counts and tests; knows nothing of members' figures or files.

Pareto Testing (Laufer-Goldshtein et al., arXiv 2210.07913): few candidates frozen from search data, ordered from safe
to aggressive, each tested on fresh rows, stopping at the first failure. Fixed-sequence testing controls the family-wise
error at the level of one test, without correction.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import NormalDist, fmean, pvariance
from typing import Any, Self

import numpy as np
from scipy.special import bdtr, betaincinv

_NORMAL = NormalDist()
_MOST_CANDIDATES = 10


@dataclass(frozen=True)
class Test:
    """A one-sided test that a drop is at most a margin.

    Args:
        drop: the estimate, positive where the candidate is worse.
        upper: upper confidence bound of the drop, at the test's confidence.
        p_value: of the hypothesis that the drop is the margin or more.
        passes: whether that hypothesis is rejected; the same as `upper` below the margin.
        limit: what the drop is of, `accuracy_drop` or a guard.
    """

    __test__ = False  # not a test case, whatever pytest thinks of its name

    drop: float
    upper: float
    p_value: float
    passes: bool
    limit: str = "accuracy_drop"


@dataclass(frozen=True)
class Candidate:
    """What search data say of a member.

    Args:
        key: the member's.
        drop: on the search rows, as a fraction; against several limits, what the one most in danger is exceeded by.
        cost: what is to be made small (ms, bytes); above 0.
        error: standard error of the drop; where all are 0, the drop alone says who is safe.
    """

    key: str
    drop: float
    cost: float
    error: float = 0.0

    def risk(self, margin: float) -> float:
        """Standard errors from `margin` up to the drop; the lower, the likelier to pass a test against it."""
        return (self.drop - margin) / max(self.error, 1e-9)


@dataclass(frozen=True)
class Certificate:
    """How far a sequence of candidates got.

    Args:
        tests: by key, the tests carried out, in order; those after a failure were never done.
    """

    tests: Mapping[str, Test]

    @property
    def passed(self) -> tuple[str, ...]:
        """Keys of those that hold the limit, all of them together at the stated confidence; safest first."""
        return tuple(key for key, test in self.tests.items() if test.passes)

    @property
    def last_passed(self) -> str | None:
        """The certified pick: the most aggressive one that passed."""
        return self.passed[-1] if self.passed else None

    @property
    def first_failed(self) -> str | None:
        return next((key for key, test in self.tests.items() if not test.passes), None)

    def to_json(self) -> list[dict[str, Any]]:
        return [{"key": key, **asdict(test)} for key, test in self.tests.items()]

    @classmethod
    def from_json(cls, tests: Sequence[Mapping[str, Any]]) -> Self:
        return cls({test["key"]: Test(**{name: test[name] for name in test if name != "key"}) for test in tests})


def score(lost: float, won: float, n: int, margin: float) -> float:
    """Tango's score statistic of H0: drop = margin, small where the drop is below it.

    Args:
        lost: rows that only the baseline has right.
        won: rows that only the candidate has right.
        n: all rows.
        margin: the drop under H0, between -1 and 1.

    The variance is the restricted maximum-likelihood one (Tango, Statistics in Medicine 17, 1998). Half a row is added
    (continuity correction): the exact size, up to 6 % without it at 300 rows and 2 % discordance, then stays below 5 %.
    """
    variance = n * _restricted_variance(lost / n, won / n, margin)
    return (lost - won - n * margin + 0.5) / math.sqrt(variance) if variance > 0 else math.inf


def _restricted_variance(lost: float, won: float, margin: float) -> float:
    """Variance of one row's difference under H0: drop = margin, from the shares of rows lost and won."""
    b = -(lost + won) + margin * (2 - lost + won)
    c = -won * margin * (1 - margin)
    share_won = (math.sqrt(max(b * b - 8 * c, 0.0)) - b) / 4
    return 2 * share_won + margin * (1 - margin)


def non_inferiority(
    base_correct: Iterable[bool], candidate_correct: Iterable[bool], margin: float, confidence: float = 0.95
) -> Test:
    """Whether the candidate's accuracy is less than `margin` below the baseline's.

    Args:
        base_correct, candidate_correct: (n,) booleans, on the same rows.
        margin: drop allowed, as a fraction.
        confidence: one-sided.
    """
    pairs = list(zip(base_correct, candidate_correct, strict=True))
    lost = sum(bool(base and not candidate) for base, candidate in pairs)
    won = sum(bool(candidate and not base) for base, candidate in pairs)
    return non_inferiority_of_counts(lost, won, len(pairs), margin, confidence)


def non_inferiority_of_counts(lost: int, won: int, n: int, margin: float, confidence: float = 0.95) -> Test:
    """`non_inferiority` from the counts of discordant rows; see `score`. The bound inverts the same test."""
    if n < 1:
        raise ValueError(f"n={n}: a test needs rows.")
    if not 0 <= margin < 1:
        raise ValueError(f"margin={margin} is not in [0, 1). Give a drop of accuracy as a fraction.")
    critical = _NORMAL.inv_cdf(confidence)
    drop = (lost - won) / n
    low, high = drop, 1.0
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (low, middle) if score(lost, won, n, middle) < -critical else (middle, high)
    p_value = _NORMAL.cdf(score(lost, won, n, margin))
    return Test(drop, high, p_value, p_value < 1 - confidence)


def non_inferiority_of_losses(
    losses: Iterable[float], margin: float, confidence: float = 0.95, largest: float = 1.0
) -> Test:
    """Whether a metric that is a mean over rows falls by less than `margin`.

    Losses that are all 1, 0 or -1 (accuracy) go through the score test, others through a studentised one, whose size at
    5 % is right to about half a point from 300 rows on.

    Args:
        losses: (n,) what the baseline scores minus what the candidate scores, row by row.
        margin: mean loss allowed, in the metric's unit.
        confidence: one-sided.
        largest: the largest loss of one row; one imagined row of it on each side enters the variance, so that rare
            losses are not taken for none (after Agresti and Min, Statistics in Medicine 24, 2005).
    """
    values = [float(loss) for loss in losses]
    n = len(values)
    if largest == 1.0 and set(values) <= {-1.0, 0.0, 1.0}:
        return non_inferiority_of_counts(values.count(1.0), values.count(-1.0), n, margin, confidence)
    mean = fmean(values)
    error = math.sqrt((pvariance(values, mean) + 2 * largest**2 / n) / n)
    p_value = _student_cdf((mean - margin) / error, n - 1)
    return Test(mean, mean + _student_quantile(confidence, n - 1) * error, p_value, p_value < 1 - confidence)


def share_at_most(count: int, n: int, margin: float, confidence: float = 0.95) -> Test:
    """Whether less than `margin` of all rows are such as `count` of `n` are: the exact binomial test.

    Its upper bound is the one of Clopper and Pearson (Biometrika 26, 1934).

    Args:
        count: rows.
        n: all rows.
        margin: share allowed.
        confidence: one-sided.
    """
    if n < 1:
        raise ValueError(f"n={n}: a test needs rows.")
    upper = 1.0 if count == n else float(betaincinv(count + 1, n - count, confidence))
    p_value = float(bdtr(count, n, min(margin, 1.0)))
    return Test(count / n, upper, p_value, p_value < 1 - confidence)


def all_of(tests: Sequence[Test]) -> Test:
    """Whether every one of several claims holds: each test at its own level, as none may fail.

    The hypothesis that any limit is exceeded is rejected where each is (intersection-union test; Berger, Technometrics
    24, 1982), so nothing is corrected. The one that is least sure speaks for all.
    """
    return max(tests, key=lambda test: (not test.passes, test.p_value))


def sequence(candidates: Sequence[Candidate], margin: float, most: int = _MOST_CANDIDATES) -> tuple[str, ...]:
    """Which members to test, in which order: from the safest to the most aggressive, each cheaper than the one before.

    Safe is who stands most standard errors below the margin on search rows (the order of p-values, as in Pareto
    Testing), not who has the smallest drop: a lucky drop over many discordant rows fails and ends the sequence. Members
    whose drop already exceeds the margin are left out, as are those that another one beats in both risk and cost; where
    more than `most` remain, the most crowded in log cost go, never an end.

    Args:
        candidates: figures from search data only.
        margin: drop allowed, as a fraction.
        most: length of the sequence; every further step is one more chance to stop early.

    Returns:
        Keys; empty without candidates, the safest alone if all of them exceed the margin.
    """
    ordered = sorted(candidates, key=lambda candidate: (candidate.risk(margin), candidate.cost, candidate.key))
    plausible = [candidate for candidate in ordered if candidate.drop <= margin] or ordered[:1]
    path: list[Candidate] = []
    for candidate in plausible:
        if not path or candidate.cost < path[-1].cost:
            path.append(candidate)
    while len(path) > most:
        gaps = [math.log(path[i - 1].cost / path[i + 1].cost) for i in range(1, len(path) - 1)]
        del path[1 + gaps.index(min(gaps))]
    return tuple(candidate.key for candidate in path)


def certify(order: Sequence[str], test: Callable[[str], Test]) -> Certificate:
    """Test the members of `order` one after the other on fresh rows, up to the first failure.

    Args:
        order: keys, fixed before these rows were seen (`sequence`).
        test: tests one member on confirm against the limit, at the confidence of the certificate.
    """
    tests: dict[str, Test] = {}
    for key in order:
        tests[key] = test(key)
        if not tests[key].passes:
            break
    return Certificate(tests)


def rows_needed(
    drop: float, discordance: float, margin: float, confidence: float = 0.95, power: float = 0.8
) -> int | None:
    """How many rows `non_inferiority` would need to certify a member.

    Args:
        drop: its true drop, as far as known.
        discordance: share of rows on which exactly one of the two is right.
        margin: drop allowed.
        confidence: of the test, one-sided.
        power: chance that the test then passes.

    Returns:
        Rows (Nam, Biometrics 53, 1997, with the continuity correction of `score`); None if the drop is the margin or
        more. At a drop of 0 and 7 % discordance 4,477 for 1 point and 17,561 for half a point, and 6,153 and 24,238 at
        a power of 0.9.
    """
    distance = margin - drop
    if distance <= 0:
        return None
    share = max(discordance, abs(drop))
    under_null = math.sqrt(_restricted_variance((share + drop) / 2, (share - drop) / 2, margin))
    spread = _NORMAL.inv_cdf(confidence) * under_null + _NORMAL.inv_cdf(power) * math.sqrt(share - drop**2)
    return math.ceil(((spread + math.sqrt(spread**2 + 2 * distance)) / (2 * distance)) ** 2)


def rows_needed_for_share(share: float, margin: float, confidence: float = 0.95, power: float = 0.8) -> int | None:
    """How many rows `share_at_most` would need to pass with a chance of `power`; None if `share` is the margin or more.

    With no such row at all 299 certify 1 % at 95 % confidence, and at a share of half a percent 2,185 do.
    """
    if share >= margin:
        return None

    def enough(n: int) -> bool:
        counts = np.arange(math.ceil(n * margin) + 1)
        passing = counts[bdtr(counts, n, margin) < 1 - confidence]
        return len(passing) > 0 and float(bdtr(passing[-1], n, share)) >= power

    return _first(enough)


def _first(enough: Callable[[int], bool]) -> int:
    """The least number that is enough, where larger ones nearly always are."""
    low, high = 0, 1
    while not enough(high):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def _student_cdf(t: float, freedom: int) -> float:
    """Student's distribution function (Abramowitz and Stegun 26.7.8; to 1e-3 from 10 degrees of freedom on)."""
    return _NORMAL.cdf(t * (1 - 1 / (4 * freedom)) / math.sqrt(1 + t**2 / (2 * freedom)))


def _student_quantile(probability: float, freedom: int) -> float:
    """The inverse of `_student_cdf`."""
    z = _NORMAL.inv_cdf(probability)
    return z / math.sqrt((1 - 1 / (4 * freedom)) ** 2 - z**2 / (2 * freedom))
