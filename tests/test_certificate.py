"""Certificates hold what they say: exact sizes by enumeration, and whole runs on members with known drops."""

import math
from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from search.certificate import (
    Candidate,
    Certificate,
    Test,
    certify,
    non_inferiority,
    non_inferiority_of_counts,
    non_inferiority_of_losses,
    rows_needed,
    score,
    sequence,
)

ROWS = 1500
MARGIN = 0.01
REPETITIONS = 2000
# True drops and discordances of a front's members, from safe and slow to aggressive and fast.
DROPS = np.array([0.0, 0.002, 0.004, 0.006, 0.008, 0.0095, 0.0105, 0.012, 0.014, 0.017, 0.022, 0.03])
DISCORDANCE = 0.01 + 3.2 * DROPS
COSTS = np.geomspace(4.0, 0.5, len(DROPS))


def _exact_size(n: int, margin: float, discordance: float) -> float:
    """Chance of passing when the drop is the margin, summed over all outcomes that matter."""
    lost_share, won_share = (discordance + margin) / 2, (discordance - margin) / 2
    most = int(n * lost_share + 8 * math.sqrt(n * lost_share)) + 5
    size = 0.0
    for won in range(most):
        chance_won = stats.binom.pmf(won, n, won_share)
        chances = stats.binom.pmf(np.arange(most), n - won, lost_share / (1 - won_share))
        rejected = [score(lost, won, n, margin) < -1.6448536 for lost in range(most)]
        size += float(chance_won * chances[np.array(rejected)].sum())
    return size


class TestScore:
    @pytest.mark.parametrize(
        ("lost", "won", "n", "margin"), [(20, 15, 500, 0.01), (3, 0, 300, 0.02), (0, 9, 400, 0.005)]
    )
    def test_its_variance_is_the_likelihoods(self, lost: int, won: int, n: int, margin: float) -> None:
        share_won = np.linspace(1e-12, (1 - margin) / 2, 1_000_001)[:-1]
        concordant = 1 - 2 * share_won - margin
        likelihood = lost * np.log(share_won + margin) + won * np.log(share_won) + (n - lost - won) * np.log(concordant)
        best = float(share_won[likelihood.argmax()])
        expected = (lost - won - n * margin + 0.5) / math.sqrt(n * (2 * best + margin - margin**2))
        assert score(lost, won, n, margin) == pytest.approx(expected, abs=1e-4)

    def test_without_a_margin_it_is_mcnemars(self) -> None:
        assert score(10, 30, 500, 0.0) == pytest.approx((10 - 30 + 0.5) / math.sqrt(10 + 30))

    @pytest.mark.parametrize("n", [300, 1500])
    @pytest.mark.parametrize("discordance", [0.02, 0.05, 0.1])
    @pytest.mark.parametrize("margin", [0.005, 0.01, 0.02])
    def test_its_exact_size_never_exceeds_the_level(self, n: int, discordance: float, margin: float) -> None:
        assert _exact_size(n, margin, discordance) <= 0.05


class TestNonInferiority:
    def test_answers_and_counts_agree(self) -> None:
        base = np.array([True] * 90 + [False] * 10)
        candidate = base.copy()
        candidate[:3], candidate[95] = False, True
        assert non_inferiority(base, candidate, 0.05) == non_inferiority_of_counts(3, 1, 100, 0.05)

    def test_the_bound_inverts_the_test(self) -> None:
        test = non_inferiority_of_counts(12, 10, 1500, 0.01)
        assert non_inferiority_of_counts(12, 10, 1500, test.upper + 1e-6).passes
        assert not non_inferiority_of_counts(12, 10, 1500, test.upper - 1e-6).passes
        assert test.drop == pytest.approx(2 / 1500)

    def test_equal_answers_pass_given_rows_enough(self) -> None:
        assert non_inferiority_of_counts(0, 0, 1500, 0.01).passes
        assert not non_inferiority_of_counts(0, 0, 100, 0.01).passes
        assert not non_inferiority_of_counts(0, 0, 1500, 0.0).passes

    def test_rows_must_pair(self) -> None:
        with pytest.raises(ValueError, match="shorter"):
            non_inferiority([True, False], [True], 0.01)

    def test_a_margin_is_a_fraction(self) -> None:
        with pytest.raises(ValueError, match=r"not in \[0, 1\)"):
            non_inferiority_of_counts(3, 2, 100, 1.0)


