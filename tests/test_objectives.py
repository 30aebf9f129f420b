"""Signs, units, limits and outcomes against their definitions."""

import math
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spaces.errors import LimitError
from spaces.objectives import ACCURACY, KL, LATENCY, SIZE, Bound, Complete, Evaluation, Failed, Limit, Stopped

FAIR = {"latency": 5.0, "size": 91_000_000.0, "accuracy": 0.86}


@pytest.mark.parametrize("objective", [KL, LATENCY, SIZE, ACCURACY])
@given(a=st.floats(-1e9, 1e9), b=st.floats(-1e9, 1e9))
def test_the_better_value_costs_less(objective: object, a: float, b: float) -> None:
    assert isinstance(objective, type(KL))
    better, worse = sorted((a, b)) if objective.goal == "min" else sorted((a, b), reverse=True)
    assert objective.cost(better) <= objective.cost(worse)
    assert abs(objective.cost(a)) == abs(a)


class TestLimit:
    @pytest.mark.parametrize(
        ("name", "text", "at_most", "unit"),
        [
            ("latency", "5ms", 5.0, "ms"),
            ("latency", " 0.5 ms ", 0.5, "ms"),
            ("latency", "250us", 0.25, "ms"),
            ("latency", "250µs", 0.25, "ms"),
            ("latency", "1.5s", 1500.0, "ms"),
            ("latency", "40%", 2.0, "ms"),
            ("size", "20MB", 20e6, "bytes"),
            ("size", "20mb", 20e6, "bytes"),
            ("size", "20MiB", 20 * 2**20, "bytes"),
            ("size", "1e3kB", 1e6, "bytes"),
            ("size", "500b", 500.0, "bytes"),
            ("size", "30%", 27_300_000.0, "bytes"),
            ("accuracy_drop", "1pt", 0.01, "fraction"),
            ("accuracy_drop", "0pt", 0.0, "fraction"),
            ("accuracy_drop", "1%", 0.0086, "fraction"),
        ],
    )
    def test_resolves_to_one_unit(self, name: str, text: str, at_most: float, unit: str) -> None:
        bound = Limit.parse(name, text).resolve(FAIR)
        assert (bound.name, bound.unit) == (name, unit)
        assert bound.at_most == pytest.approx(at_most)

    @pytest.mark.parametrize(
        ("name", "text"),
        [
            ("latency", "5"),
            ("latency", "5MB"),
            ("latency", "5pt"),
            ("latency", "fast"),
            ("latency", ""),
            ("latency", "5 ms 3"),
            ("latency", "1,5ms"),
            ("size", "20ms"),
            ("size", "20"),
            ("size", "MB"),
            ("accuracy_drop", "0.01"),
            ("accuracy_drop", "1ms"),
        ],
    )
    def test_a_unit_of_something_else_or_none_is_refused_with_an_example(self, name: str, text: str) -> None:
        with pytest.raises(LimitError, match=r"has no known unit. Write .* or \d+%"):
            Limit.parse(name, text)

    @pytest.mark.parametrize(
        ("name", "text"),
        [("latency", "0ms"), ("latency", "-5ms"), ("size", "0%"), ("accuracy_drop", "-1pt"), ("size", "1e999MB")],
    )
    def test_a_limit_that_no_model_can_meet_is_refused(self, name: str, text: str) -> None:
        with pytest.raises(LimitError, match="can never be met"):
            Limit.parse(name, text)

    @pytest.mark.parametrize("name", ["latency", "size", "accuracy_drop"])
    @given(tenths=st.integers(1, 9999))
    def test_the_written_form_reads_back(self, name: str, tenths: int) -> None:
        units = {"latency": ("us", "ms", "s", "%"), "size": ("B", "KB", "MB", "GiB", "%"), "accuracy_drop": ("pt", "%")}
        for unit in units[name]:
            limit = Limit.parse(name, f"{tenths / 10}{unit}")
            assert limit.asked == f"{tenths / 10:g}{unit}"
            assert Limit.parse(name, limit.asked) == limit
            assert limit.resolve(FAIR).asked == limit.asked

    def test_the_statistic_is_carried_along(self) -> None:
        assert Limit.parse("latency", "5ms").resolve(FAIR).statistic == "mean"
        assert Limit.parse("latency", "5ms", "p95").resolve(FAIR).statistic == "p95"


class TestBound:
    @given(st.floats(1e-3, 1e9), st.floats(0, 1e9))
    def test_the_excess_is_positive_exactly_when_the_limit_is_broken(self, at_most: float, value: float) -> None:
        bound = Bound("size", at_most, "")
        assert (bound.excess(value) > 0) == (value > at_most)

    def test_the_excess_is_relative_and_defined_at_zero(self) -> None:
        assert Bound("latency", 4.0, "4ms").excess(5.0) == pytest.approx(0.25)
        assert Bound("accuracy_drop", 0.0, "0pt").excess(0.01) == pytest.approx(0.01)


class TestOutcomes:
    @pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
    def test_a_complete_evaluation_is_finite(self, value: float) -> None:
        with pytest.raises(ValueError, match=r"latency=.* is not finite; such an evaluation is Failed"):
            Complete({"latency": value})
        with pytest.raises(ValueError, match=r"accuracy=.* is not finite"):
            Complete({"latency": 1.0}, {"accuracy": value})

    def test_evaluations_pickle(self) -> None:
        for outcome in (Complete({"kl": 0.1}, {"n": 5.0}), Stopped("slow", {"kl": 0.3}, 64), Failed("worker", "died")):
            evaluation = Evaluation("k", outcome, 1.5, 2.5, "here", 2, b"npz")
            assert pickle.loads(pickle.dumps(evaluation)) == evaluation
            assert "npz" not in repr(evaluation)