class TestLosses:
    def test_it_is_students_where_differences_are_many(self) -> None:
        values = np.random.default_rng(0).normal(0.0, 0.2, size=4000)
        expected = stats.ttest_1samp(values, 0.01, alternative="less").pvalue
        assert non_inferiority_of_losses(values, 0.01, largest=0.0).p_value == pytest.approx(expected, abs=1e-4)

    def test_the_bound_inverts_the_test(self) -> None:
        values = np.random.default_rng(1).normal(0.0, 0.2, size=400)
        upper = non_inferiority_of_losses(values, 0.01).upper
        assert non_inferiority_of_losses(values, upper).p_value == pytest.approx(0.05, abs=1e-9)

    def test_rare_losses_are_not_taken_for_none(self) -> None:
        rare = [0.5, -0.5]
        assert not non_inferiority_of_losses([*rare, *[0.0] * 98], 0.01).passes
        assert non_inferiority_of_losses([*rare, *[0.0] * 1498], 0.01).passes

    def test_answers_go_through_the_score_test(self) -> None:
        losses = np.repeat([1.0, -1.0, 0.0], [30, 26, 1444])
        assert non_inferiority_of_losses(losses, 0.01) == non_inferiority_of_counts(30, 26, 1500, 0.01)

    def test_both_tests_say_much_the_same_of_answers(self) -> None:
        losses = np.repeat([1.0, -1.0, 0.0], [30, 26, 1444])
        studentised = non_inferiority_of_losses(losses * 0.999, 0.01)
        assert studentised.p_value == pytest.approx(non_inferiority_of_losses(losses, 0.01).p_value, abs=0.02)


class TestSequence:
    def test_from_safe_to_aggressive_and_ever_cheaper(self) -> None:
        given = [
            Candidate("c", 0.006, 1.0),
            Candidate("a", 0.0, 4.0),
            Candidate("beaten", 0.007, 3.0),
            Candidate("b", 0.002, 2.0),
        ]
        assert sequence(given, MARGIN) == ("a", "b", "c")

    def test_a_lucky_drop_over_many_discordant_rows_is_not_safe(self) -> None:
        lucky, sure = Candidate("lucky", -0.002, 1.0, error=0.008), Candidate("sure", 0.001, 4.0, error=0.002)
        assert sequence([lucky, sure], MARGIN) == ("sure", "lucky")

    def test_hopeless_ones_take_no_place(self) -> None:
        assert sequence([Candidate("a", 0.0, 4.0), Candidate("b", 0.011, 1.0)], MARGIN) == ("a",)

    def test_the_safest_alone_if_all_are_hopeless(self) -> None:
        assert sequence([Candidate("a", 0.03, 4.0), Candidate("b", 0.02, 9.0)], MARGIN) == ("b",)

    def test_ties_go_to_the_cheaper_then_to_the_key(self) -> None:
        assert sequence([Candidate("b", 0.0, 2.0), Candidate("a", 0.0, 2.0), Candidate("c", 0.0, 3.0)], MARGIN) == (
            "a",
        )

    def test_at_most_ten_and_both_ends_among_them(self) -> None:
        given = [Candidate(f"{i:02}", i * 1e-4, 8.0 * 0.97**i) for i in range(40)]
        order = sequence(given, MARGIN)
        assert (len(order), order[0], order[-1]) == (10, "00", "39")
        steps = np.diff([int(key) for key in order])
        assert steps.min() >= 2
        assert steps.max() <= 8

    def test_of_nothing_nothing(self) -> None:
        assert sequence([], MARGIN) == ()


class TestCertify:
    def test_it_stops_at_the_first_failure(self) -> None:
        asked: list[str] = []

        def test(key: str) -> Test:
            asked.append(key)
            return Test(0.0, 0.0, 0.0, passes=key != "b")

        certificate = certify(["a", "b", "c"], test)
        assert asked == ["a", "b"]
        assert (certificate.passed, certificate.last_passed, certificate.first_failed) == (("a",), "a", "b")
        assert Certificate.from_json(certificate.to_json()) == certificate

    def test_of_nothing_nothing(self) -> None:
        certificate = certify([], lambda key: Test(0.0, 0.0, 0.0, True))
        assert (certificate.passed, certificate.last_passed, certificate.first_failed) == ((), None, None)


class TestRowsNeeded:
    def test_known_values(self) -> None:
        assert rows_needed(0.0, 0.07, 0.01) == pytest.approx(4500, rel=0.01)
        assert rows_needed(0.0, 0.07, 0.005) == pytest.approx(17_500, rel=0.01)
        assert rows_needed(0.0, 0.07, 0.005, power=0.9) == pytest.approx(24_000, rel=0.02)

    def test_no_number_of_rows_certifies_what_is_not_so(self) -> None:
        assert rows_needed(0.01, 0.07, 0.01) is None

    @pytest.mark.parametrize("drop", [0.0, 0.003])
    def test_the_promised_power_is_reached(self, drop: float) -> None:
        rows = rows_needed(drop, 0.04, 0.01)
        assert rows is not None
        shares = [(0.04 + drop) / 2, (0.04 - drop) / 2, 0.96]
        counts = np.random.default_rng(0).multinomial(rows, shares, size=REPETITIONS)
        power = np.mean([non_inferiority_of_counts(int(b), int(c), rows, 0.01).passes for b, c, _ in counts])
        assert power == pytest.approx(0.8, abs=0.03)


def _counts(rng: np.random.Generator, shared: bool) -> NDArray[np.int64]:
    """Rows lost and won per repetition and member: (R, M, 2).

    Args:
        rng: source of chance.
        shared: whether each member errs where the safer ones do and on further rows (all are cut from one model), or on
            rows of its own.
    """
    lost, won = (DISCORDANCE + DROPS) / 2, (DISCORDANCE - DROPS) / 2
    if not shared:
        return np.stack(
            [rng.multinomial(ROWS, [a, b, 1 - a - b], size=REPETITIONS)[:, :2] for a, b in zip(lost, won, strict=True)],
            axis=1,
        )
    steps = np.concatenate([np.diff(lost, prepend=0.0), np.diff(won, prepend=0.0)])
    drawn = rng.multinomial(ROWS, [*steps, 1 - steps.sum()], size=REPETITIONS)[:, :-1]
    members = len(DROPS)
    return np.stack([drawn[:, :members].cumsum(axis=1), drawn[:, members:].cumsum(axis=1)], axis=2)


def _certified(search: NDArray[np.int64], confirm: NDArray[np.int64]) -> int | None:
    """Index of the member that one run certifies: (M, 2) counts on either split."""
    drops = (search[:, 0] - search[:, 1]) / ROWS
    errors = np.sqrt(search.sum(axis=1) / ROWS - drops**2) / math.sqrt(ROWS)
    figures = zip(map(str, range(len(DROPS))), drops.tolist(), COSTS.tolist(), errors.tolist(), strict=True)
    order = sequence([Candidate(*each) for each in figures], MARGIN)

    def test(key: str) -> Test:
        lost, won = confirm[int(key)]
        return non_inferiority_of_counts(int(lost), int(won), ROWS, MARGIN)

    last = certify(order, test).last_passed
    return None if last is None else int(last)


def _violations(picked: Sequence[int | None]) -> float:
    """Share of runs whose pick has a true drop above the limit."""
    return float(np.mean([pick is not None and DROPS[pick] > MARGIN for pick in picked]))


class TestWholeRuns:
    """2,000 runs over members with known drops: what is chosen on search rows, certified on confirm rows."""

    @pytest.mark.parametrize("shared", [True, False], ids=["shared errors", "independent errors"])
    def test_certified_picks_keep_the_limit_and_point_estimates_do_not(self, shared: bool) -> None:
        rng = np.random.default_rng(0)
        search, confirm = _counts(rng, shared), _counts(rng, shared)
        certified = [_certified(search[i], confirm[i]) for i in range(REPETITIONS)]
        within = (confirm[..., 0] - confirm[..., 1]) / ROWS <= MARGIN  # (R, M)
        by_point_estimate = [int(np.flatnonzero(row)[-1]) if row.any() else None for row in within]
        assert _violations(certified) <= 0.05
        assert _violations(by_point_estimate) > 0.4
        assert np.mean([pick is not None for pick in certified]) > 0.6

    def test_ten_members_all_at_the_margin(self) -> None:
        rng = np.random.default_rng(1)
        counts = rng.multinomial(ROWS, [0.04, 0.03, 0.93], size=(REPETITIONS, 10))
        order = [str(i) for i in range(10)]

        def any_passes(run: NDArray[np.int64]) -> bool:
            def test(key: str) -> Test:
                return non_inferiority_of_counts(int(run[int(key), 0]), int(run[int(key), 1]), ROWS, MARGIN)

            return bool(certify(order, test).passed)

        assert np.mean([any_passes(run) for run in counts]) <= 0.05
